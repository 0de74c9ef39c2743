"""spec.replication: what the source's agent is ordered, and what the status tells of points."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.contract import Consistency, Freezing, PointsMade, ReplicationOrder, Role
from storagemirror.resources import labels
from tests.support.world import NAMESPACE, World

AT = "2026-01-01T00:00:00.000000Z"


def world(**replication: Any) -> World:
    made = World()
    made.usual(agents={"privilege": "Freeze"}, replication=replication)
    notes = {labels.PRIVILEGED_AGENTS: "true"}
    made.api.put("namespaces", {"metadata": {"name": NAMESPACE, "annotations": notes}})
    made.freezing = Freezing(able=True)
    return made


def test_the_source_is_ordered_what_the_pair_says_and_the_target_nothing() -> None:
    made = world(consistency="Point", pointInterval="1s", maxStall="100ms")
    made.settle()
    wanted = ReplicationOrder(consistency=Consistency.POINT, interval_seconds=1.0, max_stall_seconds=0.1)
    assert made.order(Role.SOURCE).replication == wanted
    assert made.order(Role.TARGET).replication == ReplicationOrder()


def test_without_a_word_changes_are_applied_as_they_come() -> None:
    made = world()
    made.settle()
    assert made.order(Role.SOURCE).replication.consistency is Consistency.LIVE
    assert made.condition("CrashConsistent") == ("False", "NoPoints")


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (None, ("False", "NoPoints")),
        (PointsMade(put_off=3, why="SyncTooSlow: slow"), ("False", "NoPoints")),
        (PointsMade(number=4, at=AT, made=4), ("True", "PointsMade")),
        (PointsMade(number=4, at=AT, made=4, missed=1), ("False", "PointsNotWhole")),
    ],
    ids=["nothing said", "none yet", "made", "not whole"],
)
def test_a_copy_is_crash_consistent_once_a_point_is_on_the_target(
    points: PointsMade | None, told: tuple[str, str]
) -> None:
    made = world(consistency="Point")
    made.points = points
    made.settle()
    assert made.condition("CrashConsistent") == told
    assert made.status().get("pointAt") == (AT if points is not None and points.at else None)


def test_a_stretched_interval_is_told_in_whole_seconds() -> None:
    made = world(consistency="Point")
    made.points = PointsMade(number=4, at=AT, made=4, interval_seconds=7.2, told_again=2)
    made.settle()
    told = made.status()["volumes"][0]["points"]
    assert (told["intervalSeconds"], told["toldAgain"]) == (8, 2)


def test_figures_of_points_that_flow_are_not_written_at_each_beat() -> None:
    made = world(consistency="Point")
    made.points = PointsMade(number=4, at=AT, made=4)
    made.settle()
    version = made.api.objects["mirrorpairs", NAMESPACE, "orders"]["metadata"]["resourceVersion"]
    made.points = PointsMade(number=5, at=AT, made=5, stall_p50=0.05)
    made.settle()
    assert made.api.objects["mirrorpairs", NAMESPACE, "orders"]["metadata"]["resourceVersion"] == version
