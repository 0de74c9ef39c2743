"""Points of several volumes of one moment: who is told to belong together, and what is promoted of their copies."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from storagemirror.contract import ORDER_KEY, Action, CopyPoint, Order, Role, SettleOrder, decode
from storagemirror.plan.grouping import latest_common
from tests.support.failover_world import FailoverWorld
from tests.support.promoting import AUTOMATIC, BETWEEN, ago, dies, untouched
from tests.support.world import NAMESPACE, World


def at(world: World, group: int | None, *, seconds: float = 2.0) -> CopyPoint:
    """A copy at the group's point of that number, of so many seconds ago."""
    moment = ago(world, seconds)
    return CopyPoint(promotable=True, number=7, at=moment, group=group, group_at=None if group is None else moment)


def place(world: FailoverWorld, data: int | None, wal: int | None, seconds: float = 2.0) -> None:
    """Where the copies are: the same group has the same moment, each later one is of 5 s later."""
    latest = max(data or 0, wal or 0)
    for name, group in (("data", data), ("wal", wal)):
        world.copy_points[name] = at(world, group, seconds=seconds + 5.0 * (latest - (group or 0) if group else 0))


def holding(world: World, group: int | None, held: int, *, seconds: float = 2.0) -> CopyPoint:
    """As `at`, and the point of another number is held back, of 5 s later; `group` None: without it it is none."""
    base = at(world, group, seconds=seconds + 5.0) if group is not None else MIRRORING
    moment = ago(world, seconds)
    return msgspec.structs.replace(base, held_number=8, held_at=moment, held_group=held, held_group_at=moment)


MIRRORING = CopyPoint(promotable=False, reason="Mirroring", message="changes came since the last point")


def replicating(**failover: Any) -> FailoverWorld:
    """A pair of two volumes that replicates, both copies at point 12 of the group."""
    world = FailoverWorld()
    failover = AUTOMATIC | {"maxLag": "10m"} | failover
    world.protected(failover=failover, more=("wal",), replication={"consistency": "Point"})
    place(world, 12, 12)
    world.run(15)
    assert world.status()["phase"] == "Replicating"
    place(world, 12, 12)
    world.run(1)
    assert world.condition("Promotable") == ("True", "AtPoint")
    return world


def message(world: FailoverWorld) -> str:
    return str(next(c["message"] for c in world.status()["conditions"] if c["type"] == "Promotable"))


def orders(world: World) -> dict[tuple[str, Role], Order]:
    found = [decode(Order, c["data"][ORDER_KEY]) for c in world.api.all("configmaps")]
    return {(order.volume, order.role): order for order in found}


# who belongs together


def two_volumes(**replication: Any) -> World:
    world = World()
    for name in ("orders-data", "orders-standby", "orders-wal", "standby-wal"):
        world.claim(name)
    world.writer("orders-0", "node-a")
    world.writer("orders-1", "node-a", "orders-wal")
    volumes = [
        {"name": name, "source": {"claimName": f"orders-{name}"}, "target": {"claimName": target}}
        for name, target in (("data", "orders-standby"), ("wal", "standby-wal"))
    ]
    world.pair(volumes=volumes, replication=replication)
    world.settle()
    return world


def test_the_first_volumes_agent_leads_and_the_others_are_told_where_it_is() -> None:
    world = two_volumes(consistency="Point")
    found = orders(world)
    lead, member = found["data", Role.SOURCE].group, found["wal", Role.SOURCE].group
    assert lead is not None
    assert member is not None
    assert lead.members == member.members == ("data", "wal")
    assert (lead.lead, lead.peer) == ("data", None)
    (pod,) = [p for p in world.agents(Role.SOURCE) if p["metadata"]["labels"]["storagemirror.io/volume"] == "data"]
    assert member.peer is not None
    assert member.peer.address == pod["status"]["podIP"]
    assert found["data", Role.TARGET].group is None


def test_a_new_agent_of_the_lead_is_where_the_others_dial() -> None:
    world = two_volumes(consistency="Point")
    before = orders(world)["wal", Role.SOURCE].group
    (pod,) = [p for p in world.agents(Role.SOURCE) if p["metadata"]["labels"]["storagemirror.io/volume"] == "data"]
    world.api.remove(("pods", NAMESPACE, pod["metadata"]["name"]))
    world.settle()
    after = orders(world)["wal", Role.SOURCE].group
    assert before is not None
    assert after is not None
    assert after.peer is not None
    assert after.peer != before.peer


@pytest.mark.parametrize(
    "replication",
    [
        {},
        {"consistency": "Point", "mode": "Manual"},
        {"consistency": "Point", "mode": "Scheduled", "schedule": "0 * * * *"},
    ],
    ids=["live", "manual", "scheduled"],
)
def test_there_is_no_group_without_points_that_follow(replication: dict[str, Any]) -> None:
    assert all(order.group is None for order in orders(two_volumes(**replication)).values())


def test_a_single_volume_is_no_group() -> None:
    world = World()
    world.usual(replication={"consistency": "Point"})
    world.settle()
    assert world.order(Role.SOURCE).group is None


def test_the_agent_of_a_volume_that_nobody_uses_stays_while_another_is_written() -> None:
    """Without it there would be no points of the other any more."""
    world = two_volumes(consistency="Point")
    world.api.remove(("pods", NAMESPACE, "orders-1"))
    world.settle(200, quiet=200)
    assert len(world.agents(Role.SOURCE)) == 2
    world.api.remove(("pods", NAMESPACE, "orders-0"))
    world.settle(200, quiet=200)
    assert world.agents(Role.SOURCE) == []


def test_without_a_group_it_leaves_as_ever() -> None:
    world = two_volumes()
    world.api.remove(("pods", NAMESPACE, "orders-1"))
    world.settle(200, quiet=200)
    assert len(world.agents(Role.SOURCE)) == 1


# what is promoted


def test_copies_at_the_same_point_of_the_group_are_promoted_and_say_so() -> None:
    world = replicating()
    assert "one moment of the source, the same of all volumes: data at point" in message(world)
    told = [v["copyPoint"] for v in world.status()["volumes"]]
    assert [point["group"] for point in told] == [12, 12]
    assert told[0]["groupAt"] == told[1]["groupAt"]
    assert dies(world)["phase"] == "Completed"


@pytest.mark.parametrize(("data", "wal"), [(13, 12), (12, 13), (None, None), (12, None)])
def test_copies_of_different_moments_are_not_promoted_without_a_persons_word(data: int | None, wal: int | None) -> None:
    world = replicating()
    place(world, data, wal)
    told = dies(world, 90)
    assert (told["phase"], told["reason"]) == ("Validating", "PointsDiffer")
    assert "acceptLoss.noPoint" in told["message"]
    assert next(c for c in told["conditions"] if c["type"] == "Stalled")["status"] == "True"
    assert world.condition("Promotable") == ("False", "PointsDiffer")
    untouched(world)
    spec = {"acceptLoss": {"noPoint": True}}
    world.api.put("failovers", {"metadata": {"name": "orders-1", "namespace": NAMESPACE}, "spec": spec})
    world.run(30)
    told = dict(world.told("orders-1"))
    assert told["phase"] == "Completed"
    said = next(s["message"] for s in told["timeline"] if s["phase"] == "Promoting")
    assert "Accepted (acceptLoss.noPoint): The copies of the volumes are of different moments: data at" in said


def test_it_goes_on_by_itself_when_they_are_the_same_again() -> None:
    world = replicating()
    place(world, 13, 12)
    assert dies(world, 60)["reason"] == "PointsDiffer"
    place(world, 13, 13, seconds=62)
    world.run(30)
    assert world.told("orders-1")["phase"] == "Completed"


def test_a_point_on_its_way_is_applied_by_draining_and_judged_then() -> None:
    for wal, phase in ((13, "Completed"), (12, "RolledBack")):
        world = replicating()
        place(world, 13, 12)
        world.copy_points["wal"] = BETWEEN
        world.drained_points = {"wal": world.copy_points["data"] if wal == 13 else at(world, 12, seconds=7)}
        told = dies(world)
        assert told["phase"] == phase, told
        if phase == "RolledBack":
            assert told["reason"] == "PointsDiffer"
            untouched(world)


def test_while_points_come_one_copy_may_be_ahead_and_that_is_no_news() -> None:
    world = replicating()
    for group in range(13, 20):
        place(world, group, group - 1)
        world.run(5)
        assert world.condition("Promotable") == ("True", "AtPoint")
    assert ("Warning", "PointsDiffer") not in world.events()


def test_copies_that_stay_apart_are_told_although_the_source_lives() -> None:
    world = replicating()
    place(world, 13, 12)
    world.run(40)
    assert world.condition("Promotable") == ("False", "PointsDiffer")
    assert "data at the group's point 13" in message(world)
    place(world, 14, 14)
    world.run(5)
    assert world.condition("Promotable") == ("True", "AtPoint")


def test_points_of_runs_are_each_volumes_own() -> None:
    world = FailoverWorld()
    replication = {"consistency": "Point", "mode": "Manual", "trigger": "now"}
    world.protected(failover=AUTOMATIC, more=("wal",), replication=replication)
    place(world, None, None)
    world.run(15)
    assert world.condition("Promotable")[1] != "PointsDiffer"


def test_a_planned_failover_goes_by_its_proof() -> None:
    world = replicating()
    place(world, 13, 12)
    world.failover()
    world.run(60)
    assert (world.told()["phase"], world.told()["rpoSeconds"]) == ("Completed", 0)


# points that are held back


def promised(world: FailoverWorld) -> list[SettleOrder | None]:
    """What the agents were told to settle on when they were to promote their volumes."""
    return [
        order.settle for (_, role), order in sorted(orders(world).items()) if role is Role.TARGET and order.epoch == 2
    ]


@pytest.mark.parametrize(
    ("data", "wal", "given"),
    [
        ((12, 13), (12, 13), 13),  # both hold it, and nobody was told
        ((13, None), (12, 13), 13),  # one was told, the other not
        ((12, 13), (12, None), 12),  # the other has not got it
        ((12, 13), (13, 14), 13),
        ((13, 14), (12, 13), 13),
    ],
)
def test_the_latest_point_that_all_can_be_at_is_promoted_by_itself(
    data: tuple[int, int | None], wal: tuple[int, int | None], given: int
) -> None:
    world = replicating()
    place(world, 12, 12)
    for name, (group, held) in (("data", data), ("wal", wal)):
        world.drained_points[name] = at(world, group) if held is None else holding(world, group, held)
    told = dies(world)
    assert told["phase"] == "Completed", told
    assert world.status()["operation"]["group"] == given
    said = next(s["message"] for s in told["timeline"] if s["phase"] == "Promoting")
    assert f"All volumes are brought to point {given} of their group." in said


def test_the_agents_are_told_on_what_to_settle_and_whoever_decides_next_says_the_same() -> None:
    world = replicating()
    world.drained_points = {"data": holding(world, 12, 13), "wal": holding(world, 12, 13)}
    world.power_off("node-a")
    world.attest("node-a")
    for _ in range(60):
        world.run(1)
        found = [o for (_, role), o in orders(world).items() if role is Role.TARGET and o.action is Action.PROMOTE]
        if len(found) == 2:
            break
    assert [order.settle for order in found] == [SettleOrder(group=13)] * 2
    # What they say once their volumes are let go of tells nothing of points any more.
    assert all(order.settle is None for (_, role), order in orders(world).items() if role is Role.SOURCE)


def test_the_first_point_after_a_mirror_counts_where_all_hold_it_or_are_at_it() -> None:
    world = replicating()
    place(world, 13, 13)
    world.drained_points = {"data": holding(world, None, 13)}
    assert dies(world)["phase"] == "Completed"
    world = replicating()
    world.drained_points = {"data": holding(world, None, 13)}  # of the other it is not there
    told = dies(world)
    assert (told["phase"], told["reason"]) == ("RolledBack", "Mirroring")
    untouched(world)


def test_what_no_copy_can_be_brought_to_differs_and_what_is_held_is_named() -> None:
    world = replicating()
    world.drained_points = {"data": holding(world, 12, 14), "wal": at(world, 13)}
    told = dies(world)
    assert (told["phase"], told["reason"]) == ("RolledBack", "PointsDiffer")
    assert "and point 14 held back" in str(told["timeline"])


def test_a_held_point_beside_one_that_is_applied_is_no_news_however_long() -> None:
    """One copy has applied it, another has not been told: nothing flaps, and nobody is warned."""
    world = replicating()
    world.copy_points = {"data": at(world, 13), "wal": holding(world, 12, 13)}
    world.run(120)
    assert world.condition("Promotable") == ("True", "AtPoint")
    assert ("Warning", "PointsDiffer") not in world.events()


def test_what_is_told_to_be_safe_is_what_is_applied_and_what_is_lost_counts_from_what_is_given() -> None:
    world = replicating()
    held = holding(world, 12, 13)
    world.copy_points = {"data": held, "wal": held}
    world.run(5)
    for volume in world.status()["volumes"]:
        assert volume["copyPoint"]["group"] == 12
        assert volume["copyPoint"]["syncedThrough"] <= str(held.at)
    told = dies(world)
    assert told["phase"] == "Completed"
    assert told["syncedThrough"] == held.held_at
    assert told["syncedThrough"] > str(held.at)


def test_a_planned_failover_settles_on_nothing() -> None:
    world = replicating()
    world.drained_points = {"data": holding(world, 12, 13), "wal": at(world, 12)}
    world.failover()
    world.run(60)
    assert world.told()["phase"] == "Completed"
    assert world.status()["operation"].get("group") is None


def test_with_a_persons_word_copies_that_can_be_of_one_moment_are_brought_to_it_all_the_same() -> None:
    world = replicating()
    world.drained_points = {"data": holding(world, 12, 13), "wal": at(world, 12)}
    world.failover(mode="Unplanned", acceptLoss={"noPoint": True}, acceptSplitBrain=True)
    world.power_off("node-a")
    world.attest("node-a")
    world.run(60)
    assert world.told()["phase"] == "Completed"
    assert world.status()["operation"]["group"] == 12


def test_of_two_points_that_all_can_be_at_the_one_that_is_held_is_the_later() -> None:
    """Numbers grow with the clock of whoever leads: another node's may be behind."""
    one = CopyPoint(promotable=True, number=7, group=90, held_number=8, held_group=80)
    assert latest_common([one, one]) == 80
    assert latest_common([one, CopyPoint(promotable=True, number=3, group=90)]) == 90
    assert latest_common([one, CopyPoint(promotable=True, number=3, group=80)]) == 80
    assert latest_common([one, MIRRORING]) is None
    assert latest_common([]) is None
