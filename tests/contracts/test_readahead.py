"""A large file is read ahead of what is sent of it: in order, whole, and never once nobody wants it any more."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storagemirror.fs.reading import Reading
from storagemirror.fs.source import data_extents
from storagemirror.sync.readahead import AHEAD, ReadAhead
from storagemirror.wire.content import ContentDigest

PIECE = 64 << 10
SIZE = 40 * PIECE + 123


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(SIZE))
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


def ahead(fd: int, digest: ContentDigest, size: int = SIZE) -> ReadAhead:
    return ReadAhead(fd, data_extents(fd, size), Reading().large(fd, size), digest, PIECE)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reader"]


@pytest.mark.parametrize("size", [1, PIECE, 2 * PIECE, 2 * PIECE + 1, SIZE])
def test_every_piece_comes_once_in_order_and_is_summed_up(file: int, size: int) -> None:
    digest, judge = ContentDigest(), ContentDigest()
    content = os.pread(file, size, 0)
    got = bytearray()
    for offset, piece in ahead(file, digest, size).pieces():
        assert offset == len(got)
        judge.add(offset, bytes(piece))
        got += piece
    assert bytes(got) == content
    assert digest.digest() == judge.digest()
    assert not readers()


def test_a_file_that_is_cut_short_meanwhile_ends_where_it_ends(file: int) -> None:
    reading = ahead(file, ContentDigest())
    got = 0
    for offset, piece in reading.pieces():
        if not offset:
            os.ftruncate(file, 20 * PIECE)
        got += piece.nbytes
    assert got == reading.end == 20 * PIECE


def test_who_takes_no_more_leaves_nobody_reading(file: int) -> None:
    """Its descriptor is closed next, and may be another file's a moment later."""
    before = os.dup(file)
    with closing(ahead(before, ContentDigest()).pieces()) as pieces:
        next(pieces)
    assert not readers()
    os.close(before)


def test_what_goes_wrong_in_reading_is_told_after_what_came_before_it(file: int) -> None:
    reading = Reading()
    count = 0

    def fails(length: int) -> None:
        nonlocal count
        count += 1
        if count > 2 * AHEAD:
            raise OSError(errno.EIO, "the disk says no")

    reading.before = fails
    pieces = ReadAhead(file, [(0, SIZE)], reading.large(file, SIZE), ContentDigest(), PIECE).pieces()
    taken: list[int] = []
    with pytest.raises(OSError, match="the disk says no"):
        taken.extend(offset for offset, _ in pieces)
    assert len(taken) == 2 * AHEAD
    assert not readers()
