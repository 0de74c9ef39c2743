"""A journal that is torn, changed or incomplete: what was not promised is dropped, what was is told to be lost."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from storagemirror.errors import VolumeError
from storagemirror.fs.journal import segments, slots, steps
from storagemirror.fs.journal.journal import NotPromotable, Promotable
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from tests.support.points import Look, Told, commit, copy, difference, end_of, equal, feed, hold, look, take
from tests.support.trees import picture


class Stage:
    """A target at point 1, and point 2 of several segments in its journal."""

    def __init__(self, tmp_path: Path) -> None:
        self.source, self.target = tmp_path / "source", tmp_path / "target"
        self.source.mkdir()
        self.target.mkdir()
        for number in range(5):
            (self.source / f"f{number}").write_bytes(bytes([number]) * 30_000)
        copy(self.source, self.target)
        self.first: Look = look(self.source)
        with self.claimed() as volume:
            take(volume.journal, [], 1, MIRROR)
        self.before = picture(self.target)
        for number in range(5):
            (self.source / f"f{number}").write_bytes(os.urandom(30_000))
        os.rename(self.source / "f0", self.source / "new name")
        self.records: list[Told] = difference(self.first, look(self.source))
        self.journal = self.target / ".storagemirror/journal"

    def claimed(self) -> TargetVolume:
        volume = TargetVolume.open(str(self.target))
        volume.claim()
        volume.journal.segment_bytes = 20_000
        return volume

    def write(self, *, mark: bool) -> list[Path]:
        """Point 2, committed; `mark`: and promised. Its segments."""
        with self.claimed() as volume:
            commit(volume.journal, self.records, 2)
        if not mark:
            (self.journal / "applying-0000000000000002-1").unlink()
        return sorted(self.journal.glob("0*-*"))

    def recovered(self) -> Promotable | NotPromotable:
        with self.claimed() as volume:
            return volume.promotable()


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def _cut(parts: list[Path]) -> None:
    os.truncate(parts[-1], parts[-1].stat().st_size - 1)


def _cut_to_nothing(parts: list[Path]) -> None:
    os.truncate(parts[0], 0)


def _flip_content(parts: list[Path]) -> None:
    _flip(parts[1], 1000)


def _flip_header(parts: list[Path]) -> None:
    _flip(parts[1], 25)


def _flip_commit(parts: list[Path]) -> None:
    _flip(parts[-1], parts[-1].stat().st_size - 5)


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def _lose(parts: list[Path]) -> None:
    parts[1].unlink()


def _lose_the_first(parts: list[Path]) -> None:
    parts[0].unlink()


def _lose_the_last(parts: list[Path]) -> None:
    parts[-1].unlink()


def _twice(parts: list[Path]) -> None:
    parts[1].write_bytes(parts[0].read_bytes())


def _record_twice(parts: list[Path]) -> None:
    data = parts[1].read_bytes()
    length = segments.HEADER + int.from_bytes(data[28:32], "little")
    parts[1].write_bytes(data[:length] + data)


def _of_another(parts: list[Path]) -> None:
    data = bytearray(parts[1].read_bytes())
    data[4] ^= 1  # its epoch
    parts[1].write_bytes(data)


DAMAGES = [
    *(_cut, _cut_to_nothing, _flip_content, _flip_header, _flip_commit, _lose, _lose_the_first, _lose_the_last),
    *(_twice, _record_twice, _of_another),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_not_promised_is_dropped(stage: Stage, damage: object) -> None:
    parts = stage.write(mark=False)
    assert len(parts) > 3
    damage(parts)  # type: ignore[operator]
    assert stage.recovered() == Promotable(1, 1_000_000_000)
    assert picture(stage.target) == stage.before
    assert not list(stage.journal.glob("0*-*"))
    with stage.claimed() as volume:
        take(volume.journal, stage.records, 3)
    assert equal(stage.source, stage.target) == ""


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_promised_and_cannot_be_read_is_told_and_not_promotable(stage: Stage, damage: object) -> None:
    damage(stage.write(mark=True))  # type: ignore[operator]
    for _ in range(2):
        at = stage.recovered()
        assert isinstance(at, NotPromotable)
        assert at.reason == "JournalDamaged"
    assert picture(stage.target) == stage.before, "nothing of it was applied"
    with stage.claimed() as volume:
        assert volume.journal.base == MIRROR
        take(volume.journal, stage.records, 3, MIRROR)
        assert volume.promotable() == Promotable(3, 3_000_000_000)


def test_a_record_that_is_there_twice_at_the_end_of_a_segment_counts_once(stage: Stage) -> None:
    parts = stage.write(mark=True)
    data = parts[1].read_bytes()
    length = segments.HEADER + int.from_bytes(data[28:32], "little")
    parts[1].write_bytes(data + data[:length])
    assert stage.recovered() == Promotable(2, 2_000_000_000)
    assert equal(stage.source, stage.target) == ""


def test_what_can_be_read_no_more_while_it_is_applied_is_not_taken_for_the_end(stage: Stage) -> None:
    """The journal was whole a moment ago: it is not read twice."""
    with stage.claimed() as volume:
        promised = commit(volume.journal, stage.records, 2)
        _flip_content(sorted(stage.journal.glob("0*-*")))
        with pytest.raises(VolumeError, match="cannot be read"):
            volume.journal.apply(promised)
    at = stage.recovered()
    assert isinstance(at, NotPromotable)
    assert at.reason == "JournalDamaged"


def test_a_commit_without_a_mark_is_applied(stage: Stage) -> None:
    stage.write(mark=False)
    assert stage.recovered() == Promotable(2, 2_000_000_000)
    assert equal(stage.source, stage.target) == ""


def test_a_point_on_another_base_is_dropped(stage: Stage) -> None:
    with stage.claimed() as volume:
        incoming = volume.journal.begin(1, 2, b"x" * 16)
        feed(incoming, stage.records)
        volume.journal.commit(end_of(stage.records, 2, b"x" * 16), lambda gone, new: None)
    (stage.journal / "applying-0000000000000002-1").unlink()
    assert stage.recovered() == Promotable(1, 1_000_000_000)
    assert picture(stage.target) == stage.before


def test_of_a_torn_slot_the_other_one_counts(stage: Stage) -> None:
    with stage.claimed() as volume:
        take(volume.journal, stage.records, 2)
        newest = volume.journal.at.sequence
    _flip(stage.journal / "slots", 4096 * (newest % 2) + 30)
    at = stage.recovered()
    assert isinstance(at, Promotable)
    assert at.number == 1, "no more than is known is claimed"


def test_both_slots_torn_is_no_point(stage: Stage) -> None:
    _flip(stage.journal / "slots", 30)
    _flip(stage.journal / "slots", 4096 + 30)
    at = stage.recovered()
    assert isinstance(at, NotPromotable)
    assert at.reason == "NoPoint"


def test_slots_are_written_in_turn(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for number in range(1, 5):
        slots.write(fd, slots.At(number, number))
        found = slots.read(fd)
        assert found is not None
        assert found.number == number
    _flip(tmp_path / "slots", 30)
    found = slots.read(fd)
    assert found is not None
    assert found.number == 3
    os.close(fd)


def test_a_mark_is_one_step_after_the_other(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    assert steps.read(fd) is None
    mark = steps.begin(fd, 7)
    for step in (steps.Step.HOLD, steps.Step.PLACE, steps.Step.FINISH):
        mark = steps.advance(fd, mark, step)
        assert steps.read(fd) == (7, step)
    steps.end(fd, mark)
    assert os.listdir(tmp_path) == []
    assert segments.segments(fd) == {}
    os.close(fd)


@pytest.mark.parametrize("promised", [True, False])
def test_a_point_that_is_held_and_cannot_be_read_any_more_is_told_where_it_was_promised(
    stage: Stage, promised: bool
) -> None:
    with stage.claimed() as volume:
        hold(volume.journal, stage.records, 2, 7)
    mark = stage.journal / "held-0000000000000002"
    assert mark.exists()
    if not promised:
        mark.unlink()
    path = sorted(stage.journal.glob("0*-*"))[1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = stage.recovered()
    if promised:
        assert isinstance(found, NotPromotable)
        assert found.reason == "JournalDamaged"
    else:
        assert found == Promotable(1, 1_000_000_000)
    assert picture(stage.target) == stage.before
    assert sorted(p.name for p in stage.journal.iterdir() if p.is_file()) == ["slots"]
    assert stage.recovered() == found, "it is found out once"


def test_a_held_point_of_which_nothing_is_left_is_told(stage: Stage) -> None:
    with stage.claimed() as volume:
        hold(volume.journal, stage.records, 2, 7)
    for path in stage.journal.glob("0*-*"):
        path.unlink()
    found = stage.recovered()
    assert isinstance(found, NotPromotable)
    assert found.reason == "JournalDamaged"


def _delete(target: Path) -> None:
    (target / "f1").unlink()


def _delete_what_moves(target: Path) -> None:
    (target / "f0").unlink()


def _put_a_directory_there(target: Path) -> None:
    (target / "f2").unlink()
    (target / "f2").mkdir()


def _lead_elsewhere(target: Path) -> None:
    (target / "f3").unlink()
    (target / "f3").symlink_to(_elsewhere(target))


def _elsewhere(target: Path) -> Path:
    """A file that is nobody's but this test's."""
    return target.parent / "elsewhere"


@pytest.mark.parametrize("change", [_delete, _delete_what_moves, _put_a_directory_there, _lead_elsewhere])
def test_a_promised_point_that_no_longer_fits_the_copy_is_told_and_the_next_mirror_mends_it(
    stage: Stage, change: object
) -> None:
    """Somebody changed the copy while no agent was there to see it."""
    stage.write(mark=True)
    _elsewhere(stage.target).write_bytes(b"not ours")
    change(stage.target)  # type: ignore[operator]
    for _ in range(2):
        at = stage.recovered()
        assert isinstance(at, NotPromotable)
        assert at.reason == "TargetChanged"
        assert "point 2, which was acknowledged, does not fit it any more" in at.message
    assert _elsewhere(stage.target).read_bytes() == b"not ours"
    with stage.claimed() as volume:
        assert volume.journal.base == MIRROR
        assert volume.journal.changed_since_ns == 1, "the next mirror believes no file's time"
    mirror = ("rsync", "-aHAXc", "--delete", "--exclude=/.storagemirror", f"{stage.source}/", f"{stage.target}/")
    subprocess.run(mirror, check=True)
    with stage.claimed() as volume:
        take(volume.journal, [], 3, MIRROR)
        assert volume.promotable() == Promotable(3, 3_000_000_000)
