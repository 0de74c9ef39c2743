"""Reading files of a volume beside an application that works on it.

The page cache is left as it was: what was not in it before we read is taken out again afterwards, in what we read only.
What was in it stays, and so does what somebody has mapped or written. Pages that the application itself brings in while
we read the same place may go with ours: then it reads them once more.

Whether pages were there is asked *before* reading, further ahead than the kernel reads ahead:
- of a large file once for all of it; where some pages were there and others not, page by page, a window at a time;
- of a small one by reading it with RWF_NOWAIT: what comes at once was there. While file after file is there only
  every eighth is asked.

Where the kernel does not say (another owner's files without the right to write them, Linux before 6.5, a file system
that cannot read without waiting) the cache is left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from storagemirror.fs.page_cache import PAGE, cached_pages, forget, resident

_WINDOW = 32 << 20
_AHEAD = 32 << 20
"""The kernel reads ahead less than this (twice 8 MiB on btrfs, where others take 256 KiB)."""
_BEHIND = 4 << 20
"""So much is taken out at a time."""
_STEADY, _EVERY = 32, 8


class Reading:
    """How the files of one volume are read. For one thread at a time, save `before`."""

    def __init__(self) -> None:
        self.before: Callable[[int], None] | None = None
        """Called with the number of bytes that are about to be read; may take its time."""
        self._can_ask = True
        self._warm = 0

    def large(self, fd: int, size: int) -> Footprint:
        """For reading a large file, from its begin to its end."""
        return Footprint(fd, size, self.before)

    def small(self, fd: int, size: int, room: memoryview) -> int:
        """An open file of `size` bytes, read into `room`; how many bytes came, which may be fewer."""
        if self.before is not None:
            self.before(size)
        if not self._can_ask or (self._warm >= _STEADY and (self._warm + 1) % _EVERY):
            self._warm += 1
            return os.preadv(fd, (room,), 0)
        try:
            count = os.preadv(fd, (room,), 0, os.RWF_NOWAIT)
        except BlockingIOError:
            self._warm = 0
            count = os.preadv(fd, (room,), 0)
            forget(fd, 0, 0)
            return count
        except OSError:
            self._can_ask = False
            return os.preadv(fd, (room,), 0)
        self._warm += 1
        return count


class Footprint:
    """Of one large file that is read. Call `ahead` before each piece, `read` after it, `end` at last."""

    def __init__(self, fd: int, size: int, before: Callable[[int], None] | None) -> None:
        self._fd = fd
        self._size = size
        self._before = before
        cached = cached_pages(fd)
        self._all = cached is None or cached * PAGE >= size
        self._none = cached == 0
        self._done = 0
        self._known: list[tuple[int, bytes]] = []
        self._known_to = 0

    def ahead(self, offset: int, length: int) -> None:
        """A piece is about to be read. Pieces come in ascending order."""
        if self._before is not None:
            self._before(length)
        while not (self._all or self._none) and self._known_to < min(self._size, offset + length + _AHEAD):
            begin = max(self._known_to, offset - offset % PAGE)
            pages = resident(self._fd, begin, min(_WINDOW, self._size - begin))
            if pages is None:
                self._all = True
                return
            self._known.append((begin, pages))
            self._known_to = begin + _WINDOW

    def read(self, end: int) -> None:
        """Everything before `end` was read."""
        if not self._all and end - self._done >= _BEHIND:
            self._forget(end - end % PAGE)

    def end(self) -> None:
        """No more is read. (The kernel may have read ahead of it.)"""
        if not self._all:
            self._forget(None)

    def _forget(self, end: int | None) -> None:
        if self._none:
            forget(self._fd, self._done, 0 if end is None else end - self._done)
        else:
            for begin, pages in self._known:
                self._forget_absent(begin, pages, self._done, self._known_to if end is None else end)
            self._known = [known for known in self._known if end is None or known[0] + _WINDOW > end]
        self._done = self._done if end is None else end

    def _forget_absent(self, begin: int, pages: bytes, start: int, end: int) -> None:
        """Runs of pages that were not there, from `start` to `end`."""
        at = max(0, (start - begin) // PAGE)
        last = min(len(pages), -(-(end - begin) // PAGE))
        if pages.count(1, at, last) == last - at:
            return  # all were there: most often
        while at < last:
            if pages[at] & 1:
                at += 1
                continue
            run = at
            while at < last and not pages[at] & 1:
                at += 1
            forget(self._fd, begin + run * PAGE, (at - run) * PAGE)
