"""Which blocks of a file changed, and what they hold.

A file is compared by the sums of its blocks (`storagemirror.fs.blocks`) with what was told before, all of it or only
where pages were named. Where no sums are known, all that is looked at is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from storagemirror.fs.blocks import BLOCK, PIECE, SUM, BlockReader, blocks_in, differing
from storagemirror.sync.pointmaker.capturing import Ranges


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a file that changed."""

    offset: int
    length: int
    content: memoryview | None
    """Holds until the next part is taken; None: zeros, where the file has a hole."""


class Changed:
    """What changed in the file of `size` bytes that `reader` reads; iterate over it once.

    `sums` are what was told before (None: not known), and afterwards those of what is told now. `ranges`: only there;
    None: anywhere. `short`: the file was cut while it was read.
    """

    def __init__(
        self,
        reader: BlockReader,
        size: int,
        sums: bytes | None,
        ranges: Ranges | None,
        pace: Callable[[int], None] = lambda size: None,
    ) -> None:
        """`pace` is called with the size of each piece before it is read; it may raise."""
        self._pace = pace
        self._reader = reader
        self._size = size
        self._before = sums
        self._ranges = ranges
        self.sums: bytes | None = None
        self.short = False
        self.read = 0
        """Bytes looked at."""

    def __iter__(self) -> Iterator[Part]:
        return _joined(self._whole() if self._ranges is None else self._named(self._ranges))

    def _whole(self) -> Iterator[Part]:
        """Piece by piece, from its begin to its end."""
        sums = bytearray()
        for offset in range(0, self._size, PIECE):
            self._pace(min(PIECE, self._size - offset))
            piece = self._reader.read(offset)
            self.read += piece.length
            sums += piece.sums
            at = offset // BLOCK * SUM
            known = self._before[at : at + len(piece.sums)] if self._before is not None else b""
            if piece.sums != known:
                for begin, end, hole in differing(piece, known, self._reader, offset):
                    content = None if hole or piece.content is None else piece.content[begin:end]
                    yield Part(offset + begin, end - begin, content)
            if piece.length < min(PIECE, self._size - offset):
                self.short = True
                break
        self.sums = bytes(sums)

    def _named(self, ranges: Ranges) -> Iterator[Part]:
        """Only the blocks that the ranges touch; of these only what the ranges name."""
        sums = None if self._before is None else bytearray(self._before[: blocks_in(self._size) * SUM])
        for begin, end in _by_blocks(ranges, self._size):
            self._pace(end - begin)
            piece = self._reader.read(begin, end - begin)
            self.read += piece.length
            if piece.length < min(end, self._size) - begin:
                self.short = True
            at = begin // BLOCK * SUM
            known = b""
            if sums is not None:
                known = bytes(sums[at : at + len(piece.sums)])
                sums[at : at + len(piece.sums)] = piece.sums
            for low, high, hole in differing(piece, known, self._reader, begin):
                for first, last in _within(ranges, begin + low, begin + high):
                    content = None if hole or piece.content is None else piece.content[first - begin : last - begin]
                    yield Part(first, last - first, content)
        self.sums = None if sums is None or len(sums) != blocks_in(self._size) * SUM else bytes(sums)


def _joined(parts: Iterator[Part]) -> Iterator[Part]:
    """Holes that follow each other made one: a sparse file may have terabytes of them."""
    hole: Part | None = None
    for part in parts:
        if part.content is None:
            if hole is not None and hole.offset + hole.length == part.offset:
                hole = Part(hole.offset, hole.length + part.length, None)
                continue
            if hole is not None:
                yield hole
            hole = part
            continue
        if hole is not None:
            yield hole
            hole = None
        yield part
    if hole is not None:
        yield hole


def _by_blocks(ranges: Ranges, size: int) -> Iterator[tuple[int, int]]:
    """Whole blocks that the ranges touch, at most a piece at a time, none twice."""
    done = 0
    for begin, end in ranges:
        at = max(done, begin - begin % BLOCK)
        stop = min(size, end + -end % BLOCK)
        while at < stop:
            until = min(stop, at + PIECE)
            yield at, until
            at = until
        done = max(done, at)


def _within(ranges: Ranges, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The parts of the ranges between these."""
    for low, high in ranges:
        first, last = max(low, begin), min(high, end)
        if first < last:
            yield first, last
