"""What a target does when its disk says that something could not be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storagemirror.clock import SystemClock
from storagemirror.errors import VolumeError
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.durability import CHECKPOINT_SECONDS
from storagemirror.sync.requests import Changes
from tests.support import trees
from tests.support.engine import Pair, joined


class LosesOneWrite(TargetVolume):
    """As the kernel does it: the error is told once, and the next sync succeeds."""

    fails = False

    def sync(self, through_ns: int, deleted: int, base: int = 0) -> None:
        if self.fails:
            self.fails = False
            raise VolumeError("the target could not be synced: Input/output error", reason="TargetFailing")
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
