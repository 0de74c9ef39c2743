"""When a volume is verified, what is remembered of it, and what people are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.api.mirrorpair import MirrorPair, MirrorPairSpec
from storagemirror.api.operation import Mode, Operation, OperationPhase
from storagemirror.api.verify import Verify, VerifyStatus
from storagemirror.contract import Phase, Report, Role, Verification, VerifyOrder
from storagemirror.errors import BadInput
from storagemirror.plan.schedules import next_time, seconds_left
from storagemirror.plan.times import read, written
from storagemirror.plan.verifying import due, schedule_of, verify_of, verify_status
from tests.support.world import KEY, World

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NIGHTLY = Verify(schedule="30 2 * * *")


def done(run: str, **more: Any) -> Report:
    given = {"instance": 1, "epoch": 1, "revision": 1, "phase": Phase.REPLICATING}
    return Report(verification=Verification(run=run, at="2026-03-11T03:00:00Z", **more), **given)  # type: ignore[arg-type]


def at(status: VerifyStatus | None) -> datetime:
    assert status is not None
    found = read(status.next_time)
    assert found is not None
    return found


# -- the rule


def test_a_schedule_that_is_new_waits_for_its_next_time() -> None:
    status = verify_status(NIGHTLY, None, None, NOON)
    assert at(status) == datetime(2026, 3, 11, 2, 30, tzinfo=UTC)
    assert status is not None
    assert due(NIGHTLY, status, NOON) is None
    assert seconds_left(status.next_time, NOON) == 14.5 * 3600


def test_a_run_is_due_until_the_agent_has_reported_just_it() -> None:
    status = verify_status(NIGHTLY, None, None, NOON)
    assert status is not None
    night = at(status) + timedelta(minutes=5)
    run = due(NIGHTLY, status, night)
    assert run == "schedule:2026-03-11T02:30:00Z"
    assert verify_status(NIGHTLY, status, None, night) == status, "it stands"
    assert verify_status(NIGHTLY, status, done("schedule:of another night"), night) == status
    after = verify_status(NIGHTLY, status, done(run, files=7, differing=1, first=("a",)), night)
    assert after is not None
    assert (after.files, after.differing, after.first) == (7, 1, ("a",))
    assert at(after) == datetime(2026, 3, 12, 2, 30, tzinfo=UTC)
    assert due(NIGHTLY, after, night) is None


def test_runs_that_were_missed_are_done_once() -> None:
    status = verify_status(NIGHTLY, None, None, NOON)
    assert status is not None
    week_later = NOON + timedelta(days=7)
    run = due(NIGHTLY, status, week_later)
    assert run is not None
    after = verify_status(NIGHTLY, status, done(run), week_later)
    assert after is not None
    assert due(NIGHTLY, after, week_later) is None
    assert at(after) == datetime(2026, 3, 18, 2, 30, tzinfo=UTC)


def test_a_schedule_that_is_changed_counts_from_now() -> None:
    status = verify_status(NIGHTLY, None, None, NOON)
    weekly = Verify(schedule="0 5 * * 0")
    assert at(verify_status(weekly, status, None, NOON)) == datetime(2026, 3, 15, 5, 0, tzinfo=UTC)
    assert at(verify_status(NIGHTLY, status, None, NOON)) == at(status), "unchanged, it stays"


def test_a_request_is_done_once_and_does_not_move_the_schedule() -> None:
    wanted = Verify(schedule="30 2 * * *", request="after-the-move")
    status = verify_status(wanted, None, None, NOON)
    assert status is not None
    assert due(wanted, status, NOON) == "request:after-the-move"
    after = verify_status(wanted, status, done("request:after-the-move", files=3), NOON)
    assert after is not None
    assert (after.request, after.files, after.next_time) == ("after-the-move", 3, status.next_time)
    assert due(wanted, after, NOON) is None
    assert due(Verify(request="again"), after, NOON) == "request:again"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 3, 28, 12, 0, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),  # 2:30 is not there
        (datetime(2026, 10, 24, 12, 0, tzinfo=UTC), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),  # 2:30 comes twice
    ],
)
def test_a_time_zone_that_changes_its_clocks_runs_once_that_night(now: datetime, expected: datetime) -> None:
    wanted = Verify(schedule="30 2 * * *", time_zone="Europe/Berlin")
    schedule = schedule_of(wanted)
    assert schedule is not None
    first = next_time(schedule, now)
    assert first == expected
    assert next_time(schedule, first) - first > timedelta(hours=20)


@pytest.mark.parametrize("wrong", ["99 * * * *", "0 0 30 2 *", "a b c d e", "0 0 0 0 0"])
def test_a_schedule_that_cannot_be_meant_is_said_in_the_status(wrong: str) -> None:
    status = verify_status(Verify(schedule=wrong), None, None, NOON)
    assert status is not None
    assert status.next_time is None
    assert "cron expression" in status.message
    assert due(Verify(schedule=wrong), status, NOON) is None
    mended = verify_status(NIGHTLY, status, None, NOON)
    assert mended is not None
    assert mended.message == ""


def test_a_time_zone_that_does_not_exist_is_said_in_the_status() -> None:
    status = verify_status(Verify(schedule="0 1 * * *", time_zone="Nowhere/Land"), None, None, NOON)
    assert status is not None
    assert "Nowhere/Land" in status.message


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)), st.sampled_from(["UTC", "Asia/Kolkata", "Europe/Berlin"])
)
def test_the_next_time_is_found_again_from_what_was_written(moment: datetime, zone: str) -> None:
    """Else it would be computed anew in each pass, and never come."""
    wanted = Verify(schedule="*/7 3,15 * * 1-5", time_zone=zone)
    now = moment.replace(tzinfo=UTC)
    status = verify_status(wanted, None, None, now)
    assert status is not None
    assert verify_status(wanted, status, None, now + timedelta(seconds=1)) == status
    assert written(at(status)) == status.next_time


def test_no_verification_leaves_nothing_in_the_status() -> None:
    assert verify_status(None, VerifyStatus(files=3), None, NOON) is None


def test_what_neither_asks_for_a_time_nor_now_is_no_verification() -> None:
    with pytest.raises(BadInput):
        MirrorPairSpec.read({"volumes": [{"name": "d"}], "verify": {"schedule": "daily"}})


# -- in the pair


def settled(**verify: Any) -> World:
    world = World()
    world.usual(verify=verify)
    world.settle()
    return world


def shown(world: World) -> dict[str, Any]:
    found: dict[str, Any] = world.status()["volumes"][0]["verify"]
    return found


def test_the_order_carries_a_request_and_the_status_its_result() -> None:
    world = settled(request="one", repair=True)
    assert world.order(Role.SOURCE).verify == VerifyOrder(run="request:one", repair=True)
    assert world.order(Role.TARGET).verify is None
    assert world.condition("Verified") == ("Unknown", "NotVerifiedYet")
    world.finding = {"files": 10, "bytes": 1000}
    world.settle()
    assert shown(world)["request"] == "one"
    assert (shown(world)["files"], shown(world)["bytes"], shown(world)["differing"]) == (10, 1000, 0)
    assert world.condition("Verified") == ("True", "VerifiedEqual")
    assert world.order(Role.SOURCE).verify is None
    assert world.status()["phase"] == "Replicating"


def test_differences_are_a_condition_and_an_event_each_time() -> None:
    world = settled(request="one")
    world.finding = {"files": 9, "differing": 1, "first": ("d/damaged",)}
    world.settle()
    assert world.condition("Verified") == ("False", "DifferencesFound")
    assert ("Warning", "DifferencesFound") in world.events()
    assert shown(world)["first"] == ["d/damaged"]
    said = next(e for e in world.api.all("events") if e["reason"] == "DifferencesFound")
    assert "d/damaged" in said["message"]
    assert world.condition("Ready")[0] == "True", "the copy follows all the same"


def test_what_was_repaired_is_equal_and_told_all_the_same() -> None:
    world = settled(request="one", repair=True)
    world.finding = {"files": 10, "differing": 2, "repaired": 2, "first": ("a", "b")}
    world.settle()
    assert world.condition("Verified") == ("True", "DifferencesRepaired")
    assert ("Warning", "DifferencesRepaired") in world.events()


def test_a_schedule_comes_by_itself_and_again_the_next_time() -> None:
    world = settled(schedule="*/10 * * * *")
    first = shown(world)["nextTime"]
    assert world.order(Role.SOURCE).verify is None
    world.finding = {"files": 10}
    world.clock.sleep(600.0)
    world.settle(quiet=6)
    assert shown(world)["lastTime"] >= first
    assert shown(world)["nextTime"] > first
    assert world.order(Role.SOURCE).verify is None


def test_the_operator_wakes_when_a_run_is_due() -> None:
    world = settled(schedule="*/10 * * * *")
    again = world.operator.run(KEY).again
    until = read(shown(world)["nextTime"])
    assert until is not None
    assert again is not None
    assert again <= (until - world.clock.moment).total_seconds() + 1


def test_a_paused_pair_is_verified_afterwards() -> None:
    world = settled(request="one")
    world.pair(verify={"request": "one"}, paused=True)
    world.settle()
    assert world.order(Role.SOURCE).verify is None
    world.pair(verify={"request": "one"}, paused=False)
    world.settle()
    assert world.order(Role.SOURCE).verify == VerifyOrder(run="request:one")


def test_a_volume_that_nobody_uses_is_verified_too() -> None:
    """Its source agent has left; it comes back for that, and leaves again."""
    world = World()
    world.usual(verify={"schedule": "0 * * * *"})
    world.settle()
    world.api.remove(("pods", "shop", "orders-0"))
    world.settle(200, quiet=100)
    assert world.agents(Role.SOURCE) == []
    world.finding = {"files": 10}
    world.clock.sleep(3600.0)
    world.settle(30, quiet=20)
    assert shown(world)["files"] == 10
    world.settle(200, quiet=100)
    assert world.agents(Role.SOURCE) == []


def test_a_pair_without_it_has_no_such_condition() -> None:
    world = World()
    world.usual()
    world.settle()
    assert "Verified" not in {c["type"] for c in world.status()["conditions"]}
    assert "verify" not in world.status()["volumes"][0]


@pytest.mark.parametrize("phase", [OperationPhase.PROVING, OperationPhase.FENCING])
def test_nothing_is_verified_while_the_application_moves(phase: OperationPhase) -> None:
    world = settled(request="one")
    pair = MirrorPair.read(world.api.objects[("mirrorpairs", "shop", "orders")])
    assert verify_of(pair, Role.SOURCE, None, NOON) is not None
    operation = Operation(phase=phase, name="f", mode=Mode.PLANNED, from_epoch=1)
    moving = pair.model_copy(update={"status": pair.status.model_copy(update={"operation": operation})})
    assert verify_of(moving, Role.SOURCE, None, NOON) is None
