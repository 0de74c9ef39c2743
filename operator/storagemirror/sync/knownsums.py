"""The block sums of the target's own large files, kept from when they were last read or written by us.

So that a change of a large file that is told again and again does not cost the target a look at all of it. Sums count
for a file as it was: the same inode with the same size, mtime and ctime. Whoever else writes the file moves its ctime,
and then it is read. That holds where a change after a look always has another ctime (`time_grain_ns` is 0); elsewhere
nothing is to be kept. A stat that did not show our own time after our own write is not believed.

What is not found out: content that rots on the disk under an unchanged inode, until the file is read for something
else. A verification by content reads everything.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from storagemirror.fs.blocks import BLOCK, SUM, blocks_in, sums_of, zero_sums
from storagemirror.fs.source import time_grain_ns
from storagemirror.fs.target import TargetVolume

BUDGET = 8 << 20
"""Bytes of sums, and of what each file takes beside: up to 32 GiB of files. The files that were not used for longest go
first."""
BESIDE = 400
"""Bytes that a file takes beside its sums, about."""


class KnownSums:
    """Of one volume. For any thread."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self.hits = 0
        """How often a file did not have to be read."""
        self._lock = threading.Lock()
        self._files: OrderedDict[int, tuple[tuple[int, int, int], bytes]] = OrderedDict()
        self._size = 0

    def find(self, found: os.stat_result) -> bytes | None:
        """16 bytes for each block of this file as it is now; None: not known."""
        with self._lock:
            kept = self._files.get(found.st_ino)
            if kept is None or kept[0] != _state(found):
                return None
            self._files.move_to_end(found.st_ino)
            return kept[1]

    def put(self, found: os.stat_result, sums: bytes) -> None:
        """These are its sums. Not kept where they are not as many as it has blocks, or more than all that is kept."""
        with self._lock:
            self._forget(found.st_ino)
            if len(sums) != blocks_in(found.st_size) * SUM or len(sums) > self.budget:
                return
            self._files[found.st_ino] = _state(found), sums
            self._size += len(sums) + BESIDE
            while self._size > self.budget:
                self._forget(next(iter(self._files)))

    def _forget(self, inode: int) -> None:
        kept = self._files.pop(inode, None)
        if kept is not None:
            self._size -= len(kept[1]) + BESIDE


@dataclass(slots=True)
class Coming:
    """The sums of a file that comes, whole or as a delta; told what is written into it."""

    known: KnownSums
    mtime_ns: int
    """That it is to get."""
    base: os.stat_result | None = None
    """What it starts from; None: from nothing."""
    _told: list[tuple[int, bytes]] = field(default_factory=list)
    """Number of the first block, and sums."""
    _size: int = 0
    _short: int | None = None
    """Where a piece ended within a block: that is the end of the file, or all is lost."""
    _lost: bool = False

    def data(self, offset: int, content: memoryview) -> None:
        """A piece was written."""
        if self._takes(offset, content.nbytes):
            self._add(offset, sums_of(content))

    def hole(self, offset: int, length: int) -> None:
        """Zeros were."""
        if self._takes(offset, length) and blocks_in(length) * SUM <= self.known.budget:
            self._add(offset, zero_sums(length))
        else:
            self._lose()

    def copy(self) -> None:
        """Content was moved: its sums are not known."""
        self._lose()

    def _lose(self) -> None:
        self._lost = True
        self._told.clear()

    def _takes(self, offset: int, length: int) -> bool:
        if self._lost or offset % BLOCK or self._short is not None or self._size > self.known.budget:
            self._lose()
            return False
        if length % BLOCK:
            self._short = offset + length
        return True

    def _add(self, offset: int, sums: bytes) -> None:
        self._told.append((offset // BLOCK, sums))
        self._size += len(sums)

    def sums(self, size: int) -> bytes | None:
        """Of the file, which has `size` bytes; None: not known. Asked before the base is written."""
        blocks = blocks_in(size)
        if self._lost or self._short not in (None, size) or blocks * SUM > self.known.budget:
            return None
        before, same = b"", 0
        if self.base is not None:
            found = self.known.find(self.base)
            if found is None:
                return None
            before = found
            same = blocks if self.base.st_size == size else min(self.base.st_size, size) // BLOCK
        sums = bytearray(before[: blocks * SUM].ljust(blocks * SUM, b"\0"))
        for first, told in self._told:
            if first > same:
                return None  # a block that nobody told of, beyond what the base has
            same = max(same, first + len(told) // SUM)
            sums[first * SUM : first * SUM + len(told)] = told
        return bytes(sums) if same >= blocks and len(sums) == blocks * SUM else None

    def written(self, found: os.stat_result | None, sums: bytes | None) -> None:
        """It has its name and its time; `found`: what is there."""
        if found is not None and sums is not None and found.st_mtime_ns == self.mtime_ns:
            self.known.put(found, sums)


def known_sums(volume: TargetVolume) -> KnownSums | None:
    """For a volume that was just opened; None where nothing is to be kept."""
    try:
        return KnownSums() if time_grain_ns(volume.facts().fs_type) == 0 else None
    except OSError:
        return None


def _state(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
