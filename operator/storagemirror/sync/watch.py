"""Seeing what changes on the source, with inotify.

A thread of its own takes events from the kernel as they come, so that a slow transfer does not overflow the kernel's
queue (16,384 events by default), and keeps the names in sets, so that a file written a million times is one name.

What is promised: once `drain` has returned `Drained` with `through_ns`, every path whose content or attributes were
changed before that moment, by anything inotify tells of, is named in it or was named before. What inotify does not
tell is for the caller to find (`storagemirror.agent.rescan`, a periodic full comparison): writes through a shared
mapping and by libaio before the file is closed, files written through a descriptor whose name was unlinked and linked
again elsewhere, and on network file systems what other nodes do.

Hard links: a change is told under the name it was made by. The other names of that inode are not told; the target
must keep them one inode.

Whatever is lost (the kernel's queue overflowed, more names than we keep) comes out as `trees={b""}`: compare
everything. Where the node allows no more watches, `capture` becomes `Scan` with a reason, and every `scan_every`
seconds the whole tree is named.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass

from storagemirror.clock import Clock, SystemClock
from storagemirror.contract import Capture
from storagemirror.errors import VolumeError
from storagemirror.fs.inotify import Inotify, Mask, WatchLimit
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.changes import WHOLE_TREE, Drained
from storagemirror.sync.pending import IGNORED, Pending
from storagemirror.sync.requests import Changes
from storagemirror.sync.watchtree import WatchedTree

_OVERFLOW = int(Mask.Q_OVERFLOW)
SHORT_REST, LONG_REST = 0.002, 0.008
"""Seconds between two readings of events: an event wakes us, and a burst has thousands, so some come together. The
longer, the longer the burst; but well below `WatchOptions.quiet`, by which its end is told."""


@dataclass(frozen=True)
class WatchOptions:
    """Seconds, and numbers of names."""

    quiet: float = 0.02
    """A burst is over when nothing has happened for so long."""
    latency: float = 0.2
    """A burst that does not end is handed over after so long."""
    names: int = 50_000
    """More names than this, not yet drained, become "compare everything"."""
    batch: int = 10_000
    """So many names are handed over without waiting for the burst's end."""
    scan_every: float = 15.0
    """Where watches are not to be had: at least so long between two comparisons of everything."""


class TreeWatch:
    """All changes below one directory. `start`, then `drain` again and again, then `close`."""

    def __init__(
        self,
        volume: Tree,
        options: WatchOptions | None = None,
        clock: Clock | None = None,
        selection: Selection | None = None,
    ) -> None:
        """`volume` stays the caller's, and open until we are closed. What happens in directories that `selection`
        leaves out is not seen."""
        self._selection = selection
        self._volume = volume
        self._options = options or WatchOptions()
        self._clock = clock or SystemClock()
        self._inotify: Inotify | None = None
        self._tree: WatchedTree | None = None
        self._thread: threading.Thread | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ready = threading.Condition()  # guards everything below
        self._names = Pending(self._options.names)
        self._events = 0
        self._failure: Exception | None = None
        self._closing = False
        self._woken = False
        self._scanned = 0.0
        self._scan_due: float | None = None
        self._through = 0
        self._reason = ""

    def start(self) -> None:
        """Watch the whole tree. From the return on no change is missed; what was there before is not named.

        Raises VolumeError where the root cannot be read.
        """
        self._through = self._clock.now_ns()
        self._scanned = self._clock.monotonic()
        try:
            self._inotify = Inotify()
            self._tree = WatchedTree(self._inotify, self._volume, IGNORED, self._selection)
            self._tree.build()
        except WatchLimit as e:
            self._fall_back(e)
            return
        except OSError as e:
            raise _unreadable(e) from e
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    @property
    def capture(self) -> Capture:
        """How changes are seen."""
        return Capture.SCAN if self._reason else Capture.WATCH

    @property
    def reason(self) -> str:
        """Why `capture` is `Scan`, and what to do about it; empty while it is `Watch`."""
        return self._reason

    @property
    def watches(self) -> int:
        """Number of directories that are watched."""
        with self._ready:
            return len(self._tree) if self._tree else 0

    @property
    def unreadable(self) -> int:
        """Number of directories that could not be watched because we may not read them."""
        with self._ready:
            return self._tree.unreadable if self._tree else 0

    @property
    def names(self) -> int:
        """How many are not drained yet."""
        with self._ready:
            return len(self._names)

    @property
    def overflows(self) -> int:
        """How often more names came than we keep: "compare everything" was or will be handed over then."""
        with self._ready:
            return self._names.overflows

    def limit(self, names: int) -> None:
        """From now on so many are kept, in the place of `WatchOptions.names`."""
        with self._ready:
            self._names.most = names
            self._names.bound()

    def drain(self, timeout: float, *, at_once: bool = False) -> Drained:
        """What has changed since the last call; waits up to `timeout` seconds for something to happen, and then for a
        burst to end, unless `at_once`.

        Raises VolumeError (`SourceUnmounted`, `SourceReplaced`, `SourceUnreadable`) when the tree is no longer there:
        nothing may be concluded from what is missing then.
        """
        if self._reason:
            return self._drain_scan(timeout)
        deadline = self._clock.monotonic() + timeout
        with self._ready:
            while not self._pending() and (left := deadline - self._clock.monotonic()) > 0:
                self._ready.wait(left)
            if not at_once:
                self._wait_for_quiet()
            if self._closing:
                return Drained(through_ns=self._through)
            # Taken before the last read: an event queued by now is in what we read after it.
            through = self._clock.now_ns()
            self._pump()
            # Removing a directory that we hold open raises no event.
            if self._failure is None and os.fstat(self._volume.root).st_nlink == 0:
                self._failure = _root_gone(0)
            if self._failure is not None:
                raise self._failure
            self._through = through
            self._woken = False
            return self._names.take(through)

    def put_back(self, changes: Changes) -> None:
        """What was drained and could not be used: comes again with the next `drain`."""
        with self._ready:
            self._names.put_back(changes)
            self._ready.notify_all()

    def wake(self) -> None:
        """Have a `drain` that waits return with what there is."""
        with self._ready:
            self._woken = True
            self._ready.notify_all()

    def pending(self) -> Drained:
        """What the next `drain` would hand over at least; nothing is taken, and nothing is waited for."""
        with self._ready:
            return self._names.peek(self._through)

    def close(self) -> None:
        """Stop watching."""
        with self._ready:
            self._closing = True
            self._ready.notify_all()
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        elif self._inotify is not None:
            self._inotify.close()
        os.close(self._wake)

    def __enter__(self) -> TreeWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the thread that takes events from the kernel

    def _run(self) -> None:
        inotify, rest = self._inotify, SHORT_REST
        while inotify is not None and inotify is self._inotify and not self._closing:
            asked = self._clock.monotonic()
            if inotify.wait(3600, self._wake):
                at_once = self._clock.monotonic() - asked < SHORT_REST / 2
                rest = min(2 * rest, LONG_REST) if at_once else SHORT_REST
                with self._ready:
                    self._pump_or_fail()
                self._clock.sleep(rest)
        if inotify is not None:
            inotify.close()

    def _pump_or_fail(self) -> None:
        """In the thread: whatever goes wrong is raised by the next `drain`, never lost."""
        try:
            if self._pump():
                self._ready.notify_all()
        except Exception as e:
            self._failure = e
            self._ready.notify_all()

    def _pump(self) -> bool:
        """Take everything that is queued at the call; True where something came. Holds the lock."""
        if self._inotify is None or self._tree is None or self._failure is not None:
            return False
        before = self._events
        try:
            self._read(self._inotify, self._tree)
        except WatchLimit as e:
            self._fall_back(e)
        except OSError as e:
            self._failure = _unreadable(e)
        return self._events != before or self._failure is not None

    def _read(self, inotify: Inotify, tree: WatchedTree) -> None:
        events = inotify.read()
        self._events += len(events)
        for event in events:
            self._names.note(tree, event)
        if any(event.mask & _OVERFLOW for event in events):
            tree.build()
            self._names.lose()
        tree.sweep()
        self._names.bound()
        if self._names.root_gone:
            self._failure = _root_gone(self._names.root_gone)

    # -- what was put down

    def _pending(self) -> bool:
        return bool(self._names or self._failure or self._closing or self._woken)

    def _wait_for_quiet(self) -> None:
        end = self._clock.monotonic() + self._options.latency
        while self._names:
            left = min(self._options.quiet, end - self._clock.monotonic())
            if left <= 0 or len(self._names) >= self._options.batch or self._failure or self._closing or self._woken:
                return
            before = self._events
            self._ready.wait(left)
            if self._events == before:
                return

    # -- without watches

    def _fall_back(self, why: WatchLimit) -> None:
        self._reason = f"{why.message}: {why.hint}"
        # Watches of half a tree help nobody, and they are the node's.
        if self._thread is None and self._inotify is not None:
            self._inotify.close()
        elif self._thread is not None:
            self._names.lose()
            os.eventfd_write(self._wake, 1)
        self._inotify = self._tree = None
        self._scan_due = self._scanned + self._options.scan_every

    def _drain_scan(self, timeout: float) -> Drained:
        """Name the whole tree when it is time again, else nothing and the time of the last full comparison."""
        with self._ready:
            now = self._clock.monotonic()
            if self._scan_due is None:
                # The caller is back from comparing: rest some times as long as that took.
                self._scan_due = self._scanned + max(self._options.scan_every, 5 * (now - self._scanned))
            if self._scan_due > now and not self._names:
                self._ready.wait_for(
                    lambda: bool(self._names or self._closing or self._woken), min(self._scan_due - now, timeout)
                )
                self._woken = False
                if self._clock.monotonic() < self._scan_due and not self._names:
                    return Drained(through_ns=self._through)
            self._scanned, self._scan_due = self._clock.monotonic(), None
            self._through = self._clock.now_ns()
            self._names.take(self._through)
            return Drained(trees=WHOLE_TREE, through_ns=self._through)


def _root_gone(mask: int) -> VolumeError:
    if mask & Mask.UNMOUNT:
        return VolumeError(
            "the source's file system was unmounted under the agent",
            reason="SourceUnmounted",
            hint="mount the volume again; nothing was deleted on the target",
        )
    return VolumeError(
        "the root directory of the source was removed or moved away",
        reason="SourceReplaced",
        hint="put the volume's root back; nothing was deleted on the target",
    )


def _unreadable(cause: OSError) -> VolumeError:
    return VolumeError(f"cannot watch the source: {cause}", reason="SourceUnreadable", hint="see the node's kernel log")
