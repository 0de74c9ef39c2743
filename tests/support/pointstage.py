"""A target that goes from one state to another and back, point by point: what every kill of it must leave."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

from storagemirror.fs import locks, marker, place, remove, xattrs
from storagemirror.fs.journal import journal, making, naming, segments, slots, steps, work
from storagemirror.fs.journal.steps import Step
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from tests.support.points import Look, Told, copy, difference, look, take
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
        """Of the point that it is at."""
        self.other = 1
        """Index of the tree that the next point leads to."""
        with TargetVolume.open(str(target)) as volume:
            volume.claim()
            take(volume.journal, [], 1, MIRROR)

    def _remember(self, source: Path) -> None:
        self.looks.append(look(source))
        self.pictures.append(picture(source))

    def goes_on(self, applied: bool) -> None:
        """The next point has come, and was applied, or not."""
        if applied:
            self.number, self.other = self.number + 1, 1 - self.other

    def where(self, tree: Path | None = None, *, holds: bool = False) -> int:
        """0 or 1; AssertionError when it is neither. `holds`: a point is held back, for which some files have a further
        name beside the tree."""
        seen, pictures = picture(tree if tree is not None else self.target), self.pictures
        if holds:
            seen, pictures = _within(seen), [_within(one) for one in pictures]
        assert seen in pictures, "the tree is no point"
        return pictures.index(seen)

    def point_to(self, other: int) -> list[Told]:
        return difference(self.looks[1 - other], self.looks[other])


_LEADER = 7
"""Of what `picture` tells of an entry: the first name of a file that has several."""


def _within(seen: Picture) -> Picture:
    """Without the leader of what has a single name in the tree."""
    count = Counter(entry[_LEADER] for entry in seen.values())
    alone = {path for path, entry in seen.items() if count[entry[_LEADER]] == 1}
    return {
        path: (*entry[:_LEADER], b"" if path in alone else entry[_LEADER], *entry[_LEADER + 1 :])
        for path, entry in seen.items()
    }


def step_of(target: Path) -> Step | None:
    """Which step of applying its point has begun; None: none has."""
    fd = os.open(target / ".storagemirror/journal", os.O_RDONLY)
    mark = steps.read(fd)
    os.close(fd)
    return mark.step if mark is not None else None
