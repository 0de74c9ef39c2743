"""When content is looked for at another place of a large file, and when that would be in vain."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.blocks import BLOCK, PIECE, SUM, blocks_in, sums_of
from storagemirror.sync.shifts import REST_SECONDS, InVain, Shifts
from storagemirror.wire.messages import ANCHOR, ANCHOR_BLOCKS
from tests.support.world import HeldClock

MIB = 1 << 20
SIZE = 16 * MIB


class Theirs:
    """A target that knows all of a file."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._sums = sums_of(memoryview(content))
        self.searched = 0

    def sums(self, first: int, count: int) -> bytes:
        """Of these blocks."""
        return self._sums[first * SUM : (first + count) * SUM]

    def anchors(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Asked for by a search alone."""
        self.searched += 1
        step = ANCHOR_BLOCKS * BLOCK
        for offset in range(-(-begin // step) * step, min(end, len(self._content)), step):
            yield offset, self._content[offset : offset + ANCHOR]


def find(directory: Path, before: bytes, after: bytes, at: int = 0) -> tuple[int | None, Theirs]:
    """What a search at `at` finds, and the target that it asked."""
    theirs = Theirs(before)
    path = directory / "file"
    path.write_bytes(after)
    fd = os.open(path, os.O_RDONLY)
    try:
        return Shifts(fd, len(after), theirs).find(at, at), theirs
    finally:
        os.close(fd)


@pytest.mark.parametrize("written", [PIECE, 3 * MIB, 7 * MIB])
def test_nothing_is_searched_where_a_file_was_written_in_place(tmp_path: Path, written: int) -> None:
    before = os.urandom(SIZE)
    for at in range(0, written, PIECE):
        shift, theirs = find(tmp_path, before, os.urandom(written) + before[written:], at)
        assert shift is None
        assert theirs.searched == 0


@pytest.mark.parametrize(("begin", "end"), [(PIECE, PIECE + BLOCK), (4 * MIB, 7 * MIB), (9 * MIB - BLOCK, 9 * MIB)])
def test_one_stretch_that_stayed_is_enough(tmp_path: Path, begin: int, end: int) -> None:
    before, after = os.urandom(SIZE), bytearray(os.urandom(SIZE))
    after[begin:end] = before[begin:end]
    shift, theirs = find(tmp_path, before, bytes(after))
    assert shift is None
    assert theirs.searched == 0


@pytest.mark.parametrize(("size", "searches"), [(MIB, 1), (SIZE, 5), (300 * MIB, 8)])
def test_another_file_is_searched_less_and_less(tmp_path: Path, size: int, searches: int) -> None:
    theirs = Theirs(os.urandom(SIZE))
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    os.truncate(path, size)
    with path.open("rb") as file:
        shifts = Shifts(file.fileno(), size, theirs)
        assert {shifts.find(at, at) for at in range(0, size, PIECE)} == {None}
        assert shifts.in_vain
    assert theirs.searched == searches


@pytest.mark.parametrize("tail", [0, 12 * MIB])
def test_zeros_do_not_tell_that_content_has_stayed(tmp_path: Path, tail: int) -> None:
    before = os.urandom(4 * MIB) + bytes(tail)
    shift, theirs = find(tmp_path, before, b"x" * 100 + before)
    assert shift == 100
    assert theirs.searched == 1


def test_content_that_moved_is_found(tmp_path: Path) -> None:
    before = os.urandom(SIZE)
    assert find(tmp_path, before, before[12_345:], 2 * MIB)[0] == -12_345
    assert find(tmp_path, before, os.urandom(5 * MIB) + before)[0] == 5 * MIB


def test_the_last_piece_of_a_file_is_searched_as_far_as_it_goes(tmp_path: Path) -> None:
    before = os.urandom(2 * MIB)
    assert blocks_in(len(before)) == 32
    assert find(tmp_path, before, before[:MIB] + b"put in" + before[MIB:], MIB)[0] == 6


def test_a_file_that_was_searched_in_vain_is_left_alone_for_a_while() -> None:
    clock = HeldClock()
    found = InVain(clock)
    assert not found.lately(7)
    found.note(7)
    clock.sleep(REST_SECONDS - 1)
    assert found.lately(7)
    assert not found.lately(8)
    clock.sleep(2)
    assert not found.lately(7)


def test_what_is_remembered_of_files_has_a_bound() -> None:
    found = InVain(HeldClock())
    for inode in range(100_000):
        found.note(inode)
    assert len(vars(found)["_until"]) <= 10_000
    assert found.lately(99_999)
