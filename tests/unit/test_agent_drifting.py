"""When what a full comparison finds is told as changed on the target, and when nothing is said."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from storagemirror.agent.drifting import Drifting
from storagemirror.agent.view import View
from storagemirror.contract import Drifted
from storagemirror.sync.changes import Drained
from storagemirror.sync.requests import MirrorResult

SECOND = 10**9
NOTHING = Drained()


@dataclass
class Clock:
    now: float = 1_000.0
    ahead: float = 0.0

    def now_ns(self) -> int:
        return int((self.now + self.ahead) * SECOND)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class World:
    def __init__(self) -> None:
        self.clock = Clock()
        self.view = View(1, "uid", self.clock)
        self.drifting = Drifting(self.view, self.clock)

    def compare(self, *found: bytes, unsent: Drained = NOTHING, trusted: bool = True) -> int | None:
        since = self.drifting.since(trusted=trusted)
        began = self.clock.now_ns()
        self.clock.sleep(1.0)
        count = 0 if since is None else len(found)
        result = MirrorResult(began, self.clock.now_ns(), 9, 9, drifted=count, drifted_first=found[:count])
        self.drifting.compared(result, unsent)
        return since

    def settled(self) -> None:
        self.compare()
        self.drifting.drained(NOTHING)
        self.drifting.marking()
        self.drifting.marked(whole=True)

    @property
    def told(self) -> Drifted | None:
        return self.view.sight.drifted


def test_the_first_comparison_of_a_connection_says_nothing() -> None:
    world = World()
    assert world.compare(b"a") is None
    world.drifting.drained(NOTHING)
    assert world.told is None


def test_a_comparison_that_ended_after_the_mark_was_begun_is_of_the_next_one() -> None:
    world = World()
    first = world.clock.now_ns()
    world.compare()
    world.drifting.marking()
    world.compare()
    world.drifting.marked(whole=True)
    assert world.drifting.since(trusted=True) == first


def test_what_is_not_durable_on_the_target_is_no_measure() -> None:
    world = World()
    began = world.clock.now_ns()
    world.compare()
    assert world.drifting.since(trusted=True) is None
    world.drifting.marking()
    world.drifting.marked(whole=True)
    assert world.drifting.since(trusted=True) == began
    world.compare()
    world.drifting.marking()
    world.drifting.marked(whole=False)
    assert world.drifting.since(trusted=True) is None, "something could not be written"


def test_it_is_told_when_the_watch_has_been_asked() -> None:
    world = World()
    world.settled()
    world.compare(b"a", b"d/b")
    assert world.told is None, "not yet"
    world.drifting.drained(NOTHING)
    assert world.told is not None
    assert (world.told.count, world.told.first) == (2, ("a", "d/b"))


@pytest.mark.parametrize(
    "changes",
    [Drained(paths=frozenset({b"d/b"})), Drained(trees=frozenset({b"d"})), Drained(renames=((b"d/c", b"d/b"),))],
    ids=["the file", "the directory that it is in", "a rename"],
)
@pytest.mark.parametrize("before", [True, False])
def test_what_happened_on_the_source_meanwhile_is_no_drift(changes: Drained, before: bool) -> None:
    world = World()
    world.settled()
    world.compare(b"a", b"d/b", unsent=changes if before else NOTHING)
    world.drifting.drained(NOTHING if before else changes)
    assert world.told is not None
    assert (world.told.count, world.told.first) == (1, ("a",))


def test_lost_events_leave_nothing_to_say() -> None:
    world = World()
    world.settled()
    world.compare(b"a")
    world.drifting.drained(Drained(trees=frozenset({b""})))
    assert world.told is None
    assert world.compare(b"a", trusted=False) is None


@pytest.mark.parametrize("by", [-3600.0, 3600.0])
@pytest.mark.parametrize("during", [True, False])
def test_a_clock_that_was_set_leaves_nothing_to_say(by: float, during: bool) -> None:
    world = World()
    world.settled()
    if during:
        world.compare(b"a")
    world.clock.ahead = by
    if not during:
        assert world.compare(b"a") is None
    world.drifting.drained(NOTHING)
    assert world.told is None
