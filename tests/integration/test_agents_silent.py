"""Writes that no event tells of reach the target within seconds, not with the next full comparison."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.contract import BeatOrder, Phase
from tests.support.agents import AgentPair, wait_for
from tests.support.async_io import aio_write
from tests.support.disks import disk

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
PAGE = 4096
LARGE = 3 << 20
"""Bytes: sent as a delta."""


@pytest.fixture
def followed(pair: AgentPair, tmp_path: Path) -> Iterator[AgentPair]:
    """A source of a few files on a disk of its own, replicated, and a full comparison each ten minutes."""
    with disk(tmp_path, "ext4", 128) as made:
        pair.source.volume = made.path
        for number in range(300):
            directory = made.path / f"d{number % 10}"
            directory.mkdir(exist_ok=True)
            (directory / f"f{number}").write_bytes(b"x" * number)
        (made.path / "small").write_bytes(os.urandom(PAGE))
        (made.path / "large").write_bytes(os.urandom(LARGE))
        pair.start(beat=QUICK)
        pair.until(Phase.REPLICATING, 30)
        try:
            yield pair
        finally:
            pair.close()


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        yield memory


def reaches(pair: AgentPair, name: str, content: bytes, seconds: float = 30) -> float:
    """Until the target's file begins so; how long that took."""
    began = time.monotonic()

    def there() -> bool:
        with (pair.target.volume / name).open("rb") as file:
            return file.read(len(content)) == content

    wait_for(there, f"{name} to begin with {content!r} on the target", seconds, pair.tell)
    return time.monotonic() - began


def test_writes_through_a_map_that_stays_open_reach_the_target_each_time(followed: AgentPair) -> None:
    root = followed.source.volume
    with mapped(root / "small") as one, mapped(root / "large") as other:
        for number in range(3):
            words = b"write %d" % number
            one[: len(words)] = other[: len(words)] = words
            reaches(followed, "small", words)
            reaches(followed, "large", words)
    assert "was written without an event" in followed.source.log()


def test_a_direct_write_by_libaio_reaches_the_target(followed: AgentPair) -> None:
    fd = os.open(followed.source.volume / "large", os.O_RDWR | os.O_DIRECT)
    try:
        with mmap.mmap(-1, PAGE) as memory:
            memory[:] = b"direct" + bytes(PAGE - 6)
            aio_write(fd, memory, 0)
            reaches(followed, "large", b"direct")
    finally:
        os.close(fd)
