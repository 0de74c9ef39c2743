"""Progress: how much is done, how fast, and how much there is."""

from __future__ import annotations

import os
import stat
import threading
from collections import deque
from collections.abc import Callable

from storagemirror.clock import Clock
from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, join
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.observer import Progress

REPORT_SECONDS = 0.5
COUNT_AFTER_SECONDS = 5.0
"""A mirror that is over sooner needs no totals; counting looks at every file once more, and slows it down."""
_WINDOW_SECONDS = 5.0
_SELDOM, _MUCH = 15, 64 << 10
"""The clock is looked at with each 16th entry, and with each that is large."""


class Meter:
    """Counts what a mirror does, and tells it twice a second. Counts the source in a thread of its own, late."""

    def __init__(self, clock: Clock, tell: Callable[[Progress], None], wire_bytes: Callable[[], int]) -> None:
        self._clock = clock
        self._tell = tell
        self._wire_bytes = wire_bytes
        self._started = self._last = clock.monotonic()
        self._files = 0
        self._bytes = 0
        self._quick = 0
        self._samples: deque[tuple[float, int]] = deque([(self._started, 0)])
        self._totals: tuple[int, int] | None = None
        self._counting: threading.Thread | None = None
        self._stop = threading.Event()
        self.room: int | None = None
        """Bytes that the target has for all of it, where that is known."""
        self.too_large: Callable[[int, int], None] = lambda needed, room: None
        """Told once, by whoever calls `done`, where more is needed than there is room for."""
        self._needed = 0

    def done(self, files: int, size: int) -> None:
        """So much more was compared or sent."""
        self._files += files
        self._bytes += size
        self._quick += 1
        if self._quick & _SELDOM and size < _MUCH:
            return
        now = self._clock.monotonic()
        if now - self._last >= REPORT_SECONDS:
            self._last = now
            self._tell(self.progress(now))
            self._foresee()

    def _foresee(self) -> None:
        """Known once the source was counted: long before the target is full, where that takes long."""
        if self.room is not None and self._totals is not None and self._needed > self.room:
            self.too_large(self._needed, self.room)
            self.room = None

    def progress(self, now: float) -> Progress:
        """As it stands; totals grow where the source grew after it was counted."""
        samples = self._samples
        samples.append((now, self._bytes))
        while len(samples) > 2 and now - samples[0][0] > _WINDOW_SECONDS:
            samples.popleft()
        then, before = samples[0]
        rate = int((self._bytes - before) / (now - then)) if now > then else 0
        totals = self._totals
        return Progress(
            files_done=self._files,
            files_total=max(totals[0], self._files) if totals else None,
            bytes_done=self._bytes,
            bytes_total=max(totals[1], self._bytes) if totals else None,
            bytes_per_second=rate,
            wire_bytes=self._wire_bytes(),
        )

    def count(self, tree: Tree, scopes: tuple[bytes, ...], selection: Selection | None = None) -> None:
        """Find the totals, beside all else, once it is clear that it takes a while."""
        self._counting = threading.Thread(
            target=self._count, args=(tree, scopes, selection), name="counting", daemon=True
        )
        self._counting.start()

    def finish(self, files: int, size: int) -> None:
        """The mirror has ended: so much there was."""
        self.abandon()
        self._files, self._bytes = files, size
        self._totals = files, size
        self._tell(self.progress(self._clock.monotonic()))

    def abandon(self) -> None:
        """The mirror has failed: count no more."""
        self._stop.set()
        if self._counting is not None:
            self._counting.join()

    def _count(self, tree: Tree, scopes: tuple[bytes, ...], selection: Selection | None) -> None:
        if self._stop.wait(COUNT_AFTER_SECONDS):
            return
        files = size = needed = 0
        pending = list(scopes)
        while pending:
            path = pending.pop()
            try:
                fd = tree.open_directory(path)
            except OSError:
                continue
            try:
                with os.scandir(b"/proc/self/fd/%d" % fd) as found:
                    for entry in found:
                        if self._stop.is_set():
                            return
                        if not path and entry.name in (STATE_DIRECTORY, LOST_AND_FOUND):
                            continue
                        is_directory = entry.is_dir(follow_symlinks=False)
                        if selection is not None and selection.excludes(path, entry.name, is_directory=is_directory):
                            continue
                        files += 1
                        if is_directory:
                            pending.append(join(path, entry.name))
                        elif entry.is_file(follow_symlinks=False):
                            length, taken = _size(fd, entry.name)
                            size += length
                            needed += taken
            except OSError:
                continue
            finally:
                os.close(fd)
        self._needed = needed
        self._totals = files, size


def _size(fd: int, name: bytes) -> tuple[int, int]:
    """Its length, and the room it takes without its holes; of one with several names the part of this name. What it
    shares with other files counts for each: the target has no shared extents."""
    try:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return 0, 0
    if not stat.S_ISREG(found.st_mode):
        return 0, 0
    return found.st_size, found.st_blocks * 512 // found.st_nlink
