"""Large files in which content has moved: bytes were put in or taken out before it.

Every block behind such a place differs, although nothing of it is new. To find by how much it has moved, the target
tells, beside the sums, the first 32 bytes of every 16th block (*anchors*). Where all blocks of a piece differ, the
source looks for the anchors that come next in the 9 MiB of its own file that come next: an ordinary search for bytes,
not a rolling checksum, which Python has no fast way to compute. Where one is found, the block that it begins is read at
that place; only if its sum is the target's is the distance believed. From there on the source compares its own bytes,
moved by the distance, with the sums that it has, and tells the target to copy from its base what is equal.

Bounded: a distance of up to 8 MiB; so many searches in vain and the rest of the file is compared as it lies. A file in
which blocks stay where they are although those before them differ is written in place, as databases do it, and one that
was searched in vain is likely to be: neither is searched, or a log that is written over and over would be searched over
and over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from xxhash import xxh3_128_digest

from storagemirror.clock import Clock
from storagemirror.fs.blocks import BLOCK, PIECE, SUM, ZERO_SUM, blocks_in, sums_of

LIMIT = 8 << 20
"""Bytes by which content may have moved."""
TRIES = 8
"""Searches in vain, at most, in one file."""
REST_SECONDS = 600.0
"""So long a file that was searched in vain is not searched again."""
_MOST_FILES = 10_000
_WINDOW = LIMIT + PIECE
_LOOKS = 4
"""Places, and the first, at which a block is looked at before anything is searched."""
LEAST_BLOCKS = 4
"""Where fewer than so many differ, nothing is looked for."""


class Known(Protocol):
    """What the target has told of its file."""

    def sums(self, first: int, count: int) -> bytes:
        """Of these blocks, as far as it has them."""
        ...

    def anchors(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Those between these offsets, in their order."""
        ...


@dataclass(frozen=True, slots=True)
class Literal:
    """Bytes that the target does not have there; they hold until the next stretch is asked for."""

    offset: int
    content: memoryview


@dataclass(frozen=True, slots=True)
class Same:
    """Bytes that the target has at `start` of its file."""

    offset: int
    start: int
    length: int


class InVain:
    """Files that were searched in vain not long ago, by their inodes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[int, float] = {}

    def note(self, inode: int) -> None:
        """This one was just now."""
        if len(self._until) >= _MOST_FILES:
            self._until.clear()
        self._until[inode] = self._clock.monotonic() + REST_SECONDS

    def lately(self, inode: int) -> bool:
        """Whether this one was."""
        return self._clock.monotonic() < self._until.get(inode, 0.0)


class Shifts:
    """Of one file."""

    def __init__(self, fd: int, size: int, known: Known) -> None:
        self._fd = fd
        self._size = size
        self._known = known
        self._tries = TRIES
        self._not_before = 0
        """Where the next search may begin: each one in vain has twice as much left out after it."""
        self._found = False
        self._buffer = memoryview(bytearray(PIECE))
        self.end = 0
        """Up to where the file could be read."""

    def find(self, at: int, start: int) -> int | None:
        """What lies at `at` here should lie at `start` there, and does not: by how many bytes is what follows behind
        where it lies there? OSError."""
        if self._tries <= 0 or at < self._not_before or self._stays(at, start):
            return None
        window = os.pread(self._fd, min(_WINDOW, self._size - at), at)
        for there, anchor in self._known.anchors(start, start + LIMIT):
            if anchor.count(anchor[:1]) == len(anchor):
                continue  # it would be found anywhere
            found = window.find(anchor)
            if found >= 0 and self._is_block(at + found, there):
                self._found = True
                return at + found - there
        self._not_before = at + (PIECE << (TRIES - self._tries))
        self._tries -= 1
        return None

    @property
    def in_vain(self) -> bool:
        """Whether something was looked for, and nothing was found."""
        return self._tries < TRIES and not self._found

    def _stays(self, at: int, start: int) -> bool:
        """Whether some block that comes later lies where it lies there: then what differs was written in place, as
        databases do again and again, and a search would read much for nothing. Zeros are alike wherever they lie."""
        first, last = PIECE // BLOCK, min(_WINDOW, self._size - at) // BLOCK - 1
        for number in sorted({first + part * (last - first) // _LOOKS for part in range(_LOOKS + 1)}):
            if number < first:
                break
            known = self._known.sums(start // BLOCK + number, 1)
            if not known or known == ZERO_SUM:
                continue
            if xxh3_128_digest(os.pread(self._fd, BLOCK, at + number * BLOCK)) == known:
                return True
        return False

    def _is_block(self, at: int, there: int) -> bool:
        known = self._known.sums(there // BLOCK, 1)
        return bool(known) and xxh3_128_digest(os.pread(self._fd, BLOCK, at)) == known

    def stretches(self, at: int, shift: int) -> Iterator[Literal | Same]:
        """All from `at` on, where what follows is `shift` behind where it lies on the target. OSError."""
        searched = -1
        while at < self._size:
            ahead = -(at - shift) % BLOCK if at > shift else shift - at
            if ahead:
                piece = self._read(at, min(ahead, PIECE))
                if not piece.nbytes:
                    break
                yield Literal(at, piece)
                at += piece.nbytes
                continue
            piece = self._read(at, PIECE)
            if not piece.nbytes:
                break
            first, count = (at - shift) // BLOCK, blocks_in(piece.nbytes)
            mine, theirs = sums_of(piece), self._known.sums(first, count)
            if at != searched and all_differ(mine, theirs):
                searched = at  # once at each place: two distances could each lead to the other for ever
                other = self.find(at, at - shift)
                if other is not None and other != shift:
                    shift = other
                    continue
            yield from _compared(at, shift, piece, mine, theirs)
            at += piece.nbytes
        self.end = at

    def _read(self, at: int, length: int) -> memoryview:
        return self._buffer[: os.preadv(self._fd, [self._buffer[: min(length, self._size - at)]], at)]


def all_differ(mine: bytes, theirs: bytes) -> bool:
    """Whether it is worth looking: none of several blocks is equal."""
    if len(mine) < LEAST_BLOCKS * SUM:
        return False
    return all(mine[at : at + SUM] != theirs[at : at + SUM] for at in range(0, len(mine), SUM))


def _compared(at: int, shift: int, piece: memoryview, mine: bytes, theirs: bytes) -> Iterator[Literal | Same]:
    begin, same = 0, False
    for number in range(len(mine) // SUM + 1):
        low = min(number * BLOCK, piece.nbytes)
        part = slice(number * SUM, number * SUM + SUM)
        last = number == len(mine) // SUM
        is_same = not last and mine[part] == theirs[part]
        if number and (last or is_same != same):
            if same:
                yield Same(at + begin, at + begin - shift, low - begin)
            else:
                yield Literal(at + begin, piece[begin:low])
            begin = low
        same = is_same
