"""A target that takes points: whatever is done to the source between two, the tree is the source's at the point."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from storagemirror.fs.journal.journal import Promotable
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from tests.support.disks import disk
from tests.support.points import Look, Tree, copy, difference, equal, look, take


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_after_each_point_the_tree_is_the_sources(tmp_path: Path, kind: str) -> None:
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    rnd = random.Random(seed)
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 400, "target") as target:
        tree = Tree(source.path, rnd)
        tree.grow(60)
        copy(source.path, target.path)
        before: Look = look(source.path)
        with TargetVolume.open(str(target.path)) as volume:
            volume.claim()
            for number in range(1, 12):
                tree.grow(rnd.choice((0, 1, 5, 40)))
                now = look(source.path)
                take(volume.journal, difference(before, now, rnd), number, MIRROR if number == 1 else None)
                assert equal(source.path, target.path) == "", f"seed {seed}, point {number}"
                assert volume.journal.promotable() == Promotable(number, number * 1_000_000_000)
                before = now
            for place in ("obj", "stage", "gone"):
                assert os.listdir(target.path / ".storagemirror/journal" / place) == []
