"""When what a full comparison finds is told as changed on the target, and when nothing is said."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from storagemirror.agent.drifting import Drifting
from storagemirror.agent.view import View
from storagemirror.contract import Drifted, Missed
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

    def find_late(self, *found: bytes) -> None:
        """A comparison that finds these, changed on the source some time before it."""
        since = self.drifting.since(trusted=True)
        began = self.clock.now_ns()
        self.clock.sleep(1.0)
        result = MirrorResult(began, self.clock.now_ns(), 9, 9, late_first=found if since is not None else ())
        self.drifting.compared(result, NOTHING)

    def settled(self) -> None:
        self.compare()
        self.drifting.drained(NOTHING)
        self.drifting.marking()
        self.drifting.marked(whole=True)

    @property
    def missed(self) -> Missed | None:
        return self.view.sight.missed

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


# -- what nothing had named


def test_a_late_file_that_nothing_named_was_missed() -> None:
    world = World()
    world.settled()
    world.find_late(b"a", b"b\xff")
    assert world.missed is None or world.missed.count == 0, "the watch has not been asked yet"
    world.drifting.drained(NOTHING)
    assert world.missed is not None
    assert world.missed.count == 2
    assert world.missed.first == ("a", r"b\xff")
    assert world.missed.at
    assert world.told == Drifted(), "that is no change of the target"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["path", "tree", "rename"])
def test_what_was_named_at_any_time_was_not_missed(when: str, how: str) -> None:
    named = {
        "path": Drained(paths=frozenset({b"d/a"})),
        "tree": Drained(trees=frozenset({b"d"})),
        "rename": Drained(renames=((b"x", b"d/a"),)),
    }[how]
    world = World()
    world.settled()
    if when == "before":
        world.drifting.drained(named)
    world.find_late(b"d/a")
    world.drifting.drained(named if when == "after" else NOTHING)
    assert world.missed == Missed()


def test_names_of_long_ago_hide_nothing() -> None:
    world = World()
    world.settled()
    world.drifting.drained(Drained(paths=frozenset({b"a"})))
    for _ in range(2):
        world.settled()
    world.find_late(b"a")
    world.drifting.drained(NOTHING)
    assert world.missed is not None
    assert world.missed.count == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_where_everything_was_named_nothing_was_missed(when: str) -> None:
    world = World()
    world.settled()
    if when == "before":
        world.drifting.drained(Drained(trees=frozenset({b""})))
    world.find_late(b"a")
    world.drifting.drained(Drained(trees=frozenset({b""})) if when == "after" else NOTHING)
    assert not (world.missed and world.missed.count)


def test_the_next_comparison_has_another_word() -> None:
    world = World()
    world.settled()
    world.find_late(b"a")
    world.drifting.drained(NOTHING)
    world.settled()
    assert world.missed == Missed()
