"""Modes Scheduled and Manual: when a run is due, what is remembered of it, and what people are told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from storagemirror.api.replication import Replication, RunStatus
from storagemirror.contract import ReplicationMode, Role, RunDone
from storagemirror.plan.runs import due
from storagemirror.plan.times import read
from tests.support.failover_world import FailoverWorld
from tests.support.world import KEY, World

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
NEXT, LATER = "2026-03-10T13:00:00Z", "2026-03-10T14:00:00Z"
HOURLY = Replication(mode=ReplicationMode.SCHEDULED, schedule="0 * * * *")
MANUAL = Replication(mode=ReplicationMode.MANUAL, trigger="go")


# -- the rule


@pytest.mark.parametrize(
    ("wanted", "status", "hours", "whole", "run"),
    [
        (Replication(), RunStatus(next_time=NEXT), 9, True, None),
        (HOURLY, RunStatus(next_time=NEXT), 0, True, None),
        (HOURLY, RunStatus(next_time=NEXT), 1, True, f"schedule:{NEXT}"),
        (HOURLY, RunStatus(next_time=NEXT), 9, True, f"schedule:{NEXT}"),
        (HOURLY, RunStatus(next_time=NEXT), 0, False, "first"),
        (HOURLY, RunStatus(), 9, False, None),
        (MANUAL, RunStatus(), 0, False, "trigger:go"),
        (MANUAL, RunStatus(trigger="go"), 9, False, None),
        (MANUAL, RunStatus(trigger="before"), 0, True, "trigger:go"),
        (HOURLY.model_copy(update={"trigger": "go"}), RunStatus(next_time=NEXT), 1, True, "trigger:go"),
    ],
    ids=[
        "continuous: never",
        "not yet",
        "its time has come",
        "missed: the same one, once",
        "no copy: at once",
        "a schedule that cannot be meant",
        "a trigger",
        "a trigger that was done",
        "another trigger",
        "a trigger before the schedule",
    ],
)
def test_due(wanted: Replication, status: RunStatus, hours: int, whole: bool, run: str | None) -> None:
    assert due(wanted, status, NOON + timedelta(hours=hours), whole=whole) == run


# -- in the pair


def world(**replication: Any) -> World:
    made = World()
    made.in_runs = RunDone(run="")
    made.usual(replication=replication)
    made.settle()
    return made


def run(made: World) -> dict[str, Any]:
    found: dict[str, Any] = made.status()["volumes"][0]["run"]
    return found


def ordered(made: World) -> str | None:
    return made.order(Role.SOURCE).replication.run


def test_the_first_run_is_at_once_and_then_the_copy_waits_for_its_time() -> None:
    made = world(mode="Scheduled", schedule="0 * * * *")
    assert made.order(Role.SOURCE).replication.mode is ReplicationMode.SCHEDULED
    assert made.ran == ["first"]
    assert run(made)["nextTime"] == made.status()["nextRun"] == "2026-01-02T04:00:00Z"
    assert (run(made)["result"], run(made)["due"]) == ("Complete", "")
    assert made.status()["phase"] == "Waiting"
    assert made.condition("Ready")[0] == "True"
    assert made.condition("OnSchedule") == ("True", "WaitingForSchedule")
    assert ordered(made) is None
    assert {("Normal", "RunBegun"), ("Normal", "RunCompleted")} <= made.events()


def test_each_time_of_the_schedule_has_one_run() -> None:
    made = world(mode="Scheduled", schedule="0 * * * *")
    again = made.operator.run(KEY).again
    coming = read(run(made)["nextTime"])
    assert again is not None
    assert coming is not None
    assert again <= (coming - made.clock.moment).total_seconds() + 1, "the operator wakes for it"
    for _ in range(2):
        made.clock.sleep(3600.0)
        made.settle(quiet=6)
    assert made.ran == ["first", "schedule:2026-01-02T04:00:00Z", "schedule:2026-01-02T05:00:00Z"]


def test_what_was_missed_while_no_operator_ran_is_made_up_for_once() -> None:
    made = world(mode="Scheduled", schedule="0 * * * *")
    made.clock.sleep(5 * 3600.0)
    made.start_operator()
    made.settle(quiet=6)
    assert made.ran == ["first", "schedule:2026-01-02T04:00:00Z"]
    assert run(made)["nextTime"] == "2026-01-02T09:00:00Z"


def test_a_run_that_takes_longer_than_the_interval_is_not_begun_twice() -> None:
    made = world(mode="Scheduled", schedule="*/5 * * * *")
    made.in_runs = None
    made.clock.sleep(300.0)
    made.settle(quiet=6)
    due_now = ordered(made)
    assert due_now == "schedule:2026-01-02T03:05:00Z"
    made.clock.sleep(900.0)
    made.settle(quiet=6)
    assert ordered(made) == due_now, "it is the same one"
    assert made.condition("OnSchedule") == ("True", "RunBegun")
    made.in_runs = RunDone(run="")
    made.settle(quiet=6)
    assert made.ran == ["first", due_now]
    following = read(run(made)["nextTime"])
    assert following is not None
    assert following > made.clock.moment, "times that passed meanwhile are done by it"


def test_a_trigger_is_done_once_and_the_last_one_is_in_the_status() -> None:
    made = world(mode="Manual")
    assert (made.status()["phase"], ordered(made)) == ("Pending", None)
    assert made.condition("Ready") == ("False", "WaitingForTrigger")
    made.pair(replication={"mode": "Manual", "trigger": "before the upgrade"})
    made.settle(quiet=6)
    assert made.ran == ["trigger:before the upgrade"]
    assert (run(made)["trigger"], made.status()["trigger"]) == ("before the upgrade", "before the upgrade")
    assert made.status()["phase"] == "Waiting"
    made.start_operator()
    made.clock.sleep(7200.0)
    made.settle(quiet=6)
    assert len(made.ran) == 1
    made.pair(replication={"mode": "Manual", "trigger": "after the upgrade"})
    made.settle(quiet=6)
    assert made.ran[1:] == ["trigger:after the upgrade"]


def test_a_run_that_is_due_while_the_pair_is_paused_comes_afterwards() -> None:
    made = world(mode="Scheduled", schedule="0 * * * *")
    made.pair(replication={"mode": "Scheduled", "schedule": "0 * * * *"}, paused=True)
    made.clock.sleep(3600.0)
    made.settle(quiet=6)
    assert ordered(made) is None
    assert made.condition("OnSchedule") == ("False", "RunWaits")
    made.pair(replication={"mode": "Scheduled", "schedule": "0 * * * *"}, paused=False)
    made.settle(quiet=6)
    assert made.ran[1:] == ["schedule:2026-01-02T04:00:00Z"]


@pytest.mark.parametrize(
    ("replication", "word"),
    [
        ({"mode": "Scheduled", "schedule": "99 * * * *"}, "99 * * * *"),
        ({"mode": "Scheduled", "schedule": "0 * * * *", "timeZone": "Nowhere/Land"}, "Nowhere/Land"),
    ],
)
def test_a_schedule_that_cannot_be_meant_calls_somebody(replication: dict[str, str], word: str) -> None:
    made = world(**replication)
    assert made.condition("Stalled") == ("True", "ScheduleInvalid")
    assert made.condition("OnSchedule") == ("False", "ScheduleInvalid")
    said = next(c["message"] for c in made.status()["conditions"] if c["type"] == "Stalled")
    assert word in said
    assert "Five fields" in said
    assert made.ran == []
    made.pair(replication={"mode": "Scheduled", "schedule": "0 * * * *", "timeZone": "UTC"})
    made.settle(quiet=6)
    assert made.condition("Ready")[0] == "True"
    assert made.ran == ["first"]


def test_what_could_not_be_written_is_told_until_a_run_has_done_it() -> None:
    made = world(mode="Manual")
    made.in_runs = RunDone(run="", error="1 entries could not be written; the first: d/f")
    made.pair(replication={"mode": "Manual", "trigger": "one"})
    made.settle(quiet=6)
    assert run(made)["result"] == "Incomplete"
    assert made.condition("OnSchedule") == ("False", "RunIncomplete")
    assert ("Warning", "RunIncomplete") in made.events()
    made.in_runs = RunDone(run="")
    made.pair(replication={"mode": "Manual", "trigger": "two"})
    made.settle(quiet=6)
    assert made.condition("OnSchedule") == ("True", "WaitingForTrigger")


def test_between_two_runs_a_new_agent_does_not_make_the_lag_unknown() -> None:
    made = world(mode="Scheduled", schedule="0 * * * *")
    made.through = None
    made.clock.sleep(600.0)
    made.settle(quiet=6)
    assert made.status()["lagSeconds"] >= 600


def test_a_volume_that_nobody_uses_has_its_runs_and_the_agent_leaves_again() -> None:
    made = world(mode="Scheduled", schedule="*/5 * * * *")
    made.api.remove(("pods", "shop", "orders-0"))
    for count in (2, 3):
        seen = []
        for _ in range(300):
            made.settle(1)
            seen.append(len(made.agents(Role.SOURCE)))
        assert (len(made.ran), min(seen), max(seen), seen[-1]) == (count, 0, 1, 0)
    assert made.status()["phase"] == "Waiting"


def test_a_pair_that_follows_knows_of_no_runs() -> None:
    made = world(mode="Manual", trigger="one")
    made.pair(replication={"mode": "Continuous"})
    made.settle(quiet=6)
    assert "OnSchedule" not in {c["type"] for c in made.status()["conditions"]}
    assert "run" not in made.status()["volumes"][0]
    assert made.status()["phase"] == "Replicating"
    assert made.order(Role.SOURCE).replication.mode is ReplicationMode.CONTINUOUS


def test_an_operator_that_is_killed_at_any_write_has_each_run_done_once() -> None:
    number, died = 0, True
    while died:
        number, died = number + 1, False
        for after in (False, True):
            made = world(mode="Scheduled", schedule="*/5 * * * *")
            made.pair(replication={"mode": "Scheduled", "schedule": "*/5 * * * *", "trigger": "now"})
            made.clock.sleep(60.0)
            died |= made.killed_at(number, after)
            made.settle(quiet=6)
            assert made.ran == ["first", "trigger:now", "schedule:2026-01-02T03:05:00Z"]
            assert (made.status()["trigger"], run(made)["due"]) == ("now", "")
    assert number > 3


def test_a_planned_failover_brings_the_copy_up_to_date_whatever_the_schedule_says() -> None:
    made = FailoverWorld()
    made.in_runs = RunDone(run="")
    made.protected(replication={"mode": "Scheduled", "schedule": "0 3 * * *"})
    made.run(30)
    assert made.status()["phase"] == "Waiting"
    assert made.order(Role.SOURCE).replication.mode is ReplicationMode.SCHEDULED
    made.failover()
    made.until("Proving")
    assert made.order(Role.SOURCE).replication.mode is ReplicationMode.CONTINUOUS
    made.run(60)
    assert made.told()["phase"] == "Completed"
    assert made.told()["rpoSeconds"] == 0
    assert made.ran == ["first"]
