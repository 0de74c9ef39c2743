"""Live passes: what changed is read and told while the application writes, so that little is left for the freeze.

One pass, in this order: take the hints, look at the ctimes, `syncfs`, read. A page that is dirty already says nothing
when it is written again, and moves no time: read before the `syncfs`, it would be wrong at the point and nobody would
know.
"""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.clock import Clock
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.pointmaker.capturing import Capture, Ranges
from storagemirror.sync.pointmaker.catalogue import Catalogue, Known
from storagemirror.sync.pointmaker.figures import Figures
from storagemirror.sync.pointmaker.narrowing import Narrowing
from storagemirror.sync.pointmaker.opened import Opened
from storagemirror.sync.pointmaker.surveying import Due, Survey
from storagemirror.sync.pointmaker.telling import Reader

SETTLE_NS = 1_000_000_000
"""Where pages are not named: what changed less than this before it was looked at is read again while frozen. A direct
write moves the ctime when it begins; one that takes longer than this on the disk, and is told by nothing else (libaio),
would be missed."""
EVERYWHERE_SHARE = 0.01
"""Of the time may go into looking at every ctime."""
SILENT_SECONDS = 600.0
MOST_PASSES = 4
ENOUGH_BYTES = 4 << 20
"""A pass that told less needs no further one after it."""


@dataclass(slots=True)
class Everywhere:
    """Looking at the ctimes of all objects: what neither inotify nor pages tell."""

    seconds: float = 0.0
    """What it took last."""
    again: float = 0.0
    """When it may be done again, on the monotonic clock."""


class Passes:
    """Of one source."""

    def __init__(
        self, catalogue: Catalogue, survey: Survey, volume: SourceVolume, capture: Capture, clock: Clock
    ) -> None:
        self._catalogue = catalogue
        self._survey = survey
        self._volume = volume
        self._capture = capture
        self._clock = clock
        self.narrowing = Narrowing(capture, clock, volume.grain_ns)
        self._doubted = False
        self.everywhere = Everywhere()
        self.silent: dict[Known, float] = {}
        """Changed once without a hint: looked at each time from then on. When that was last, on the monotonic clock."""
        self.sync_seconds = 0.0
        """What the last `syncfs` took."""
        self.through_ns = 0
        """When the last look began that found nothing; 0: none did."""

    @property
    def names_pages(self) -> bool:
        """See `Capture`."""
        return self._capture.names_pages

    def doubt_pages(self, figures: Figures) -> bool:
        """Where a change was not named that should have been: all that was told by its pages is told anew. Whether
        that was found now."""
        if self._doubted or not self._capture.broken:
            return False
        self._doubted = True
        figures.missed += 1
        for known in self._catalogue.by_inode.values():
            if known.narrow:
                self._survey.make_due(known)
        for due in self._survey.due.values():
            due.ranges, due.unnamed = None, False
        return True

    def look(self, figures: Figures, last_point_ns: int) -> None:
        """At what is hinted, and, as often as may be, at everything."""
        self.doubt_pages(figures)
        self.through_ns = self._clock.now_ns()
        hints = self.narrowing.drain()
        self._survey.settle_ns = max(self._volume.grain_ns, 0 if self.names_pages else SETTLE_NS)
        began = self._clock.monotonic()
        self.silent = {
            known: seen
            for known, seen in self.silent.items()
            if known.parent is not None and began - seen < SILENT_SECONDS
        }
        for known in self.silent:
            self._survey.again(known)
        self._survey.look(hints)
        began = self._clock.monotonic()
        if began >= self.everywhere.again:
            # What was told and cannot be trusted yet is read again while frozen: to find it says nothing of points.
            before = {*self._survey.due, *self._survey.unsettled}
            self._survey.look_everywhere()
            self.everywhere.seconds = self._clock.monotonic() - began
            self.everywhere.again = began + self.everywhere.seconds / EVERYWHERE_SHARE
            self._find_silent(before, figures, last_point_ns)
        if self.names_pages:
            # What was found by its ctime may have changed since the drain: by now it is named.
            self._survey.look(self.narrowing.drain())

    def run(self, opened: Opened, reader: Reader, figures: Figures, last_point_ns: int) -> None:
        """Passes until little is left, or too much was told in vain, after a first look. OSError when the disk fails;
        `Disconnected`."""
        for number in range(MOST_PASSES):
            if number:
                self.look(figures, last_point_ns)
            due = [(known, found) for known, found in self._survey.due.items() if known.children is None]
            if number and not due:
                return
            began = self._clock.monotonic()
            self._volume.sync()
            self.sync_seconds = self._clock.monotonic() - began
            before = opened.bytes
            for known, found in due:
                if opened.teller.repeats.too_many:
                    return
                self._tell(opened, reader, known, found)
            if opened.bytes - before <= ENOUGH_BYTES:
                return

    def expected_bytes(self) -> int:
        """What would have to be read if the volume were frozen now; at least."""
        size = 0
        named = self.names_pages
        for known in {*self._survey.due, *self._survey.unsettled}:
            due = self._survey.due.get(known)
            if named and due is not None and due.ranges is not None:
                size += _within(due.ranges, due.size or known.size)
            elif known.children is None:
                size += max(known.size, due.size if due is not None else 0)
        for inode, ranges in self.narrowing.standing.items():
            begun = self._catalogue.by_inode.get(inode)
            if begun is not None and begun not in self._survey.due:
                size += begun.size if ranges is None else _within(ranges, begun.size)
        return size

    def _tell(self, opened: Opened, reader: Reader, known: Known, due: Due) -> None:
        """Read and tell one object."""
        opened.touch(known)
        try:
            read = reader.read(known, due, opened.teller)
        except OSError as e:
            opened.cannot_read(known, e)
            self._survey.told(known, due.ctime_ns)
            self._survey.doubtful.add(known)
            return
        if read is None:
            return  # it has moved or gone: it stays due, and the hint that says where to is on its way
        opened.told(read)
        self._survey.told(known, read.ctime_ns)

    def _find_silent(self, before: set[Known], figures: Figures, last_point_ns: int) -> None:
        for known, due in self._survey.due.items():
            if known in before or known.children is not None or known in self._catalogue.since.new:
                continue
            self.silent[known] = self._clock.monotonic()
            if 0 < due.changed_ns < last_point_ns:
                figures.missed += 1


def _within(ranges: Ranges, size: int) -> int:
    """Bytes of a file of this size."""
    return sum(max(0, min(end, size) - begin) for begin, end in ranges)
