"""What is read and written of restores: the Restore itself, and the operation of a pair that carries it out."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.api.claims import RestoreTo
from storagemirror.api.operation import (
    ENDED,
    Account,
    CutOver,
    Diverged,
    Mode,
    Operation,
    OperationKind,
    OperationPhase,
)
from storagemirror.api.restore import Restore, RestoreStatus
from storagemirror.api.sides import Side
from storagemirror.api.status import MirrorPairStatus, NotKept
from storagemirror.errors import BadInput

NOW = "2026-01-02T03:05:00Z"


def given_restore(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "home", "uid": "u"}, "spec": {"pairName": "orders", **spec}}


def diverged(*first: str, volume: str = "data") -> Diverged:
    path = ".storagemirror/diverged/2"
    return Diverged(volume=volume, epoch=2, path=path, entries=3, bytes=4, deleted=1, first=first, at=NOW)


class TestASide:
    @pytest.mark.parametrize("side", list(Side))
    def test_across_from_the_one_across_is_the_side_itself(self, side: Side) -> None:
        assert side.other is not side
        assert side.other.other is side

    def test_across_from_the_source_is_the_target(self) -> None:
        assert (Side.SOURCE.other, Side.TARGET.other) == (Side.TARGET, Side.SOURCE)


class TestARestore:
    def test_in_two_lines_it_brings_the_application_home_by_itself(self) -> None:
        spec = Restore.read(given_restore(fromEpoch=2)).spec
        assert (spec.from_epoch, spec.to, spec.cut_over, spec.approved) == (2, None, CutOver.AUTOMATIC, False)

    def test_where_else_is_read_with_its_templates(self) -> None:
        template = {"resources": {"requests": {"storage": "1Gi"}}}
        to = {"volumes": [{"name": "data", "claimName": "seen", "claimTemplate": template}]}
        spec = Restore.read(given_restore(to=to)).spec
        assert spec.to is not None
        (volume,) = spec.to.volumes
        assert (volume.name, volume.claim_name) == ("data", "seen")
        assert volume.claim_template is not None
        assert volume.claim_template.resources.requests.storage == "1Gi"
        assert spec.from_epoch is None

    @pytest.mark.parametrize(
        ("given", "named"),
        [
            ({"fromEpoch": 0}, r"spec\.fromEpoch"),
            ({"fromEpoch": 2, "cutOver": "Later"}, r"spec\.cutOver"),
            ({"to": {"volumes": []}}, r"spec\.to\.volumes"),
            ({"to": {"volumes": [{"name": "data"}]}}, r"spec\.to\.volumes\.0\.claimName"),
        ],
        ids=["before the first epoch", "a cut-over that is none", "nowhere", "a volume without a claim"],
    )
    def test_what_does_not_fit_is_named(self, given: dict[str, Any], named: str) -> None:
        with pytest.raises(BadInput, match=named):
            Restore.read(given_restore(**given))

    @pytest.mark.parametrize("phase", list(OperationPhase))
    def test_it_has_ended_in_the_phases_that_are_for_ever(self, phase: OperationPhase) -> None:
        assert RestoreStatus(phase=phase).ended == (phase in ENDED)

    def test_it_shows_all_that_is_told_of_its_operation(self) -> None:
        assert set(Account.model_fields) <= set(RestoreStatus.model_fields)
        told = Account(
            phase=OperationPhase.PROVING, diverged=(diverged("a"),), sent_bytes=7, whole_on=(Side.TARGET,)
        ).dump()
        assert RestoreStatus.read(told).dump() == RestoreStatus().dump() | told

    def test_what_is_not_known_is_left_out_and_never_zero(self) -> None:
        assert {"sentBytes", "rtoSeconds", "rpoSeconds", "epoch"} & RestoreStatus().dump().keys() == set()
        assert RestoreStatus(sent_bytes=0).dump()["sentBytes"] == 0


def operation(**more: Any) -> Operation:
    given = {"kind": OperationKind.RESTORE, "name": "home", "mode": Mode.PLANNED, "from_epoch": 2, **more}
    return Operation(**given)


class TestItsOperation:
    def test_it_is_homeward_or_elsewhere_and_a_failover_is_neither(self) -> None:
        to = (RestoreTo(name="data", claim_name="seen"),)
        found = [operation(), operation(to=to), operation(kind=OperationKind.FAILOVER)]
        assert [(o.homeward, o.elsewhere) for o in found] == [(True, False), (False, True), (False, False)]

    def test_one_of_an_earlier_release_is_a_failover(self) -> None:
        stored = {"name": "now", "mode": "Planned", "fromEpoch": 1, "phase": "Fencing"}
        assert Operation.read(stored).kind is OperationKind.FAILOVER

    def test_it_comes_back_as_it_was_written(self) -> None:
        status = MirrorPairStatus(
            active_side=Side.TARGET,
            epoch=2,
            closed_sides=(Side.SOURCE,),
            operation=operation(
                phase=OperationPhase.AWAITING_CUT_OVER,
                cut_over=CutOver.MANUAL,
                diverged=(diverged("a"),),
                sent_bytes=9,
                whole_on=(Side.SOURCE, Side.TARGET),
            ),
        )
        assert MirrorPairStatus.read(status.dump()) == status


def test_a_name_that_is_very_long_is_cut_and_does_not_stop_the_status() -> None:
    long = "n" * 4096
    assert diverged(long, "short").first == (long[:256], "short")
    assert NotKept(kind="Owner", count=1, first=(long,)).first == (long[:256],)
