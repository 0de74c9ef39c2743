"""The trace of one volume: opened, emptied all the time, drained on demand.

What it promises: from the first `syncfs` after `open_trace` on, every change of content is in the hints, or leaves the
inode's ctime changed (`candidates.py` has the rule), as long as `lost` is not set. What was dirty before that syncfs is
not named when it is written again: compare everything once, after it.

The order of a pass that is not frozen is drain, syncfs, read: a page that is dirty already is not named again until it
was written back. The last drain comes after FIFREEZE has returned. (docs/capture.md)
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Self

from storagemirror.errors import BadInput
from storagemirror.fs.trace.collect import Bounds, Collector
from storagemirror.fs.trace.device import find_device
from storagemirror.fs.trace.events import names_structure
from storagemirror.fs.trace.hints import PAGE, Hints, largest_folio
from storagemirror.fs.trace.keeping import Keeper, OwnKeeper
from storagemirror.fs.trace.layout import parse_page_header
from storagemirror.fs.trace.pipes import Pipes
from storagemirror.fs.trace.tracefs import Instance, open_tracefs
from storagemirror.fs.trace.trust import Trust
from storagemirror.fs.trace.unavailable import TraceUnavailable

MEMORY = 64 << 20
"""Bytes of ring buffer, over all processors."""
INTERVAL = 0.1
"""Seconds between two looks at the ring buffers; one that is a quarter full is seen at once."""
_TURN = 128
"""Pages that are read between two looks at how much is kept: some 8,000 records."""


def open_trace(root: int, uid: str, *, memory: int = MEMORY, interval: float = INTERVAL) -> Trace:
    """The trace of the file system that descriptor `root` is open on, running; `uid` is that of our pod.

    What processes of ours that are gone have left in the kernel is removed. `TraceUnavailable`, whose reason and text
    are fit for a status; `BadInput` for a uid that is no name.
    """
    device = find_device(root)
    tracefs = open_tracefs()
    try:
        instance = Instance(tracefs, uid)
    finally:
        os.close(tracefs)
    try:
        keeper = OwnKeeper(root, device, instance, memory)
    except TraceUnavailable:
        instance.close()
        raise
    except (OSError, BadInput) as e:
        instance.close()
        raise TraceUnavailable(f"cannot set up the trace: {e}", reason="NoTracefs") from e
    return trace_of(keeper, interval)


def trace_of(keeper: Keeper, interval: float = INTERVAL) -> Trace:
    """The trace of an instance that is set up; the keeper is its own from here on. `TraceUnavailable`."""
    try:
        return Trace(keeper, interval)
    except (OSError, BadInput) as e:
        keeper.close()
        raise TraceUnavailable(f"cannot read the trace: {e}", reason="NoTracefs") from e


class Trace:
    """Made by `open_trace`; close it, or use it in a `with`. Its methods may be called by any thread."""

    def __init__(self, keeper: Keeper, interval: float) -> None:
        """OSError and `BadInput` where the kernel's files are not what was expected."""
        self.device = keeper.device
        self.trust = Trust()
        self.removed = keeper.removed
        """Names of stale instances that were removed at the start."""
        self._keeper = keeper
        self._lock = threading.Lock()
        self._why = ""
        self._stopping = False
        with ExitStack() as undo:
            self._collector = Collector(keeper.events, largest_folio(), Bounds())
            self._pipes = Pipes(keeper.files, parse_page_header(keeper.files.read("events/header_page")))
            undo.callback(self._pipes.close)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, self._wake)
            self._undo = undo.pop_all()
        self._thread = threading.Thread(target=self._run, args=(interval,), name="trace", daemon=True)
        self._thread.start()

    @property
    def gone(self) -> bool:
        """Whether the process that set the trace up and looks after it is gone: open another one."""
        return self._keeper.gone

    @property
    def names_structure(self) -> bool:
        """Whether holes, clones and truncation are named. Where they are not (btrfs), a file whose ctime changed is
        compared whole."""
        return names_structure(self.device.fs_type)

    @property
    def records(self) -> int:
        """How many records were read since it was opened."""
        return self._pipes.taken()

    def drain(self, *, frozen: bool = False) -> Hints:
        """All that was named since the last drain.

        `frozen`: the file system is frozen at the call, so that everything that had begun has ended. What goes wrong is
        no error but `lost`, with its `why`.
        """
        with self._lock:
            if self._stopping:
                return Hints(lost=True, why="the trace is closed")
            self._sweep()
            self._check(frozen)
            found = self._collector.hints(frozen)
            why, self._why = self._why or found.why, ""
        return replace(found, lost=bool(why), why=why)

    def prove(self, directory: int) -> bool:
        """Write a page into a file without a name in `directory`, and see whether that is named: then `trust` is
        proven, else broken. False, and nothing changed, where we may not write there (a mount that is read-only)."""
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=directory)
        except OSError:
            return False
        try:
            ino = os.fstat(fd).st_ino
            os.write(fd, bytes(PAGE))
            with self._lock:
                self._sweep()
                self.trust.compared(named=1, missed=0) if self._collector.knows(ino) else self.trust.compared(0, 1)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def close(self) -> None:
        """Stop, and remove everything from the kernel."""
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._undo.close()
        self._keeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _run(self, interval: float) -> None:
        """Keeps the ring buffers from running over."""
        poll = select.poll()
        for fd in (*self._pipes.descriptors(), self._wake):
            poll.register(fd, select.POLLIN)
        while not self._stopping:
            poll.poll(interval * 1000)
            with self._lock:
                if not self._stopping:
                    self._sweep()

    def _sweep(self) -> None:
        """Read every pipe once to its end; or, when it is filled as fast as it is read, as much as it can hold."""
        for pipe in range(len(self._pipes)):
            for _ in range(self._keeper.pages_each // _TURN + 1):
                try:
                    more = self._pipes.read(pipe, self._collector.take, _TURN)
                except (OSError, BadInput) as e:
                    self._why = self._why or f"a ring buffer cannot be read: {e}"
                    break
                self._collector.settle()
                if not more:
                    break
        self._collector.swept()

    def _check(self, frozen: bool) -> None:
        """Was anything lost, or did anybody turn us off?"""
        try:
            found = self._pipes.losses() + self._keeper.check(frozen=frozen)
        except (OSError, TraceUnavailable) as e:
            found = [f"the trace cannot be looked after: {e}"]
        self._why = "; ".join(word for word in (self._why, *found) if word)
