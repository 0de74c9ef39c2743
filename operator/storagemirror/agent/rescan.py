"""Finding by their ctimes the files that were written although nothing told of it.

Writes through a shared memory map and Linux native asynchronous I/O (libaio) raise no inotify event while the file is
open; they move its ctime. So the source's files are looked at again and again, in slices between changes that are told,
for `SHARE` of the time: 1,000 files each 2 s, 10,000 each 20 s.

Whether nothing told of a change is known only after the next drain: until then it is a suspicion. And a page that is
dirty already moves no time when it is written once more. So what was found is synced before it is named: what is
written after that moves its ctime again, and the next look finds it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from storagemirror.clock import Clock
from storagemirror.entry import brief, join
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.changes import Drained
from storagemirror.sync.pending import IGNORED
from storagemirror.sync.requests import Changes

log = logging.getLogger("storagemirror.agent")

SHARE = 0.0025
"""Of the time may go into looking."""
SYNC_SHARE = 0.05
"""Of the time may go into syncing what was found: then the next look comes later."""
SLICE_SECONDS = 0.004
"""Changes that are told wait for no more than about this (and for the sync of what is found)."""
LEAST_SECONDS = 1.0
"""Between the beginnings of two looks at everything."""
STEP = 200
"""Entries between two looks at the clock."""
MOST_NAMES = 50_000
"""Names that were told, and need not be found. Where more change during one look, its findings would be of no use: it
begins anew, and what was written silently before is left to the next full comparison."""
TICK_NS = round(time.clock_getres(5) * 1e9)
"""Of CLOCK_REALTIME_COARSE."""
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Rescan:
    """Of one source, while its changes are told by name. For the thread that sends them."""

    def __init__(
        self,
        tree: Tree,
        selection: Selection | None,
        clock: Clock,
        name: Callable[[Changes], None],
        *,
        grain_ns: int,
    ) -> None:
        """`name` takes what was found, to be drained with all else. `grain_ns`: two changes of a file so far apart may
        have the same time. (A file's time is also that of the kernel's slow clock: up to a tick before the change, or
        two, also where changes have times of their own.)"""
        self._tree = tree
        self._selection = selection
        self._clock = clock
        self._name = name
        self._grain_ns = max(grain_ns, 2 * TICK_NS)
        self._since_ns = clock.now_ns()
        """What has an older ctime needs no look."""
        self._began_ns = 0
        self._told: dict[bytes, int] = {}
        """When a name was drained last: what was written before then is sent, or on its way."""
        self._trees: dict[bytes, int] = {}
        """As `_told`, with all below."""
        self._walk: Iterator[None] | None = None
        self._due = 0.0
        self._least = 0.0
        self._suspects: dict[bytes, int] = {}
        """Files whose ctime, this one, is not told of yet."""
        self._looked_ns = 0
        """When the last of them was looked at."""
        self._through_ns = 0
        """Of the last drain."""
        self._said = False

    # -- what else finds changes

    def compared(self, started_ns: int) -> None:
        """A full comparison has ended that synced the source and began then."""
        self._anew(started_ns - self._grain_ns)

    def drained(self, changes: Drained) -> None:
        """These are told, as they are at `through_ns` or later."""
        self._through_ns = changes.through_ns
        if changes.whole:
            return  # a full comparison follows, which says so itself
        self._told.update(dict.fromkeys(changes.paths, changes.through_ns))
        self._trees.update(dict.fromkeys(changes.trees, changes.through_ns))
        if len(self._told) + len(self._trees) > MOST_NAMES:
            self._anew(changes.through_ns)

    def _anew(self, since_ns: int) -> None:
        self._walk = None
        self._suspects.clear()
        self._from(since_ns)

    def _from(self, since_ns: int) -> None:
        self._since_ns = since_ns
        now = self._clock.now_ns()  # what is later was told before the clock was set back
        self._told = {path: at for path, at in self._told.items() if since_ns <= at <= now}
        self._trees = {path: at for path, at in self._trees.items() if since_ns <= at <= now}

    # -- looking

    def advance(self) -> None:
        """Look on for a moment, where it is time to. What is found is handed to `name`."""
        self._find()
        began = self._clock.monotonic()
        if began < self._due or self._suspects:
            return
        if self._walk is None:
            self._began_ns, self._least = self._clock.now_ns(), began + LEAST_SECONDS
            self._walk = self._look()
        ended = False
        while not ended and self._clock.monotonic() < began + SLICE_SECONDS:
            ended = next(self._walk, self) is self
        self._looked_ns = self._clock.now_ns()
        now = self._clock.monotonic()
        self._due = now + (now - began) / SHARE
        if ended:
            self._walk = None
            self._due = max(self._due, self._least)
            if not self._suspects:
                self._from(self._began_ns - self._grain_ns)

    def _find(self) -> None:
        """What was suspected, and not told by now, is synced, so that the next write to it shows, and named."""
        if not self._suspects or self._through_ns <= self._looked_ns:
            return
        found = {path for path, changed_ns in self._suspects.items() if not self._is_told(path, changed_ns)}
        self._suspects.clear()
        if self._walk is None:
            self._from(self._began_ns - self._grain_ns)
        if not found:
            return
        began = self._clock.monotonic()
        for path in found:
            with suppress(OSError):  # gone, or not ours to read: whoever sends it says so
                self._sync(path)
        now = self._clock.monotonic()
        self._due = max(self._due, now + (now - began) / SYNC_SHARE)
        if not self._said:
            self._said = True
            log.info("%s was written without an event: found by its ctime, as all such files", brief(min(found)))
        self._name(Changes(paths=frozenset(found)))

    def _sync(self, path: bytes) -> None:
        directory, _, name = path.rpartition(b"/")
        above = self._tree.open_directory(directory)
        try:
            fd = os.open(name, _READ, dir_fd=above)
        finally:
            os.close(above)
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def _look(self) -> Iterator[None]:
        """At everything, once; it can be left after each yield."""
        below = [b""]
        while below:
            path = below.pop()
            try:
                fd = self._tree.open_directory(path)
            except OSError:
                continue  # gone, or not to be read: that is told elsewhere
            try:
                with os.scandir(fd) as entries:
                    for number, entry in enumerate(entries, 1):
                        name = os.fsencode(entry.name)
                        if self._entry(path, name, entry):
                            below.append(join(path, name))
                        if number % STEP == 0:
                            yield
            except OSError:
                pass  # the directory went while it was read
            finally:
                os.close(fd)
            yield

    def _entry(self, directory: bytes, name: bytes, entry: os.DirEntry[str]) -> bool:
        """Whether it is a directory to go into; a file that was written in silence is put down."""
        is_directory = entry.is_dir(follow_symlinks=False)
        if not (is_directory or entry.is_file(follow_symlinks=False)) or (not directory and name in IGNORED):
            return False
        if self._selection is not None and self._selection.excludes(directory, name, is_directory=is_directory):
            return False
        if is_directory:
            return True
        with suppress(FileNotFoundError):
            changed_ns = entry.stat(follow_symlinks=False).st_ctime_ns
            if changed_ns >= self._since_ns and not self._is_told(path := join(directory, name), changed_ns):
                self._suspects[path] = changed_ns
        return False

    def _is_told(self, path: bytes, changed_ns: int) -> bool:
        """Whether what was done then was told after it."""
        after = changed_ns + self._grain_ns
        if self._told.get(path, 0) > after or self._trees.get(b"", 0) > after:
            return True
        while self._trees and path:
            if self._trees.get(path, 0) > after:
                return True
            path = path.rpartition(b"/")[0]
        return False
