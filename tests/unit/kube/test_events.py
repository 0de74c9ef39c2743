"""Events say the same thing once, and never stand in the way."""

from __future__ import annotations

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.reasons import HINTS, Reason
from storagemirror.kube.events import Events
from storagemirror.plan.decisions import EventType, Note
from tests.support.world import World

FULL = Note(EventType.WARNING, Reason.TARGET_FULL, "No space left on the target.")


def pair(world: World) -> MirrorPair:
    world.usual()
    return MirrorPair.read(world.api.all("mirrorpairs")[0])


def test_an_event_names_the_pair_and_what_to_do() -> None:
    world = World()
    Events(world.api, world.clock).say(pair(world), FULL)
    found = world.api.all("events")[0]
    assert found["involvedObject"]["uid"] == pair(world).metadata.uid
    assert (found["type"], found["reason"]) == ("Warning", "TargetFull")
    assert HINTS[Reason.TARGET_FULL] in found["message"]


def test_what_is_said_again_is_counted() -> None:
    world = World()
    one = pair(world)
    for _ in range(3):
        Events(world.api, world.clock).say(one, FULL)
    assert [e["count"] for e in world.api.all("events")] == [3]


def test_what_cannot_be_said_stops_nothing() -> None:
    world = World()
    one = pair(world)
    world.api.down = True
    Events(world.api, world.clock).say(one, FULL)
    world.api.down = False
    assert world.api.all("events") == []
