"""Writes that no event tells of are found by their ctime: on real file systems, beside a real watch."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storagemirror.agent import rescan
from storagemirror.agent.rescan import Rescan
from storagemirror.clock import SystemClock
from storagemirror.fs.selection import Selection, selection_of
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.changes import WHOLE_TREE, Drained
from storagemirror.sync.requests import Changes
from storagemirror.sync.watch import TreeWatch
from storagemirror.terms import Rule
from tests.support.async_io import aio_write
from tests.support.disks import disk

KINDS = ("ext4", "xfs", "btrfs")
SIZES = {"ext4": 64, "xfs": 320, "btrfs": 128}
PAGE = 4096


@dataclass
class Looked:
    """A volume, its watch, and the rescan beside it, as an agent runs them."""

    root: Path
    volume: SourceVolume
    watch: TreeWatch
    rescan: Rescan
    found: list[bytes] = field(default_factory=list)
    """Named by the rescan."""

    def turn(self) -> Drained:
        self.rescan.advance()
        changes = self.watch.drain(0.05)
        self.rescan.drained(changes)
        return changes

    def turns(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self.turn()

    def finds(self, name: bytes) -> bool:
        self.found.clear()
        self.turns(60, lambda: name in self.found)
        return name in self.found


@contextmanager
def looking(root: Path, selection: Selection | None = None) -> Iterator[Looked]:
    with SourceVolume.open(str(root)) as volume:
        watch = TreeWatch(volume.tree, selection=selection)
        watch.start()
        found: list[bytes] = []

        def name(changes: Changes) -> None:
            found.extend(changes.paths)
            watch.put_back(changes)

        made = Rescan(volume.tree, selection, SystemClock(), name, grain_ns=volume.grain_ns)
        try:
            made.compared(time.time_ns())
            yield Looked(root, volume, watch, made, found)
        finally:
            watch.close()


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path, request.param, SIZES[request.param]) as made:
        yield made.path


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path, "ext4", 64) as made:
        yield made.path


def fill(path: Path, pages: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(pages * PAGE))


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        yield memory


def test_a_write_through_a_map_that_stays_open_is_found_each_time(root: Path) -> None:
    fill(root / "deep/er/file")
    with looking(root) as looked:
        looked.turns(0.3)
        with mapped(root / "deep/er/file") as memory:
            looked.turns(0.3)
            for number in range(3):
                # Always the same page: while it is dirty, a further write moves no time.
                memory[0] = number
                assert looked.finds(b"deep/er/file"), f"write {number} was not found"


def test_without_the_sync_a_further_write_would_not_be_found(plain: Path) -> None:
    """Why what is found is synced: the naive version, on the file system that most have."""
    fill(plain / "file")
    with looking(plain) as looked:
        looked.rescan._sync = lambda path: None  # type: ignore[method-assign]
        with mapped(plain / "file") as memory:
            memory[0] = 1
            assert looked.finds(b"file")
            looked.turns(2.5)
            memory[0] = 2
            looked.found.clear()
            looked.turns(4)
            assert looked.found == []


def test_a_write_by_libaio_is_found(root: Path) -> None:
    fill(root / "file")
    with looking(root) as looked:
        fd = os.open(root / "file", os.O_RDWR | os.O_DIRECT)
        try:
            looked.turns(0.3)
            with mmap.mmap(-1, PAGE) as memory:
                memory[:] = b"a" * PAGE
                aio_write(fd, memory, 0)
                assert looked.finds(b"file")
        finally:
            os.close(fd)


def test_what_events_tell_is_neither_synced_nor_named_again(plain: Path) -> None:
    for number in range(200):
        fill(plain / f"d{number % 7}/f{number}", 1)
    os.sync()
    with looking(plain) as looked:
        end = time.monotonic() + 6
        with (plain / "d1/log").open("wb", buffering=0) as log:
            number = 0
            while time.monotonic() < end:
                number += 1
                log.write(b"line\n" * 100)  # always open, always written
                fill(plain / f"new{number % 50}/file", 1)
                os.utime(plain / f"d{number % 7}")
                looked.turn()
        looked.turns(3)
        assert looked.found == []


def test_rules_and_what_is_ours_are_left_out(plain: Path) -> None:
    names = (".storagemirror/file", "lost+found/file", "file", "left/out/file", "a.tmp")
    for name in names:
        fill(plain / name)
    selection = selection_of((Rule(False, b"left/"), Rule(False, b"*.tmp")))
    with looking(plain, selection) as looked, ExitStack() as open_maps:
        looked.turns(0.3)
        for memory in [open_maps.enter_context(mapped(plain / name)) for name in names]:
            memory[0] = 1
        assert looked.finds(b"file")
        looked.turns(2)
        assert looked.found == [b"file"]


def test_it_keeps_to_its_share_of_the_time(plain: Path) -> None:
    for number in range(5_000):
        fill(plain / f"d{number % 50}/f{number}", 0)
    with looking(plain) as looked:
        began, before = time.monotonic(), time.process_time()
        spent = 0.0
        while time.monotonic() < began + 6:
            at = time.process_time()
            looked.rescan.advance()
            spent += time.process_time() - at
            time.sleep(0.02)
        assert time.process_time() > before
        assert 0 < spent < 6 * 4 * rescan.SHARE + 0.02


def test_a_full_comparison_covers_what_was_before_it(plain: Path) -> None:
    fill(plain / "file")
    with looking(plain) as looked, mapped(plain / "file") as memory:
        memory[0] = 1
        time.sleep(0.1)
        os.sync()
        looked.rescan.compared(time.time_ns())
        looked.turns(4)
        assert looked.found == []
        memory[0] = 2
        assert looked.finds(b"file")


def test_a_flood_of_names_gives_the_look_up_and_the_next_one_finds(
    plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescan, "MOST_NAMES", 50)
    fill(plain / "file")
    with looking(plain) as looked, mapped(plain / "file") as memory:
        for number in range(200):
            fill(plain / f"n{number}", 0)
            looked.turn()
        assert len(looked.rescan._told) <= 51
        memory[0] = 1
        assert looked.finds(b"file")
        assert set(looked.found) == {b"file"}


def test_the_word_that_everything_is_to_be_compared_is_no_name(plain: Path) -> None:
    with looking(plain) as looked:
        looked.rescan.drained(Drained(trees=WHOLE_TREE, through_ns=time.time_ns()))
        fill(plain / "file")
        with mapped(plain / "file") as memory:
            looked.turns(0.5)
            memory[0] = 1
            assert looked.finds(b"file")
