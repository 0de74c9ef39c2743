"""A target that is killed, or loses its power, at any step of a point: it ends at exactly one point, never between."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from storagemirror.fs import locks, marker, place, remove, xattrs
from storagemirror.fs.journal import journal, making, naming, segments, slots, steps, work
from storagemirror.fs.journal.journal import Promotable
from storagemirror.fs.journal.steps import Step
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from tests.support.disks import after_power_cut, disk
from tests.support.mortal import CHANGES, killed_at
from tests.support.points import Look, Told, commit, copy, difference, look, take
from tests.support.power_disk import power_disk
from tests.support.powercut_points import cut_and_recover, tell_points
from tests.support.trees import picture

MODULES = (segments, slots, steps, work, making, naming, place, remove, xattrs, marker, locks, journal)
Picture = dict[bytes, tuple[object, ...]]


def _first(root: Path) -> None:
    """A tree."""
    for name in ("a/b/c", "d/e", "f", "gone/deep/deeper", "g"):
        (root / name).mkdir(parents=True)
    for number, name in enumerate(("a/one", "a/b/two", "a/b/c/three", "d/four", "d/e/five", "gone/deep/six", "seven")):
        (root / name).write_bytes(bytes([65 + number]) * 9000)
    os.link(root / "a/one", root / "f/one too")
    os.symlink("../one", root / "a/b/link")
    os.mkfifo(root / "fifo")
    (root / "g/kind").write_text("a file")
    os.setxattr(root / "a", "user.x", b"1")


def _second(root: Path) -> None:
    """What hurts: directories swapped, in a circle, one into another; a name that becomes another kind; links; cuts."""
    os.rename(root / "a/b", root / "aside")
    os.rename(root / "d", root / "a/b")
    os.rename(root / "aside", root / "d")  # a/b and d are swapped
    os.rename(root / "d/c", root / "c")
    os.rename(root / "a", root / "c/a")  # one above into what was below it
    shutil.rmtree(root / "gone/deep")
    os.rename(root / "gone", root / "new name")
    os.unlink(root / "g/kind")
    (root / "g/kind").mkdir()
    (root / "g/kind/inside").write_bytes(b"new" * 3000)
    os.link(root / "seven", root / "g/seven too")
    with open(root / "d/two", "r+b") as file:
        file.write(b"changed")
        file.truncate(30_000)
    os.truncate(root / "c/three", 10)
    os.unlink(root / "f/one too")
    os.rename(root / "c/a/b/four", root / "c/a/b/e/five")
    os.unlink(root / "fifo")
    (root / "fifo").symlink_to("elsewhere")
    os.chmod(root / "c", 0o711)
    os.removexattr(root / "c/a", "user.x")
    os.setxattr(root / "seven", "user.y", b"2")


class Stage:
    """A target that goes from one state to the other and back, point by point."""

    def __init__(self, source: Path, target: Path) -> None:
        self.target = target
        self.looks: list[Look] = []
        self.pictures: list[Picture] = []
        _first(source)
        copy(source, target)
        self._remember(source)
        _second(source)
        self._remember(source)
        self.number = 1
        with TargetVolume.open(str(target)) as volume:
            volume.claim()
            take(volume.journal, [], 1, MIRROR)

    def _remember(self, source: Path) -> None:
        self.looks.append(look(source))
        self.pictures.append(picture(source))

    def where(self, tree: Path | None = None) -> int:
        """0 or 1; AssertionError when it is neither."""
        seen = picture(tree if tree is not None else self.target)
        assert seen in self.pictures, "the tree is no point"
        return self.pictures.index(seen)

    def point_to(self, other: int) -> list[Told]:
        return difference(self.looks[1 - other], self.looks[other])


def _take(target: Path, records: list[Told], number: int, acknowledged: Callable[[], None]) -> None:
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        promised = commit(volume.journal, records, number)
        acknowledged()
        volume.journal.apply(promised)


def _kill_at(stage: Stage, call: int, acks: Path) -> tuple[bool, bool, int]:
    """Whether it was killed, and had promised; and where it was going."""
    other = 1 - stage.where()
    acks.unlink(missing_ok=True)
    killed = killed_at(
        call,
        MODULES,
        lambda: _take(stage.target, stage.point_to(other), stage.number + 1, acks.touch),
        CHANGES,
    )
    return killed, acks.exists(), other


def _step(target: Path) -> Step | None:
    fd = os.open(target / ".storagemirror/journal", os.O_RDONLY)
    mark = steps.read(fd)
    os.close(fd)
    return mark.step if mark is not None else None


def _recovered(stage: Stage, target: Path, other: int, *, promised: bool) -> bool:
    """Whether it went on to the new point."""
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        at = volume.journal.promotable()
        assert isinstance(at, Promotable)
        new = at.number == stage.number + 1
        assert stage.where(target) == (other if new else 1 - other)
        assert new or not promised, "an acknowledged point is there"
        left = os.listdir(target / ".storagemirror/journal")
        assert not [name for name in left if name not in ("obj", "stage", "gone", "slots")], left
    return new


@pytest.mark.parametrize("start", [0, 1], ids=["there", "back"])
@pytest.mark.parametrize(("kind", "stride"), [("ext4", 1), ("xfs", 3), ("btrfs", 5), ("tmpfs", 5)])
def test_a_kill_before_any_call_ends_at_one_point(tmp_path: Path, kind: str, stride: int, start: int) -> None:
    seen: set[tuple[Step | None, bool]] = set()
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 400, "target") as target:
        stage = Stage(source.path, target.path)
        if start:
            _take(target.path, stage.point_to(1), 2, lambda: None)
            stage.number = 2
        call, killed = 1, True
        while killed:
            killed, promised, other = _kill_at(stage, call, tmp_path / "yes")
            step = _step(target.path)
            new = _recovered(stage, target.path, other, promised=promised)
            seen.add((step, new))
            stage.number += new
            call += stride
        assert call > 100
    assert seen == {(None, False), (None, True), *((step, True) for step in Step)}


@pytest.mark.parametrize(("kind", "stride"), [("ext4", 9), ("xfs", 25)])
def test_a_power_cut_before_any_call_ends_at_one_point(tmp_path: Path, kind: str, stride: int) -> None:
    seen: set[bool] = set()
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 320, "target") as target:
        stage = Stage(source.path, target.path)
        call, killed = 1, True
        while killed:
            killed, promised, other = _kill_at(stage, call, tmp_path / "yes")
            with after_power_cut(target, tmp_path) as cut:
                seen.add(_recovered(stage, cut, other, promised=promised))
            stage.number += _recovered(stage, target.path, other, promised=promised)
            call += stride
    assert seen == {False, True}


@pytest.mark.parametrize(("kind", "mebibytes"), [("ext4", 96), ("xfs", 320)])
def test_a_disk_that_forgets_what_was_not_flushed_leaves_one_point(tmp_path: Path, kind: str, mebibytes: int) -> None:
    """`make campaign-points` does the same many times."""
    rnd = random.Random()
    (tmp_path / "source").mkdir()
    with power_disk(tmp_path / "disk", kind, mebibytes, "defaults") as made:
        story = tell_points(made, tmp_path / "source", rnd, points=6)
    assert story.end > story.begin, "the disk was written"
    for _ in range(4):
        cut_and_recover(story, tmp_path, rnd)
