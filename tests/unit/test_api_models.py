"""Reading and writing what travels through the API server, and conditions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    condition,
    drop_condition,
    find_condition,
    set_condition,
)
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.reasons import HINTS, Reason, hint
from storagemirror.api.sides import Side
from storagemirror.api.status import MirrorPairStatus, Phase, Problem, VolumeStatus, lag_text
from storagemirror.contract import TargetPolicy
from storagemirror.errors import BadInput

THEN, NOW = "2026-01-02T03:04:05Z", "2026-01-02T03:05:00Z"


def given_pair(**spec: Any) -> dict[str, Any]:
    volume = {"name": "data", "source": {"claimName": "a"}, "target": {"claimName": "b"}}
    return {"metadata": {"name": "orders", "resourceVersion": "7"}, "spec": {"volumes": [volume], **spec}}


def ready(status: ConditionStatus, reason: Reason, now: str, message: str = "") -> Condition:
    return condition(ConditionType.READY, status, reason, message, generation=2, now=now)


class TestAPair:
    def test_what_the_api_server_gives_is_read(self) -> None:
        pair = MirrorPair.read(given_pair(mirror={"target": "Adopt", "maxDeletePercent": 10}))
        assert (pair.metadata.resource_version, pair.spec.volumes[0].target.claim_name) == ("7", "b")
        assert (pair.spec.mirror.target, pair.spec.mirror.max_delete_percent) == (TargetPolicy.ADOPT, 10)
        assert pair.status == MirrorPairStatus()

    def test_what_a_later_release_added_is_passed_over(self) -> None:
        pair = MirrorPair.read(given_pair(drills=[{"name": "orders"}]))
        assert "drills" not in pair.spec.dump()

    def test_what_does_not_fit_is_named(self) -> None:
        with pytest.raises(BadInput, match=r"spec\.mirror\.maxDeletePercent.*less than or equal to 100"):
            MirrorPair.read(given_pair(mirror={"maxDeletePercent": 101}))

    @pytest.mark.parametrize(("given_size", "read"), [(5, "5"), ("5Gi", "5Gi"), ("0.5Gi", "0.5Gi")])
    def test_a_quantity_may_be_a_number(self, given_size: object, read: str) -> None:
        body = given_pair()
        body["spec"]["volumes"][0]["target"]["claimTemplate"] = {"resources": {"requests": {"storage": given_size}}}
        template = MirrorPair.read(body).spec.volumes[0].target.claim_template
        assert template is not None
        assert template.resources.requests.storage == read

    def test_true_is_not_a_quantity(self) -> None:
        with pytest.raises(BadInput, match=r"limits\.cpu"):
            MirrorPair.read(given_pair(agents={"resources": {"limits": {"cpu": True}}}))

    def test_resources_keep_the_names_that_pods_use(self) -> None:
        body = given_pair(agents={"resources": {"limits": {"ephemeral-storage": "1Gi"}}})
        assert MirrorPair.read(body).spec.agents.resources.limits.dump()["ephemeral-storage"] == "1Gi"


class TestAStatus:
    def test_it_comes_back_as_it_was_written(self) -> None:
        status = MirrorPairStatus(
            observed_generation=2,
            phase=Phase.REPLICATING,
            active_side=Side.SOURCE,
            epoch=1,
            lag_seconds=0,
            lag=lag_text(0),
            conditions=(ready(ConditionStatus.TRUE, Reason.REPLICATING, NOW),),
            volumes=(VolumeStatus(name="data", phase=Phase.REPLICATING, synced_through=NOW),),
        )
        assert MirrorPairStatus.read(status.dump()) == status

    def test_what_is_not_known_is_left_out_and_never_zero(self) -> None:
        assert "lagSeconds" not in VolumeStatus(name="data").dump()
        assert VolumeStatus(name="data", lag_seconds=0).dump()["lagSeconds"] == 0

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(None, None), (0, "0s"), (59, "59s"), (60, "1m00s"), (3661, "1h01m"), (90000, "1d1h")],
    )
    def test_lag_is_written_for_people(self, seconds: int | None, text: str | None) -> None:
        assert lag_text(seconds) == text


class TestWhatAgentsSay:
    def test_a_message_that_is_too_long_is_cut_and_does_not_stop_the_status(self) -> None:
        problem = Problem(reason="R" * 1000, message="m" * 10_000, hint="h" * 10_000)
        assert (len(problem.reason), len(problem.message), len(problem.hint)) == (256, 4096, 4096)
        assert len(ready(ConditionStatus.FALSE, Reason.FAILED, NOW, "m" * 10_000).message) == 4096

    @pytest.mark.parametrize("word", ["", "no word", "Größe", "x" * 300, "<script>"])
    def test_what_cannot_be_a_reason_is_told_in_the_message(self, word: str) -> None:
        found = condition(ConditionType.READY, ConditionStatus.FALSE, word, "It stopped.", generation=1, now=NOW)
        assert found.reason == "Unknown"
        assert repr(word[:256]) in found.message


class TestConditions:
    def test_a_new_one_is_added_at_the_end(self) -> None:
        first = ready(ConditionStatus.TRUE, Reason.REPLICATING, THEN)
        second = condition(ConditionType.HELD, ConditionStatus.FALSE, Reason.NOTHING_HELD, "", generation=2, now=NOW)
        assert set_condition((first,), second) == (first, second)

    def test_its_time_moves_when_the_status_flips(self) -> None:
        was = (ready(ConditionStatus.FALSE, Reason.MIRRORING, THEN),)
        (found,) = set_condition(was, ready(ConditionStatus.TRUE, Reason.REPLICATING, NOW))
        assert (found.status, found.last_transition_time) == (ConditionStatus.TRUE, NOW)

    def test_its_time_stays_when_only_reason_and_message_change(self) -> None:
        was = (ready(ConditionStatus.FALSE, Reason.MIRRORING, THEN, "10 %"),)
        (found,) = set_condition(was, ready(ConditionStatus.FALSE, Reason.DISCONNECTED, NOW, "no route"))
        assert (found.reason, found.last_transition_time) == ("Disconnected", THEN)

    @given(st.lists(st.tuples(st.sampled_from(list(ConditionType)), st.sampled_from(list(ConditionStatus)))))
    def test_setting_the_same_again_later_changes_nothing(
        self, steps: list[tuple[ConditionType, ConditionStatus]]
    ) -> None:
        held: tuple[Condition, ...] = ()
        for kind, status in steps:
            held = set_condition(held, condition(kind, status, Reason.UNKNOWN, "m", generation=1, now=THEN))
        again = held
        for kind, status in dict(steps).items():
            again = set_condition(again, condition(kind, status, Reason.UNKNOWN, "m", generation=1, now=NOW))
        assert again == held
        assert len({c.type for c in held}) == len(held)

    def test_one_is_found_and_dropped_by_its_type(self) -> None:
        held = (ready(ConditionStatus.TRUE, Reason.REPLICATING, NOW),)
        assert find_condition(held, ConditionType.READY) == held[0]
        assert find_condition(held, ConditionType.STALLED) is None
        assert drop_condition(held, ConditionType.READY) == ()

    def test_a_bad_status_says_what_to_do(self) -> None:
        message = ready(ConditionStatus.FALSE, Reason.TARGET_FULL, NOW, "No space left on orders-standby.").message
        assert message.startswith("No space left on orders-standby. Grow the target claim")

    def test_a_good_status_gives_no_advice(self) -> None:
        assert ready(ConditionStatus.TRUE, Reason.TARGET_FULL, NOW, "fine").message == "fine"

    @pytest.mark.parametrize("kind", [ConditionType.STALLED, ConditionType.HELD])
    def test_where_true_is_bad_true_says_what_to_do(self, kind: ConditionType) -> None:
        bad = condition(kind, ConditionStatus.TRUE, Reason.MASS_DELETE, "Stopped.", generation=1, now=NOW)
        good = condition(kind, ConditionStatus.FALSE, Reason.MASS_DELETE, "Fine.", generation=1, now=NOW)
        assert ("spec.mirror.confirm" in bad.message, good.message) == (True, "Fine.")

    def test_advice_is_not_given_twice(self) -> None:
        text = hint(Reason.PAUSED)
        assert ready(ConditionStatus.FALSE, Reason.PAUSED, NOW, text).message == text


class TestReasons:
    def test_every_reason_fits_the_pattern_of_a_condition(self) -> None:
        for reason in Reason:
            assert ready(ConditionStatus.TRUE, reason, NOW).reason == reason.value

    def test_every_hint_is_a_sentence(self) -> None:
        assert [r for r, text in HINTS.items() if not text.endswith(".") or not text[0].isupper()] == []

    def test_an_unknown_word_has_no_hint(self) -> None:
        assert hint("SomethingOfALaterRelease") == ""
