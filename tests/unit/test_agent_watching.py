"""What a target's agent tells of what others did to a copy that is kept by points, and for how long."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storagemirror.agent.view import View
from storagemirror.agent.watching import Watching
from storagemirror.clock import rfc3339
from storagemirror.contract import Drifted, Order, Role
from storagemirror.fs.journal.journal import NotPromotable, Promotable
from storagemirror.fs.journal.others import CHANGED
from storagemirror.fs.marker import Marker
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from storagemirror.sync.requests import Expectation
from tests.support.points import copy, difference, look, take

QUIET = 600.0
ORDER = Order(
    pair_uid="uid", pair_name="p", namespace="n", volume="data", role=Role.TARGET, revision=1, instance=1, epoch=1
)


@dataclass
class Clock:
    now: float = 1_000.0

    def now_ns(self) -> int:
        return int(self.now * 1e9)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """The thread of the watch: it takes nothing that a test has not asked for."""


@dataclass
class World:
    source: Path
    target: Path
    clock: Clock = field(default_factory=Clock)
    woken: int = 0

    def start(self) -> None:
        """A new agent."""
        self.view = View(1, "uid", self.clock)
        self.watching = Watching(self.view, self.clock, QUIET, self.found)
        self.open()

    def open(self) -> None:
        self.volume = TargetVolume.open(str(self.target))
        self.watching.open(self.volume)

    def found(self) -> None:
        self.woken += 1

    def begin(self) -> None:
        self.watching.begin(self.volume, ORDER, self.expect)

    @property
    def expect(self) -> Expectation:
        return Expectation.from_order(ORDER, 0)

    def settle(self) -> None:
        self.watching.settle(self.volume, self.expect)

    def close(self) -> None:
        self.watching.close()
        self.volume.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A copy at a point, of an agent that has gone."""
    source, target = tmp_path / "source", tmp_path / "target"
    for root in (source, target):
        root.mkdir()
    (source / "a").write_text("a")
    copy(source, target)
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        take(volume.journal, difference(None, look(source)), 1, MIRROR)
        volume.write_marker(Marker(pair_uid="uid", volume="data", epoch=1, source=volume.identity, entries=1))
    made = World(source, target)
    made.start()
    yield made
    made.close()


def test_a_new_agent_says_nothing_until_it_has_watched_for_long_enough(world: World) -> None:
    world.begin()
    assert world.watching.report() is None
    world.clock.now += QUIET - 1
    assert world.watching.report() is None
    world.clock.now += 1
    assert world.watching.report() == Drifted()


def test_a_finding_is_told_with_its_time_and_the_volume_is_no_point(world: World) -> None:
    world.begin()
    at = rfc3339(world.clock.now_ns())
    (world.target / "a").write_text("by somebody")
    world.settle()
    assert world.watching.report() == Drifted(at=at, count=1, first=("a",))
    assert not world.watching.unsettled
    found = world.volume.promotable()
    assert isinstance(found, NotPromotable)
    assert found.reason == CHANGED
    world.clock.now += 5
    (world.target / "b").write_text("by somebody")
    world.settle()
    assert world.watching.report() == Drifted(at=at, count=2, first=("a", "b")), "it is one finding"
    assert world.woken == 1, "and the connection is ended once"


def test_what_a_session_has_noted_is_not_noted_once_more_when_it_has_ended(world: World) -> None:
    """By then it may be mended."""
    world.begin()
    (world.target / "a").write_text("by somebody")
    changed = world.volume.others.changed()
    assert changed is not None
    assert world.watching.unsettled
    world.watching.noted(changed)
    assert not world.watching.unsettled
    world.settle()
    assert isinstance(world.volume.promotable(), Promotable)


def test_what_is_about_to_be_mended_stays_told_until_it_is_and_for_some_time_after(world: World) -> None:
    world.begin()
    (world.target / "a").write_text("by somebody")
    world.settle()
    told = world.watching.report()
    assert world.volume.others.renew() is not None
    assert world.volume.others.changed() is None, "it counts anew"
    world.clock.now += 2 * QUIET
    assert world.watching.report() == told, "the mirror that mends it may take long"
    world.volume.others.mended()
    assert world.watching.report() == told
    world.clock.now += QUIET
    assert world.watching.report() == Drifted()
    world.volume.others.mended()
    assert world.watching.report() == Drifted(), "it is once mended"


def test_it_stays_told_while_nobody_mends_it_and_for_some_time_after(world: World) -> None:
    world.begin()
    (world.target / "a").write_text("by somebody")
    world.settle()
    told = world.watching.report()
    world.clock.now += 10 * QUIET
    assert world.watching.report() == told, "nothing was mended"
    world.volume.others.disarm()
    assert world.watching.report() == told, "it is mirrored"
    world.volume.others.arm(None)
    assert world.watching.report() == told
    world.clock.now += QUIET
    assert world.watching.report() == Drifted()


def test_what_was_found_is_not_forgotten_when_the_volume_is_opened_anew(world: World) -> None:
    world.begin()
    (world.target / "a").write_text("by somebody")
    world.volume.others.changed()
    assert world.watching.unsettled
    world.close()
    world.open()
    assert isinstance(world.volume.promotable(), Promotable), "nobody has told it yet"
    world.settle()
    assert isinstance(world.volume.promotable(), NotPromotable)
    assert not world.watching.unsettled


def test_a_copy_of_another_pair_is_neither_watched_nor_touched(world: World) -> None:
    world.volume.claim()
    marker = world.volume.marker()
    assert marker is not None
    world.volume.write_marker(Marker(pair_uid="else", volume="data", epoch=1, source=marker.source, entries=1))
    world.begin()
    assert not world.volume.others.armed


def test_a_copy_at_no_point_is_not_watched(world: World) -> None:
    world.volume.claim()
    world.volume.journal.spoil("Mirroring", "of a mirror")
    world.begin()
    assert not world.volume.others.armed
    assert world.watching.report() is None


def test_why_it_cannot_be_watched_is_told(world: World) -> None:
    world.begin()
    shutil.rmtree(world.target)
    world.volume.others.changed()
    assert not world.volume.others.armed
    told = world.watching.report()
    assert told is not None
    assert "root is not there" in told.unwatched
    world.clock.now += 2 * QUIET
    assert world.watching.report() != Drifted(), "nothing is promised of what is not watched"


def test_a_copy_that_is_kept_otherwise_is_left_to_the_comparisons(world: World) -> None:
    world.begin()
    (world.target / "a").write_text("by somebody")
    world.settle()
    world.volume.others.disarm()
    world.clock.now += QUIET - 1
    assert world.watching.report() is not None
    world.clock.now += 1
    assert world.watching.report() is None
