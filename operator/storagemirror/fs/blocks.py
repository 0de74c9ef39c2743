"""A file as blocks with sums: how two sides find out which parts of a large file differ.

A block is 64 KiB; its sum is the xxh3_128 of its bytes, so 4 GiB have 1 MiB of sums. The last block may be shorter.
Reading goes in pieces of 1 MiB, where xxh3 finds its bytes in the processor's cache. A hole is not read: the sum of a
block of zeros is known.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from xxhash import xxh3_128, xxh3_128_digest

from storagemirror.fs.reading import Footprint

BLOCK = 64 << 10
PIECE = 1 << 20
SUM = 16
"""Bytes of one sum."""
ZERO_SUM = xxh3_128_digest(bytes(BLOCK))
_END = 1 << 63


@dataclass(frozen=True, slots=True)
class Piece:
    """Up to `PIECE` bytes of a file, and the sum of each of its blocks."""

    content: memoryview | None
    """Holds until the next piece is read; None: all of it is a hole."""
    length: int
    sums: bytes


class BlockReader:
    """Reads the open file `fd` up to `size`. For one thread."""

    def __init__(self, fd: int, size: int, footprint: Footprint | None = None) -> None:
        """`footprint` is told what is read; who gives it ends it."""
        self._footprint = footprint
        self._fd = fd
        self._size = size
        self._buffer = memoryview(bytearray(min(PIECE, max(size, 1))))
        self._data = (0, 0)
        """The extent of data that was found last, or the hole before it: nothing between the last look and this."""
        self._looked = -1

    def read(self, offset: int, most: int = PIECE) -> Piece:
        """The piece at `offset`, a multiple of `BLOCK`, of at most so many bytes; shorter where the file ends (or was
        cut meanwhile). OSError."""
        want = min(most, PIECE, self._size - offset)
        if want <= 0:
            return Piece(None, 0, b"")
        if self.is_hole(offset, offset + want):
            return Piece(None, want, zero_sums(want))
        if self._footprint is not None:
            self._footprint.ahead(offset, want)
        got = 0
        while got < want and (count := os.preadv(self._fd, [self._buffer[got:want]], offset + got)):
            got += count
        if self._footprint is not None:
            self._footprint.read(offset + got)
        content = self._buffer[:got]
        return Piece(content, got, sums_of(content))

    def is_hole(self, begin: int, end: int) -> bool:
        """Whether the file has no data between these; False where the file system cannot say."""
        low, high = self._data
        if not (self._looked <= begin and (end <= low or begin < high)):
            low, high = self._look(begin)
        return end <= low

    def _look(self, at: int) -> tuple[int, int]:
        try:
            begin = os.lseek(self._fd, at, os.SEEK_DATA)
            self._data = begin, os.lseek(self._fd, begin, os.SEEK_HOLE)
        except OSError as e:
            self._data = (_END, _END) if e.errno == errno.ENXIO else (at, _END)
        self._looked = at
        return self._data


def differing(piece: Piece, theirs: bytes, reader: BlockReader, offset: int) -> Iterator[tuple[int, int, bool]]:
    """Of a piece at `offset`: begin and end of each stretch of blocks with other sums, and whether it is a hole."""
    begin = end = 0
    hole = False
    for at in range(0, len(piece.sums), SUM):
        mine = piece.sums[at : at + SUM]
        if mine == theirs[at : at + SUM]:
            continue
        low = at // SUM * BLOCK
        high = min(low + BLOCK, piece.length)
        empty = piece.content is None or (mine == ZERO_SUM and reader.is_hole(offset + low, offset + high))
        if low != end or empty != hole:
            if end > begin:
                yield begin, end, hole
            begin, hole = low, empty
        end = high
    if end > begin:
        yield begin, end, hole


def sums_of(content: memoryview) -> bytes:
    """The sum of each block of `content`, one after the other."""
    return b"".join([xxh3_128_digest(content[at : at + BLOCK]) for at in range(0, content.nbytes, BLOCK)])


def digest_of_sums(fd: int, size: int) -> bytes:
    """The xxh3_128 over the sums of all blocks. OSError."""
    reader = BlockReader(fd, size)
    digest = xxh3_128()
    for at in range(0, size, PIECE):
        digest.update(reader.read(at).sums)
    return digest.digest()


def zero_sums(length: int) -> bytes:
    """As `sums_of` so many zeros."""
    blocks, rest = divmod(length, BLOCK)
    return ZERO_SUM * blocks + (xxh3_128_digest(bytes(rest)) if rest else b"")


def blocks_in(size: int) -> int:
    """How many blocks a file of this size has."""
    return -(-size // BLOCK)
