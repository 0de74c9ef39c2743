"""What may be promoted of a copy that is to be one moment of the source; and what a naive operator would promote."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from storagemirror.clock import rfc3339
from storagemirror.contract import CopyPoint, PointsMade, Problem, Role
from tests.support.failover_world import SOURCE, TARGET, FailoverWorld
from tests.support.promoting import AUTOMATIC, BETWEEN, ago, dies, untouched
from tests.support.world import NAMESPACE

MIRRORING = CopyPoint(promotable=False, reason="Mirroring", message="changes came since the last point")
SYNC_FAILED = CopyPoint(promotable=False, reason="SyncFailed", message="the disk failed while a point was applied")
DAMAGED = CopyPoint(promotable=False, reason="JournalDamaged", message="the journal of point 8 cannot be read")
CHANGED = CopyPoint(promotable=False, reason="TargetChanged", message="somebody else has changed the copy")
STRANGE = CopyPoint(promotable=False, reason="OfALaterRelease", message="for a reason of its own")
FULL = Problem(reason="TargetFull", message="the target volume is full")


def at_point(world: FailoverWorld, *, seconds: float = 2.0, number: int = 7) -> CopyPoint:
    """The copy is a point of so many seconds ago."""
    return CopyPoint(promotable=True, number=number, at=ago(world, seconds))


def replicating(*, consistency: str = "Point", **failover: Any) -> FailoverWorld:
    """A pair that replicates, its copy at point 7."""
    world = FailoverWorld()
    world.protected(failover=AUTOMATIC | failover, replication={"consistency": consistency})
    world.copy_point = at_point(world) if consistency == "Point" else None
    world.run(15)
    assert world.status()["phase"] == "Replicating"
    if consistency == "Point":
        world.copy_point = at_point(world)
        world.run(1)
    return world


def accept(world: FailoverWorld, **more: Any) -> None:
    spec = {"acceptLoss": {"noPoint": True, **more}}
    world.api.put("failovers", {"metadata": {"name": "orders-1", "namespace": NAMESPACE}, "spec": spec})


def copy_point(world: FailoverWorld) -> dict[str, Any]:
    return dict(world.status()["volumes"][0].get("copyPoint", {}))


def message(world: FailoverWorld) -> str:
    return str(next(c["message"] for c in world.status()["conditions"] if c["type"] == "Promotable"))


# what is shown


def test_a_copy_at_a_point_is_promotable_and_says_which() -> None:
    world = replicating()
    assert world.condition("Promotable") == ("True", "AtPoint")
    told = copy_point(world)
    assert (told["promotable"], told["number"]) == (True, 7)
    assert message(world) == f"The copy is one moment of the source: data at point 7 of {told['at']}."


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (None, "NoPoint"),
        (MIRRORING, "Mirroring"),
        (SYNC_FAILED, "SyncFailed"),
        (DAMAGED, "JournalDamaged"),
        (CHANGED, "TargetChanged"),
        (STRANGE, "AtNoPoint"),
    ],
    ids=str,
)
def test_a_copy_at_no_point_says_why_and_an_automatic_failover_waits_and_touches_nothing(
    found: CopyPoint | None, reason: str
) -> None:
    world = replicating()
    world.copy_point = found
    world.run(2)
    assert world.condition("Promotable") == ("False", reason)
    told = dies(world, 90)
    assert (told["phase"], told["reason"]) == ("Validating", reason)
    assert "acceptLoss.noPoint" in told["message"]
    stalled = next(c for c in told["conditions"] if c["type"] == "Stalled")
    assert stalled["status"] == "True"
    untouched(world)
    # By itself, as soon as the copy is one.
    world.copy_point = at_point(world, seconds=95)
    world.run(30)
    assert world.told("orders-1")["phase"] == "Completed"


def test_with_changes_as_they_come_no_point_is_asked_for_and_none_is_claimed() -> None:
    world = replicating(consistency="Live")
    assert world.condition("Promotable") == ("True", "CopyReady")
    assert "some files may be of one moment and some of the next" in message(world)
    assert copy_point(world) == {}
    assert dies(world)["phase"] == "Completed"


def test_a_pair_that_was_by_points_before_is_not_held_to_them() -> None:
    world = replicating(consistency="Live")
    world.copy_point = MIRRORING
    world.run(2)
    assert world.condition("Promotable") == ("True", "CopyReady")
    assert dies(world)["phase"] == "Completed"


def test_points_that_flow_and_are_applied_are_not_written_at_each_beat() -> None:
    world = replicating()
    world.run(30)
    writes = 0
    for number in range(8, 20):
        world.copy_point = at_point(world, number=number) if number % 2 else BETWEEN
        before = world.status()
        world.run(1)
        writes += world.status() != before
        assert world.condition("Promotable") == ("True", "AtPoint")
        assert copy_point(world)["promotable"]
    assert writes <= 2
    assert ("Warning", "BetweenPoints") not in world.events()


def test_a_point_that_cannot_be_applied_is_shown() -> None:
    world = replicating()
    world.copy_point, world.trouble = BETWEEN, FULL
    world.run(2)
    assert world.condition("Promotable") == ("False", "BetweenPoints")
    assert copy_point(world)["reason"] == "BetweenPoints"
    assert dies(world, 60)["reason"] == "BetweenPoints"
    untouched(world)


# what happens to it


def test_a_point_that_was_on_its_way_is_applied_by_draining_and_promoted() -> None:
    world = replicating()
    world.copy_point = BETWEEN
    world.drained_point = at_point(world, number=8)
    assert dies(world)["phase"] == "Completed"
    assert world.running(TARGET)


@pytest.mark.parametrize("found", [BETWEEN, DAMAGED, SYNC_FAILED], ids=lambda p: p.reason)
def test_it_is_judged_again_when_it_is_drained_and_not_promoted_where_it_is_none(found: CopyPoint) -> None:
    world = replicating()
    world.drained_point = found
    told = dies(world)
    assert (told["phase"], told["reason"]) == ("RolledBack", found.reason)
    assert "Not promoted" in str(told["timeline"])
    untouched(world)
    assert "Promoting" not in [s["phase"] for s in told["timeline"]]


def test_a_person_may_accept_it_and_that_is_told() -> None:
    world = replicating()
    world.copy_point = MIRRORING
    dies(world)
    accept(world)
    world.run(30)
    told = world.told("orders-1")
    assert told["phase"] == "Completed"
    assert "Accepted (acceptLoss.noPoint)" in next(s["message"] for s in told["timeline"] if s["phase"] == "Promoting")


def test_a_persons_failover_needs_the_same_word() -> None:
    world = replicating()
    world.copy_point = MIRRORING
    world.power_off("node-a")
    world.attest("node-a")
    world.failover("mine", mode="Unplanned")
    world.run(330)
    assert (world.told("mine")["phase"], world.told("mine")["reason"]) == ("Failed", "Mirroring")
    untouched(world)
    world.failover("again", mode="Unplanned", acceptLoss={"noPoint": True, "unknown": True, "seconds": 600})
    world.run(60)
    assert world.told("again")["phase"] == "Completed"


def test_a_planned_failover_goes_by_its_proof() -> None:
    world = replicating()
    world.copy_point = MIRRORING  # by the proof itself
    world.failover()
    world.until("Promoting")
    world.run(1)
    assert world.order(Role.TARGET).proven
    world.run(30)
    assert (world.told()["phase"], world.told()["rpoSeconds"]) == ("Completed", 0)


def test_a_proof_of_equality_says_nothing_of_a_disk_that_failed() -> None:
    world = replicating()
    world.copy_point = SYNC_FAILED
    world.failover()
    world.run(10)
    assert (world.told()["phase"], world.told()["reason"]) == ("Validating", "SyncFailed")
    world.copy_point, world.drained_point = at_point(world), SYNC_FAILED
    world.run(60)
    assert (world.told()["phase"], world.told()["reason"]) == ("RolledBack", "SyncFailed")
    assert world.running(SOURCE)


# what is lost


def test_what_is_lost_counts_from_the_point_and_not_from_a_mark_of_live_changes() -> None:
    """The mark says that all has come; the point that will be promoted is 50 s older."""
    world = replicating()
    world.copy_point = at_point(world, seconds=50)
    told = dies(world)
    assert (told["phase"], told["reason"]) == ("Validating", "TargetBehind")
    assert "counts from the copy's last point" in told["message"]
    untouched(world)
    accept(world, seconds=600)
    world.run(30)
    told = world.told("orders-1")
    assert told["phase"] == "Completed"
    assert 48 <= told["rpoSeconds"] <= 56


def test_where_nothing_changed_since_the_point_nothing_is_lost() -> None:
    """A point of an hour ago holds everything up to when the source found that nothing had changed."""
    world = replicating()
    world.copy_point = at_point(world, seconds=3600)
    world.points = PointsMade(number=7, at=world.copy_point.at, made=7)
    world.run(40)
    told = dies(world)
    assert told["phase"] == "Completed"
    assert told["rpoSeconds"] <= 2


def test_what_the_source_said_of_another_point_does_not_count() -> None:
    world = replicating()
    world.copy_point = at_point(world, seconds=3600)
    world.points = PointsMade(number=9, at=ago(world, 1), made=9)
    assert dies(world)["reason"] == "TargetBehind"


def test_that_nothing_had_changed_is_remembered_when_the_sources_agent_begins_anew() -> None:
    world = replicating(maxLag="60s")  # of a quiet pair the status is a sample of each 30 s
    world.copy_point = at_point(world, seconds=3600)
    world.points = PointsMade(number=7, at=world.copy_point.at, made=7)
    world.run(60)
    world.points = PointsMade()
    world.run(2)
    assert dies(world)["phase"] == "Completed"


@pytest.mark.parametrize(
    ("found", "known"), [(DAMAGED, False), (CHANGED, False), (MIRRORING, True)], ids=["damaged", "changed", "mirroring"]
)
def test_what_an_accepted_copy_lost_is_not_known_where_nobody_knows_what_it_holds(
    found: CopyPoint, known: bool
) -> None:
    world = replicating()
    world.copy_point = found
    dies(world)
    accept(world, unknown=True)
    world.run(30)
    told = world.told("orders-1")
    assert told["phase"] == "Completed"
    assert ("rpoSeconds" in told) == known


def test_the_way_home_is_not_held_to_points() -> None:
    world = replicating()
    assert dies(world)["phase"] == "Completed"
    assert copy_point(world) == {}
    world.boot("node-a")
    world.run(10)
    world.copy_point = MIRRORING
    world.restore()
    world.run(200)
    told = world.api.objects["restores", NAMESPACE, "home"]["status"]
    assert told["phase"] == "Completed", told
    assert world.condition("Promotable") == ("False", "Mirroring")
    world.copy_point = CopyPoint(promotable=True, number=8, at=rfc3339(int(datetime.now(UTC).timestamp())))
    world.run(3)
    assert world.condition("Promotable") == ("True", "AtPoint")
