"""Records gathered into hints, in bounded memory."""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from storagemirror.errors import BadInput
from storagemirror.fs.trace.events import Chosen, Meaning
from storagemirror.fs.trace.hints import PAGE, Hints, Range, Ranges, folio, merged

_KIND = struct.Struct("=H")
"""`common_type`, with which each record's data begins."""
_FEW = 16
_END = (1 << 63) - 1
"""Where the largest file ends."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept between two drains: numbers of folios and places, some 100 bytes each.

    More than `exact` folios of one file are kept as pieces of 2 MiB, more than that many of these as the whole file.
    More than `total` altogether, and every file of which more than a few are kept is kept by pieces; still more, and
    everything is compared.
    """

    exact: int = 32_768
    total: int = 131_072


class Collector:
    """Takes records one by one; gives hints. For one thread at a time."""

    def __init__(self, events: Iterable[Chosen], largest: int, bounds: Bounds | None = None) -> None:
        """`largest` folio of this machine, in bytes."""
        self._largest = largest
        self._bounds = bounds or Bounds()
        self._events = {event.number: event for event in events}
        dirty = [event for event in self._events.values() if event.meaning is Meaning.DIRTY]
        self._dirty, self._unpack_dirty = dirty[0].number, dirty[0].unpack.unpack_from
        # Direct I/O that has begun and may be a read; places where a write is known to be, of this sweep and the last.
        self._begun: dict[Range, int] = {}
        self._writing: set[Range] = set()
        self._wrote: set[Range] = set()
        self._clear()

    def _clear(self) -> None:
        self._folios: defaultdict[int, set[int]] = defaultdict(set)
        self._pieces: defaultdict[int, set[int]] = defaultdict(set)
        self._direct: defaultdict[int, set[Range]] = defaultdict(set)
        self._whole: set[int] = set()
        self._flooded: set[int] = set()  # files of which too much was named to keep
        self._full = False
        self._kept = self._since = 0

    def take(self, buffer: bytearray, data: int, end: int) -> None:
        """One record, between these places of the buffer. `BadInput` for one that is too short."""
        self._since += 1
        (number,) = _KIND.unpack_from(buffer, data)
        if number == self._dirty:
            ino, index = self._unpack_dirty(buffer, data)
            self._folios[ino].add(index)
        else:
            self._take_other(number, buffer, data, end)

    def _take_other(self, number: int, buffer: bytearray, data: int, end: int) -> None:
        event = self._events.get(number)
        if event is None:  # somebody's `trace_marker`, or an event that somebody else enabled in our instance
            return
        if data + event.unpack.size > end:
            raise BadInput(f"a record of {event.name} of {end - data} bytes, expected {event.unpack.size}")
        values = event.unpack.unpack_from(buffer, data)
        if event.meaning is Meaning.WHOLE:
            self._whole.update(values)
        elif event.meaning is Meaning.DIRECT:
            ino, start, length = values
            self._direct[ino].add((start, start + length))
        elif event.meaning is Meaning.TAIL:
            ino, start = values
            self._direct[ino].add((start, _END))
        elif event.meaning is Meaning.DIRECT_WRITE:
            self._writing.add(values)
            length = self._begun.pop(values, 0)
            if length:
                self._direct[values[0]].add((values[1], values[1] + length))
        else:
            ino, start, length = values
            if (ino, start) in self._writing or (ino, start) in self._wrote:
                self._direct[ino].add((start, start + length))
            else:
                self._begun[ino, start] = max(length, self._begun.get((ino, start), 0))

    def knows(self, ino: int) -> bool:
        """Whether anything of this inode was named since the last hints."""
        return any(ino in named for named in (self._folios, self._pieces, self._direct, self._whole, self._flooded))

    def settle(self) -> None:
        """Keep to the bounds. To be called after some thousand records; looks when enough have come to be worth it."""
        if self._since >= max(self._bounds.exact // 4, self._kept // 4):
            self._settle()

    def _settle(self) -> None:
        self._since = 0
        exact = self._bounds.exact
        self._coarsen(exact)
        for kept_of in (self._pieces, self._direct):
            self._flooded.update(ino for ino, ranges in kept_of.items() if len(ranges) > exact)
        for ino in self._flooded:
            self._folios.pop(ino, None)
            self._pieces.pop(ino, None)
            self._direct.pop(ino, None)
        if len(self._begun) > exact:  # whether these are reads will be told too late: take them for writes
            for (ino, start), length in self._begun.items():
                self._direct[ino].add((start, start + length))
            self._begun.clear()
        self._kept = self._count()
        if self._kept > self._bounds.total:
            self._coarsen(_FEW)
            self._kept = self._count()
        if self._kept > self._bounds.total:
            self._clear()
            self._full = True

    def _coarsen(self, most: int) -> None:
        """Keep files of which more than `most` folios are kept by pieces, and those that are already."""
        per_piece = self._largest // PAGE
        for ino, indexes in list(self._folios.items()):
            if ino in self._pieces or len(indexes) > most:
                self._pieces[ino].update(index // per_piece for index in indexes)
                del self._folios[ino]

    def _count(self) -> int:
        kept = len(self._whole) + len(self._flooded)
        for named in (self._folios, self._pieces, self._direct):
            kept += sum(map(len, named.values()))
        return kept

    def swept(self) -> None:
        """Every processor's pipe was read once. A place that a write named stays for one more sweep: the record of
        where the same direct I/O began may lie in the pipe of a processor that was read before."""
        self._wrote, self._writing = self._writing, set()

    def hints(self, frozen: bool) -> Hints:
        """What was gathered since the last call; begins anew. `lost` only where it was too much to keep.

        `frozen`: the file system is, so what direct I/O has begun and not turned out to be a write is a read.
        """
        self._settle()
        if frozen:
            self._begun.clear()
            self._wrote.clear()
        direct = {ino: merged(ranges) for ino, ranges in self._direct.items()}
        pages: dict[int, Ranges] = {}
        for ino in self._folios.keys() | self._pieces.keys() | direct.keys():
            found = [folio(index, self._largest) for index in self._folios.get(ino, ())]
            for piece in self._pieces.get(ino, ()):
                found.append((piece * self._largest, (piece + 1) * self._largest))
            pages[ino] = merged((*found, *direct.get(ino, ())))
        why = "more changed between two drains than is kept" if self._full else ""
        hints = Hints(pages, direct, frozenset(self._whole | self._flooded), self._full, why)
        self._clear()
        return hints
