"""What a target does when its disk says that something could not be written."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.clock import SystemClock
from storagemirror.errors import VolumeError
from storagemirror.fs.target import TargetVolume
from storagemirror.fs.tree import Tree
from storagemirror.sync.durability import CHECKPOINT_SECONDS
from storagemirror.sync.requests import Changes
from tests.support import trees
from tests.support.agents import wait_for
from tests.support.engine import Pair, joined


class LosesOneWrite(TargetVolume):
    """As the kernel does it: the error is told once, and the next sync succeeds."""

    fails = False

    def sync(self, through_ns: int, deleted: int, base: int = 0) -> None:
        if self.fails:
            self.fails = False
            raise VolumeError("the target could not be synced: Input/output error", reason="TargetFailing")
        super().sync(through_ns, deleted, base)


class SlowDisk(LosesOneWrite):
    """Its syncs end when they are let."""

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree)
        self.begun = 0
        self.let = threading.Semaphore(0)

    def sync(self, through_ns: int, deleted: int, base: int = 0) -> None:
        self.begun += 1
        assert self.let.acquire(timeout=30)
        super().sync(through_ns, deleted, base)


class Ahead(SystemClock):
    """A clock that can be put forward."""

    by = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.by


def _begin(pair: Pair, source: Path) -> LosesOneWrite:
    volume = pair.target_volume
    assert isinstance(volume, LosesOneWrite)
    pair.mirror()
    pair.source.mark(1)
    trees.write(source / "one", "what the disk loses")
    volume.fails = True
    return volume


def _apply_and_mark(pair: Pair) -> None:
    pair.source.apply(Changes(paths=frozenset({b"one"})))
    pair.source.mark(2)


def _lose(path: Path) -> None:
    """What is read once the page is gone from memory."""
    found = path.stat()
    path.write_bytes(bytes(found.st_size))
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


@pytest.mark.parametrize("when", ["mark", "checkpoint"])
def test_what_a_disk_may_have_lost_is_sent_again(tmp_path: Path, when: str) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    trees.many(source, 20)
    target.mkdir()
    clock = Ahead()
    with joined(source, target, writes=LosesOneWrite, clock=clock) as pair:
        volume = _begin(pair, source)
        if when == "checkpoint":
            clock.by = CHECKPOINT_SECONDS + 1
        with pytest.raises(VolumeError) as failed:
            _apply_and_mark(pair)
        assert failed.value.reason == "TargetFailing"
        assert not volume.fails
    _lose(target / "one")
    with joined(source, target) as again:
        again.mirror()
        again.source.mark(3)
    assert trees.differences(source, target) == []


def _through(disk: SlowDisk) -> int:
    synced = disk.synced()
    assert synced is not None
    return synced.through_ns


@contextmanager
def _slow(tmp_path: Path) -> Iterator[tuple[Pair, SlowDisk, Path, Path]]:
    """Everything is mirrored, one file is sent since, and its sync hangs."""
    source, target = tmp_path / "source", tmp_path / "target"
    trees.many(source, 5)
    target.mkdir()
    with joined(source, target, writes=SlowDisk) as pair:
        disk = pair.target_volume
        assert isinstance(disk, SlowDisk)
        disk.let.release()
        pair.mirror()
        pair.source.mark(1)
        trees.write(source / "one", "first")
        pair.source.apply(Changes(paths=frozenset({b"one"})))
        pair.source.begin_mark(2)
        wait_for(lambda: disk.begun == 2, "the sync", 10)
        try:
            yield pair, disk, source, target
        finally:
            disk.let.release(10)


def test_changes_are_applied_while_the_disk_of_the_target_syncs(tmp_path: Path) -> None:
    with _slow(tmp_path) as (pair, disk, source, target):
        trees.write(source / "two", "second")
        pair.source.apply(Changes(paths=frozenset({b"two"})))
        wait_for((target / "two").exists, "the change", 10)
        assert not pair.source.marked(0.05), "it is durable before its sync has ended"
        assert _through(disk) == 1
        disk.let.release()
        assert pair.source.marked(10)
        assert _through(disk) == 2
        pair.source.begin_mark(3)
        wait_for(lambda: disk.begun == 3, "a sync of what came meanwhile", 10)
        disk.let.release()
        assert pair.source.marked(10)
        assert _through(disk) == 3


def test_a_disk_that_refuses_late_is_told_although_nothing_else_comes(tmp_path: Path) -> None:
    with _slow(tmp_path) as (pair, disk, source, target):
        disk.fails = True
        disk.let.release()
        with pytest.raises(VolumeError) as failed:
            pair.source.marked(10)
        assert failed.value.reason == "TargetFailing"
    _lose(target / "one")
    with joined(source, target) as again:
        again.mirror()
        again.source.mark(3)
    assert trees.differences(source, target) == []
