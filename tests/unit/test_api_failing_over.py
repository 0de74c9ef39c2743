"""What is read and written of failovers: durations, sides, the operation of a pair, the Failover that shows it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.api.durations import seconds
from storagemirror.api.failover import Failover, FailoverStatus
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.operation import ENDED, FENCED, HARMLESS, Account, Mode, Operation, OperationPhase
from storagemirror.api.sides import Approval, ProofGrade, ServiceStrategy, Side, WorkloadKind
from storagemirror.api.status import MirrorPairStatus, Writer
from storagemirror.errors import BadInput

NOW = "2026-01-02T03:05:00Z"


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("0s", 0.0), ("500ms", 0.5), ("30s", 30.0), ("1m30s", 90.0), ("1.5h", 5400.0), ("1h1m1s1ms", 3661.001)],
    )
    def test_they_are_read_as_kubernetes_writes_them(self, text: str, value: float) -> None:
        assert seconds(text) == pytest.approx(value)

    @pytest.mark.parametrize("text", ["", "5", "s", "-1s", "1 s", "1d", "1s,", ".5s", "1s\n"])
    def test_what_is_none_is_refused(self, text: str) -> None:
        with pytest.raises(BadInput, match="expected a duration such as 30s"):
            seconds(text)

    @given(st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["ms", "s", "m", "h"])), min_size=1, max_size=4))
    def test_they_are_the_sum_of_their_parts(self, parts: list[tuple[int, str]]) -> None:
        whole = "".join(f"{n}{unit}" for n, unit in parts)
        assert seconds(whole) == pytest.approx(sum(seconds(f"{n}{unit}") for n, unit in parts))


def given_pair(**spec: Any) -> dict[str, Any]:
    volume = {"name": "data", "source": {"claimName": "a"}, "target": {"claimName": "b"}}
    return {"metadata": {"name": "orders"}, "spec": {"volumes": [volume], **spec}}


class TestAPair:
    def test_without_sides_nobody_fails_over_to_it(self) -> None:
        pair = MirrorPair.read(given_pair())
        assert (pair.spec.sides, pair.spec.services) == (None, ())
        assert (pair.spec.failover.approval, pair.spec.failover.sufficient_proof) == (
            Approval.MANUAL,
            (ProofGrade.PROVEN,),
        )

    def test_its_sides_and_services_are_read(self) -> None:
        sides = {
            "source": {"workloads": [{"kind": "StatefulSet", "name": "db"}]},
            "target": {"workloads": [{"kind": "Deployment", "name": "standby", "replicas": 2}]},
        }
        services = [{"name": "db", "ports": [{"port": 5432}]}, {"name": "own", "strategy": "Label"}]
        spec = MirrorPair.read(given_pair(sides=sides, services=services)).spec
        assert spec.sides is not None
        (standby,) = spec.sides.target.workloads
        assert (standby.kind, standby.name, standby.replicas) == (WorkloadKind.DEPLOYMENT, "standby", 2)
        assert [s.strategy for s in spec.services] == [ServiceStrategy.MANAGED, ServiceStrategy.LABEL]
        assert spec.dump()["sides"] == sides

    def test_a_side_that_lost_its_workloads_is_named(self) -> None:
        with pytest.raises(BadInput, match=r"spec\.sides\.target"):
            MirrorPair.read(given_pair(sides={"source": {"workloads": [{"kind": "Deployment", "name": "a"}]}}))


class TestAnOperation:
    @pytest.mark.parametrize("phase", list(OperationPhase))
    def test_it_is_open_until_it_has_ended(self, phase: OperationPhase) -> None:
        operation = Operation(phase=phase, name="f", mode=Mode.PLANNED, from_epoch=1)
        assert operation.open == (phase not in ENDED)

    def test_no_phase_is_both_harmless_and_fenced_and_an_end_is_neither(self) -> None:
        assert HARMLESS & FENCED == HARMLESS & ENDED == FENCED & ENDED == frozenset()
        forward = set(OperationPhase) - HARMLESS - FENCED - ENDED
        assert forward == {OperationPhase.SWITCHING, OperationPhase.VERIFYING}

    def test_it_comes_back_as_it_was_written(self) -> None:
        status = MirrorPairStatus(
            attempt=2,
            closed_sides=(Side.SOURCE, Side.TARGET),
            writers=(Writer(uid="u", name="db-0", side=Side.SOURCE, since=NOW),),
            operation=Operation(attempt=2, phase=OperationPhase.FENCING, name="f", mode=Mode.UNPLANNED, from_epoch=1),
        )
        assert MirrorPairStatus.read(status.dump()) == status

    def test_the_failover_shows_all_that_is_told_of_it(self) -> None:
        assert set(Account.model_fields) <= set(FailoverStatus.model_fields)
        told = Account(attempt=3, phase=OperationPhase.COMPLETED, rto_seconds=40, rpo_seconds=0).dump()
        assert FailoverStatus.read(told).dump() == FailoverStatus().dump() | told


class TestAFailover:
    def test_what_the_api_server_gives_is_read(self) -> None:
        spec = {"pairName": "orders", "fromEpoch": 4, "mode": "Unplanned", "acceptLoss": {"seconds": 9}}
        failover = Failover.read({"metadata": {"name": "now", "uid": "u"}, "spec": spec})
        assert (failover.spec.mode, failover.spec.from_epoch, failover.spec.approved) == (Mode.UNPLANNED, 4, False)
        assert failover.spec.accept_loss is not None
        assert (failover.spec.accept_loss.seconds, failover.spec.accept_loss.unknown) == (9, False)
        assert not failover.status.ended

    def test_it_never_runs_without_an_epoch(self) -> None:
        with pytest.raises(BadInput, match="fromEpoch"):
            Failover.read({"metadata": {"name": "now"}, "spec": {"pairName": "orders"}})

    @pytest.mark.parametrize("phase", list(OperationPhase))
    def test_it_has_ended_in_the_phases_that_are_for_ever(self, phase: OperationPhase) -> None:
        assert FailoverStatus(phase=phase).ended == (phase in ENDED)

    def test_what_is_not_known_is_left_out_and_never_zero(self) -> None:
        assert {"rpoSeconds", "lagSeconds", "rtoSeconds", "epoch"} & FailoverStatus().dump().keys() == set()
        assert FailoverStatus(rpo_seconds=0).dump()["rpoSeconds"] == 0
