"""Points of a group over a connection: the target holds them back until it is told what becomes of them, or a promotion
settles it. The source is played frame by frame."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from storagemirror.agent.view import point_of
from storagemirror.clock import SystemClock
from storagemirror.contract import CopyPoint, SettleOrder
from storagemirror.entry import Attributes
from storagemirror.errors import VolumeError
from storagemirror.fs.journal.journal import Promotable
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from storagemirror.sync import handover
from storagemirror.sync.copywatch import CopyWatch
from storagemirror.wire import messages as m
from storagemirror.wire.content import Enter, Leave
from tests.support.engine import expectation
from tests.support.points import Look, difference, equal, look
from tests.support.pointsource import Source, session

GROUP = 40


def _where(target: Path) -> CopyPoint:
    """As the agent reports it, once it has looked."""
    with TargetVolume.open(str(target)) as volume:
        assert handover.known(volume, expectation()) is not None
        handover.finish_point(volume, expectation())
        found = point_of(volume)
        assert found is not None
        return found


@dataclass
class Holding:
    """What the source was at point 1 and at point 2, and their digests."""

    first: Look
    now: Look
    before: bytes
    digest: bytes


def _holding(at: Source, source: Path, target: Path) -> Holding:
    """The target is at point 1, of group 39, and holds point 2, of group 40."""
    (source / "file").write_text("of point 1")
    first = look(source)
    at.mirror(0)
    before = at.held(difference(None, first), 1, MIRROR, GROUP - 1)
    at.channel.send(m.PointRelease(1))
    assert at.hear(m.PointApplied) == m.PointApplied(1)
    (source / "file").write_text("of point 2")
    (source / "new").write_text("of point 2")
    now = look(source)
    digest = at.held(difference(first, now), 2, before, GROUP)
    assert (target / "file").read_text() == "of point 1"
    return Holding(first, now, before, digest)


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    return source, target


def test_it_is_applied_when_it_is_released_and_known_to_the_next_session_until_then(ends: tuple[Path, Path]) -> None:
    source, target = ends
    with session(target) as at:
        assert not at.welcome.point_held
        was = _holding(at, source, target)
    assert (_where(target).number, _where(target).group) == (1, GROUP - 1)
    with session(target) as at:
        told = (at.welcome.point, at.welcome.point_digest, at.welcome.point_at_ns, at.welcome.point_held)
        assert told == (2, was.digest, 20, True)
        at.channel.send(m.PointRelease(2))
        assert at.hear(m.PointApplied) == m.PointApplied(2)
        at.channel.send(m.PointRelease(2))  # said again after a break: nothing is to be done
        (source / "new").write_text("of point 3")
        at.held(difference(was.now, look(source)), 3, was.digest, GROUP + 1)
        at.channel.send(m.PointRelease(3))
        assert at.hear(m.PointApplied) == m.PointApplied(3)
    assert equal(source, target) == ""


def test_it_is_reported_beside_the_point_that_the_copy_is_at(ends: tuple[Path, Path]) -> None:
    source, target = ends
    with session(target) as at:
        _holding(at, source, target)
    told = _where(target)
    assert (told.promotable, told.number, told.group) == (True, 1, GROUP - 1)
    assert (told.held_number, told.held_group) == (2, GROUP)
    assert (told.held_at, told.held_group_at) == ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:00.000000Z")
    with TargetVolume.open(str(target)) as volume:
        before = handover.known(volume, expectation()).through_ns
        assert before == 10, "what is not applied is promised as durable"
        assert handover.drain(volume, expectation()).through_ns == 10


def test_one_that_is_dropped_leaves_the_copy_where_it_was_and_the_next_builds_on_that(ends: tuple[Path, Path]) -> None:
    source, target = ends
    with session(target) as at:
        was = _holding(at, source, target)
        at.channel.send(m.PointRelease(2, drop=True))
        assert at.refused([], 3, was.digest).reason is m.FailureReason.CONFLICT
        assert (target / "file").read_text() == "of point 1"
        assert not (target / "new").exists()
    assert _where(target).held_number == 0
    with session(target) as at:
        assert (at.welcome.point, at.welcome.point_digest, at.welcome.point_held) == (1, was.before, False)
        (source / "new").write_text("of point 4")
        at.held(difference(was.first, look(source)), 4, was.before, GROUP + 1)
        at.channel.send(m.PointRelease(4))
        assert at.hear(m.PointApplied) == m.PointApplied(4)
    assert equal(source, target) == ""


def test_a_point_without_a_group_is_applied_at_once(ends: tuple[Path, Path]) -> None:
    source, target = ends
    (source / "file").write_text("x")
    with session(target) as at:
        at.mirror(0)
        at.point(difference(None, look(source)), 1, MIRROR)
    assert equal(source, target) == ""


def test_a_source_of_an_older_release_releases_nothing_and_need_not(ends: tuple[Path, Path]) -> None:
    source, target = ends
    (source / "file").write_text("x")
    with session(target, features=tuple(f for f in m.FEATURES if f != m.FEATURE_HOLD)) as at:
        at.mirror(0)
        at.held(difference(None, look(source)), 1, MIRROR, GROUP)
        assert at.hear(m.PointApplied) == m.PointApplied(1)
    assert equal(source, target) == ""


@pytest.mark.parametrize("what", ["mirror", "look", "change", "point"])
def test_whatever_else_is_done_finds_it_applied(ends: tuple[Path, Path], what: str) -> None:
    """A source agent that knows nothing of it comes: compared with the point before, the copy would look right to it,
    and the point would be applied afterwards."""
    source, target = ends
    with session(target) as at:
        was = _holding(at, source, target)
    with session(target) as at:
        if what == "mirror":
            at.channel.send(m.Mirror(at.welcome.view, (b"",), digests=False))
        elif what == "look":
            at.channel.send(m.Look([b"file"]))
        elif what == "change":
            at.channel.send_pack([Enter(b"d"), Leave(Attributes(0o40755, 0, 0, 7))], [])
        else:
            (source / "new").write_text("of point 3")
            at.tell(difference(was.now, look(source)), 3, was.digest, GROUP + 1)
        assert at.hear(m.PointApplied) == m.PointApplied(2)
        assert (target / "file").read_text() == "of point 2"
        if what == "look":
            answer = at.hear(m.Looked)
            assert isinstance(answer, m.Looked)
            assert answer.entries[0] is not None
            assert answer.entries[0].mtime_ns == os.stat(source / "file").st_mtime_ns
        if what == "point":
            assert isinstance(at.hear(m.PointDurable), m.PointDurable)


def test_a_copy_that_somebody_changed_meanwhile_is_not_brought_there(ends: tuple[Path, Path]) -> None:
    source, target = ends

    def watch(volume: TargetVolume) -> None:
        volume.others = CopyWatch(volume.tree, SystemClock(), lambda changed: None)

    with session(target, watch=watch) as at:
        _holding(at, source, target)
        (target / "file").unlink()
        at.channel.send(m.PointRelease(2))
        answer = at.hear(m.PointRefused)
        assert isinstance(answer, m.PointRefused)
        assert answer.reason is m.FailureReason.CONFLICT
    assert not (target / "new").exists()
    told = _where(target)
    assert (told.promotable, told.reason, told.held_number) == (False, "TargetChanged", 0)


# a promotion


def _held(ends: tuple[Path, Path]) -> Path:
    source, target = ends
    with session(target) as at:
        _holding(at, source, target)
    return target


def _promote(target: Path, settle: SettleOrder | None) -> handover.Settled:
    with TargetVolume.open(str(target)) as volume:
        return handover.promote(volume, dataclasses.replace(expectation(2), settle=settle))


@pytest.mark.parametrize(
    ("settle", "text", "through"),
    [
        (SettleOrder(group=GROUP), "of point 2", 20),
        (SettleOrder(group=GROUP - 1), "of point 1", 10),
        (SettleOrder(), "of point 2", 20),
        (None, "of point 1", 10),
    ],
    ids=["the one that is held", "the one before", "none that all can be at", "an older operator"],
)
def test_a_promotion_settles_it_first(
    ends: tuple[Path, Path], settle: SettleOrder | None, text: str, through: int
) -> None:
    target = _held(ends)
    settled = _promote(target, settle)
    assert (settled.doubt, settled.through_ns) == ("", through)
    assert (target / "file").read_text() == text
    assert (target / "new").exists() is (text == "of point 2")
    assert not [n for n in os.listdir(target / ".storagemirror/journal") if n not in ("obj", "stage", "gone", "slots")]
    again = _promote(target, settle)  # the order is read again
    assert again.doubt == ""
    assert (target / "file").read_text() == text


def test_a_copy_that_can_be_at_neither_is_not_promoted(ends: tuple[Path, Path]) -> None:
    target = _held(ends)
    with pytest.raises(VolumeError) as refused:
        _promote(target, SettleOrder(group=GROUP + 1))
    assert refused.value.reason == "TargetInDoubt"
    with TargetVolume.open(str(target)) as volume:
        marker = volume.marker()
        assert marker is not None
        assert marker.promoted is None
        assert isinstance(volume.promotable(), Promotable)
    assert (target / "file").read_text() == "of point 1"
    assert _promote(target, SettleOrder(group=GROUP)).doubt == ""


def test_what_was_held_when_it_became_the_live_side_never_comes_upon_it(ends: tuple[Path, Path]) -> None:
    """As if the drop had not reached the disk: the marker says that it was promoted, and the journal is still there."""
    target = _held(ends)
    journal = target / ".storagemirror/journal"
    kept = {p.name: p.read_bytes() for p in journal.iterdir() if p.is_file()}
    _promote(target, SettleOrder(group=GROUP - 1))
    for name, data in kept.items():
        (journal / name).write_bytes(data)
    (target / "file").write_text("of the time as the live side")
    with session(target, expectation(3)) as at:
        assert (at.welcome.point_digest, at.welcome.point_held) == (MIRROR, False)
        at.mirror(0)
    assert (target / "file").read_text() == "of the time as the live side"
    assert not (target / "new").exists()
