"""Points taken by a target that loses its power at random places of what it wrote; what has to hold after each cut.

The next agent finds the volume at exactly one point: the tree of that number, and never one before the last that was
acknowledged by then.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from storagemirror.fs.journal.journal import Promotable
from storagemirror.fs.syscalls import syncfs
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from tests.support.points import Tree, commit, copy, difference, look, take
from tests.support.power_disk import PowerDisk, cut, mounted_after
from tests.support.trees import picture

Picture = dict[bytes, tuple[object, ...]]


@dataclass
class PointStory:
    """Points that were taken, and what the disk had been told by then."""

    disk: PowerDisk
    trees: dict[int, Picture]
    """By number of the point."""
    acknowledged: dict[int, int]
    """By number, where in the log that was."""
    begin: int
    end: int


def tell_points(disk: PowerDisk, source: Path, rnd: random.Random, points: int = 12) -> PointStory:
    """A tree that changes in all ways, and a point after each lot of changes. `source` is empty."""
    tree = Tree(source, rnd)
    tree.grow(60)
    copy(source, disk.path)
    before = look(source)
    trees, acknowledged = {}, {}
    with TargetVolume.open(str(disk.path)) as volume:
        volume.claim()
        take(volume.journal, [], 1, MIRROR)
        trees[1], acknowledged[1] = picture(source), disk.now()
        syncfs(volume.tree.root)
        begin = disk.now()
        for number in range(2, points + 2):
            tree.grow(rnd.choice((1, 10, 40)))
            now = look(source)
            trees[number] = picture(source)
            promised = commit(volume.journal, difference(before, now, rnd), number)
            acknowledged[number] = disk.now()
            volume.journal.apply(promised)
            before = now
        end = disk.now()
    return PointStory(disk, trees, acknowledged, begin, end)


def cut_and_recover(story: PointStory, directory: Path, rnd: random.Random) -> tuple[int, int, int]:
    """One cut, at a place that chance chooses: the point that was found, the last acknowledged, and writes lost."""
    at = rnd.randint(story.begin, story.end)
    image = directory / "cut.img"
    lost = cut(story.disk, at, image, rnd)
    promised = max(number for number, known in story.acknowledged.items() if known <= at)
    try:
        with mounted_after(image, story.disk.kind, directory / "after") as target:
            with TargetVolume.open(str(target)) as volume:
                volume.claim()
                found = volume.promotable()
            assert isinstance(found, Promotable), f"cut at {at}: {found}"
            assert found.number >= promised, f"cut at {at}: point {promised} was acknowledged, {found.number} is there"
            assert picture(target) == story.trees[found.number], f"cut at {at}: the tree is not that of its point"
    finally:
        image.unlink()
    return found.number, promised, lost.lost
