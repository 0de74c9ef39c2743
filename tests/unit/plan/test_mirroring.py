"""How spec.mirror reaches both agents, what a restore makes of it, and what comes back in the status."""

from __future__ import annotations

from typing import Any

from storagemirror.contract import (
    CompareBy,
    LeftAlone,
    MirrorOrder,
    OrphansOrder,
    Phase,
    Report,
    Role,
    RuleOrder,
    TargetPolicy,
)
from storagemirror.resources import labels
from storagemirror.terms import OrphanPolicy
from tests.support.failover_world import FailoverWorld
from tests.support.world import World

MIRROR: dict[str, Any] = {
    "compare": "Newer",
    "rules": [{"exclude": "cache/"}, {"include": "*.keep"}],
    "orphans": {"policy": "Move", "olderThan": "30d"},
}
RULES = (RuleOrder(exclude="cache/"), RuleOrder(include="*.keep"))


def test_both_agents_are_told_the_same() -> None:
    world = World()
    world.usual(mirror=MIRROR)
    world.settle()
    expected = MirrorOrder(
        compare=CompareBy.NEWER,
        rules=RULES,
        orphans=OrphansOrder(policy=OrphanPolicy.MOVE, older_than_seconds=30 * 86_400),
    )
    assert [world.order(role).mirror for role in Role] == [expected, expected]


def test_what_is_left_out_of_the_spec_is_left_out_of_the_order() -> None:
    world = World()
    world.usual(mirror={"ignoreDeletes": True})
    world.settle()
    assert world.order(Role.TARGET).mirror == MirrorOrder(
        target=TargetPolicy.EMPTY, orphans=OrphansOrder(ignore_deletes=True)
    )


def test_on_the_way_home_nothing_newer_and_no_orphan_stays_and_rules_hold() -> None:
    world = FailoverWorld()
    world.protected(failover={"approval": "Automatic", "sufficientProof": ["Proven", "Attested"]}, mirror=MIRROR)
    world.run(15)
    world.failover()
    world.ends()
    assert world.status()["phase"] == "FailedOver"
    world.restore()
    seen: set[MirrorOrder] = set()
    for _ in range(12):
        world.run(1)
        if world.order(Role.TARGET).restore is not None:
            seen |= {world.order(role).mirror for role in Role}
    assert seen == {MirrorOrder(rules=RULES)}
    world.ends()
    world.run(10)
    assert world.order(Role.TARGET).mirror.orphans.policy is OrphanPolicy.MOVE


def test_what_was_left_alone_stands_in_the_status() -> None:
    world = World()
    world.usual(mirror={"orphans": {"policy": "Report"}})
    world.settle()
    pod = world.agents(Role.SOURCE)[0]
    base, number = pod["metadata"]["name"].rpartition("-")[0], pod["metadata"]["annotations"][labels.INSTANCE]
    world.silent.add(Role.SOURCE)
    left = (LeftAlone(kind="Orphan", count=3, first=("d/one", "two")), LeftAlone(kind="Newer", count=1))
    report = Report(
        instance=int(number),
        epoch=1,
        revision=world.order(Role.SOURCE).revision,
        phase=Phase.REPLICATING,
        left_alone=left,
    )
    world.say(Role.SOURCE, base, report)
    world.pass_once()
    assert world.status()["volumes"][0]["leftAlone"] == [
        {"kind": "Newer", "count": 1, "first": []},
        {"kind": "Orphan", "count": 3, "first": ["d/one", "two"]},
    ]
