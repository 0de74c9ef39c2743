"""Points over a connection: what the target answers, keeps and refuses. The source is played frame by frame."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from storagemirror.agent.view import point_of
from storagemirror.contract import CopyPoint
from storagemirror.entry import Attributes
from storagemirror.fs.journal.journal import NotPromotable, Promotable
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from storagemirror.sync import handover
from storagemirror.sync.telling_points import PointTeller
from storagemirror.wire import messages as m
from storagemirror.wire.content import Enter, Leave
from tests.support.disks import disk
from tests.support.engine import expectation, promote
from tests.support.points import Look, difference, equal, look
from tests.support.pointsource import say, session
from tests.support.trees import everything, picture


def _reported(target: Path) -> CopyPoint | None:
    with TargetVolume.open(str(target)) as volume:
        return point_of(volume)


def _where(target: Path) -> Promotable | NotPromotable:
    with TargetVolume.open(str(target)) as volume:
        return volume.promotable()


def _tree(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    return source, target


def _with_files(tmp_path: Path, files: int = 30) -> tuple[Path, Path, Look]:
    source, target = _tree(tmp_path)
    (source / "d").mkdir()
    for number in range(files):
        (source / f"d/f{number}").write_bytes(b"%d" % number * 1000)
    return source, target, look(source)


def test_points_are_acknowledged_applied_and_known_to_the_next_session(tmp_path: Path) -> None:
    source, target = _tree(tmp_path)
    everything(source)
    first = look(source)
    with session(target) as at:
        assert (at.welcome.point, at.welcome.point_digest) == (0, MIRROR)
        at.mirror(0)
        digest = at.point(difference(None, first), 5, MIRROR)
        assert equal(source, target) == ""
    assert _where(target) == Promotable(5, 50)
    os.rename(source / "a/b", source / "e/b")
    with session(target) as at:
        assert (at.welcome.point, at.welcome.point_digest, at.welcome.point_at_ns) == (5, digest, 50)
        at.point(difference(first, look(source)), 6, digest)
    assert equal(source, target) == ""
    assert _where(target) == Promotable(6, 60)


def test_a_point_whose_base_is_not_where_the_target_is_is_refused(tmp_path: Path) -> None:
    source, target, first = _with_files(tmp_path)
    with session(target) as at:
        assert at.refused(difference(None, first), 1, MIRROR).reason is m.FailureReason.CONFLICT  # no mirror yet
        at.mirror(0)
        digest = at.point(difference(None, first), 2, MIRROR)
        assert at.refused([], 3, b"x" * 16).reason is m.FailureReason.CONFLICT
        assert at.refused([], 3, MIRROR).reason is m.FailureReason.CONFLICT
        assert at.refused([], 2, digest).reason is m.FailureReason.OTHER  # had before
        at.point([], 4, digest)
    assert equal(source, target) == ""


def test_what_somebody_changed_on_the_target_refuses_a_point_that_builds_on_it(tmp_path: Path) -> None:
    source, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        digest = at.point(difference(None, first), 1, MIRROR)
        os.unlink(target / "d/f3")
        (source / "d/f3").write_text("changed")
        answer = at.refused(difference(first, look(source)), 2, digest)
        assert (answer.reason, answer.path) == (m.FailureReason.CONFLICT, b"d/f3")
    assert _where(target) == Promotable(1, 10)


def test_a_point_that_deletes_too_much_is_held_before_anything_is_deleted(tmp_path: Path) -> None:
    source, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        digest = at.point(difference(None, first), 1, MIRROR)
        at.mirror(31)
        for number in range(20):
            os.unlink(source / f"d/f{number}")
        at.tell(difference(first, look(source)), 2, digest)
        held = at.hear(m.Hold)
        assert isinstance(held, m.Hold)
        assert held.reason is m.HoldReason.MASS_DELETE
    assert len(os.listdir(target / "d")) == 30
    assert _where(target) == Promotable(1, 10)
    with session(target, expectation(confirm=held.token)) as at:
        at.point(difference(first, look(source)), 3, digest)
    assert len(os.listdir(target / "d")) == 10


def test_moving_everything_deletes_nothing(tmp_path: Path) -> None:
    source, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        digest = at.point(difference(None, first), 1, MIRROR)
        at.mirror(31)
        (source / "new").mkdir()
        for number in range(30):
            os.rename(source / f"d/f{number}", source / f"new/f{number}")
        (source / "d").rmdir()
        at.point(difference(first, look(source)), 2, digest)
    assert equal(source, target) == ""


def test_changes_outside_of_points_leave_no_point_until_the_next_after_a_mirror(tmp_path: Path) -> None:
    _source, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        digest = at.point(difference(None, first), 1, MIRROR)
        at.channel.send_pack([Enter(b"d"), Leave(Attributes(0o40755, 0, 0, 7))], [])
        assert at.refused([], 2, digest).reason is m.FailureReason.CONFLICT
        where = _where(target)
        assert isinstance(where, NotPromotable)
        assert where.reason == "Mirroring"
    with session(target) as at:
        assert at.welcome.point_digest == MIRROR
        at.mirror(31)
        assert isinstance(_where(target), NotPromotable), "a mirror is no point"
        at.point([], 3, MIRROR)
    assert _where(target) == Promotable(3, 30)


def test_a_point_that_broke_off_leaves_nothing(tmp_path: Path) -> None:
    source, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        digest = at.point(difference(None, first), 1, MIRROR)
        before = picture(target)
        (source / "d/f0").write_text("changed")
        (source / "d/another").write_text("new")
        now = look(source)
        say(PointTeller(at.channel, 2, digest), difference(first, now))
        at.channel.close()
    assert picture(target) == before
    with session(target) as at:
        assert at.welcome.point_digest == digest
        teller = PointTeller(at.channel, 3, digest)
        say(teller, difference(first, now))
        teller.drop()
        assert at.tell(difference(first, now), 4, digest)
        at.hear(m.PointDurable)
        at.hear(m.PointApplied)
    assert equal(source, target) == ""


def test_records_that_are_not_those_the_source_told_of_are_refused(tmp_path: Path) -> None:
    _, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        teller = PointTeller(at.channel, 1, MIRROR)
        say(teller, difference(None, first))
        teller._digest.records += 1
        teller.end(1)
        answer = at.hear(m.PointRefused)
        assert isinstance(answer, m.PointRefused)
        assert answer.reason is m.FailureReason.DAMAGED
    assert os.listdir(target) == [".storagemirror"]


def test_a_full_target_stays_at_the_point_before_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "small").write_bytes(os.urandom(100_000))
    first = look(source)
    with disk(tmp_path, "ext4", 40) as made:
        with session(made.path) as at:
            at.mirror(0)
            digest = at.point(difference(None, first), 1, MIRROR)
            before = picture(made.path)
            (source / "large").write_bytes(os.urandom(20 << 20))
            now = look(source)
            answer = at.refused(difference(first, now), 2, digest)
            assert answer.reason is m.FailureReason.FULL
            assert picture(made.path) == before
            (source / "small").write_bytes(os.urandom(90_000))
            os.truncate(source / "large", 1 << 20)
            digest = at.point(difference(first, look(source)), 3, digest)  # what fits is taken
            assert equal(source, made.path) == ""
        assert _where(made.path) == Promotable(3, 30)
        now = look(source)
        (source / "large").write_bytes(os.urandom(20 << 20))
        made.grow_unmounted(160)
        with session(made.path) as at:
            at.point(difference(now, look(source)), 4, digest)
        assert equal(source, made.path) == ""


def test_the_agent_reports_at_which_point_the_copy_is_and_why_at_none(tmp_path: Path) -> None:
    _, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        assert _reported(target) is None
        at.point(difference(None, first), 1, MIRROR)
        assert _reported(target) == CopyPoint(promotable=True, number=1, at="1970-01-01T00:00:00.000000Z")
        at.channel.send_pack([Enter(b"d"), Leave(Attributes(0o40755, 0, 0, 7))], [])
    told = _reported(target)
    assert told is not None
    assert (told.promotable, told.reason) == (False, "Mirroring")
    (target / ".storagemirror/journal/applying-0000000000000002-3").touch()
    told = _reported(target)
    assert told is not None
    assert (told.promotable, told.reason) == (False, "BetweenPoints")


def test_a_copy_that_is_promoted_between_points_says_so(tmp_path: Path) -> None:
    _, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        at.point(difference(None, first), 1, MIRROR)
        at.channel.send_pack([Enter(b"d"), Leave(Attributes(0o40755, 0, 0, 7))], [])
    assert "Mirroring" in promote(target).doubt


def test_a_copy_that_was_the_live_side_is_at_no_point_until_the_next_one(tmp_path: Path) -> None:
    """An application has written it; a mirror that finds nothing to change does not make it that point again."""
    _, target, first = _with_files(tmp_path)
    with session(target) as at:
        at.mirror(0)
        at.point(difference(None, first), 1, MIRROR)
    assert promote(target).doubt == ""
    told = _reported(target)
    assert told is not None
    assert (told.promotable, told.reason) == (False, "Mirroring")
    with session(target, expectation(3)) as at:
        at.mirror(0)
    told = _reported(target)
    assert told is not None
    assert (told.promotable, told.reason) == (False, "Mirroring")
    with session(target, expectation(3)) as at:
        at.mirror(0)
        at.point([], 2, MIRROR)
    assert _reported(target) == CopyPoint(promotable=True, number=2, at="1970-01-01T00:00:00.000000Z")


def test_a_copy_that_was_proven_equal_is_promoted_between_points_without_a_doubt(tmp_path: Path) -> None:
    """But not where the disk failed: a proof reads what the kernel has in memory."""
    for reason, doubted in (("Mirroring", False), ("JournalDamaged", False), ("SyncFailed", True)):
        at = tmp_path / reason
        at.mkdir()
        _, target, first = _with_files(at)
        with session(target) as source:
            source.mirror(0)
            source.point(difference(None, first), 1, MIRROR)
        with TargetVolume.open(str(target)) as volume:
            volume.claim()
            volume.journal.spoil(reason, "for a test")
        with TargetVolume.open(str(target)) as volume:
            settled = handover.promote(volume, dataclasses.replace(expectation(2), proven=True))
        assert (reason in settled.doubt) == doubted
