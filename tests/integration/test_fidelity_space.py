"""Files that share their data: whole on the target, counted, and the room they take foreseen."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from storagemirror.clock import SystemClock
from storagemirror.fs.shared import shares_data
from storagemirror.fs.tree import Tree
from storagemirror.sync.meter import Meter
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import mirror


@pytest.mark.parametrize(("kind", "size"), [("xfs", 320), ("btrfs", 128)])
def test_shared_extents_are_counted_and_their_room_is_foreseen(tmp_path: Path, kind: str, size: int) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with disk(tmp_path, kind, size, "source") as source:
        trees.write(source.path / "original", os.urandom(4 << 20))
        trees.write(source.path / "alone", os.urandom(1 << 20))
        for number in range(5):
            names = str(source.path / "original"), str(source.path / f"clone {number}")
            subprocess.run(["cp", "--reflink=always", *names], check=True)
        os.sync()
        for name, shared in (("original", True), ("clone 4", True), ("alone", False)):
            fd = os.open(source.path / name, os.O_RDONLY)
            assert shares_data(fd) is shared
            os.close(fd)
        result = mirror(source.path, target)
        assert [(item.kind.value, item.count) for item in result.not_kept] == [("SharedExtents", 6)]
        assert trees.rsync_differences(source.path, target) == ""

        told: list[tuple[int, int]] = []
        meter = Meter(SystemClock(), lambda progress: None, lambda: 0)
        meter.room, meter.too_large = 20 << 20, lambda needed, room: told.append((needed, room))
        tree = Tree(str(source.path))
        meter.count(tree, (b"",))
        while meter.progress(0.0).files_total is None:
            time.sleep(0.1)
        meter.done(1, 64 << 20)
        time.sleep(0.6)
        meter.done(1, 64 << 20)
        meter.abandon()
        tree.close()
        assert told == [(25 << 20, 20 << 20)], "once, with what all of them take without sharing"
