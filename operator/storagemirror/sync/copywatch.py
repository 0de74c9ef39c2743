"""Seeing what somebody else changes on a copy, with inotify.

Our own agent writes to the volume's own files only while it applies a point, or what the source has just sent, and says
beforehand of each path that it touches it (`Others.touch`). The kernel queues an event before the call that caused it
returns. So what is queued while nothing is applied is somebody else's; while something is applied, what is not about a
path touched just before.

Not seen: what somebody else does to a path in the very moment in which we change it; what is done within a directory
while we move it, or in a new one before it is watched; content that is changed through a shared mapping, before the
file is closed; and what inotify never tells (`storagemirror.fs.inotify`). A file that was opened for writing and closed
counts as changed.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
from collections.abc import Callable

from storagemirror.clock import Clock
from storagemirror.fs.inotify import Inotify, Mask, WatchLimit, parse_names
from storagemirror.fs.journal.others import Changed
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.pending import IGNORED
from storagemirror.sync.watchtree import Directory, WatchedTree
from storagemirror.terms import Rules

log = logging.getLogger("storagemirror.agent")

REMEMBERED = 1_000
"""Names."""
TOUCHED = 500
"""Paths that are known as ours at a time. Each has a few events; the kernel queues 16,384 by default."""
MARGIN_NS = 2_000_000_000
"""Of file systems that keep whole seconds, and of the kernel's coarse clock."""
AGAIN_SECONDS = 60.0
"""Where there were no watches to be had they are tried again after so long."""
REST_SECONDS = 0.02
"""Somebody who writes causes many events: let some come together."""
LONGEST_SECONDS = 0.5
"""What takes longer to be applied is looked at meanwhile too."""

_numbers = itertools.count(1)
_STRUCTURE = int(Mask.CREATE | Mask.MOVED_TO)
_LEFT = int(Mask.DELETE | Mask.MOVED_FROM)
_GONE = "the volume's root is not there any more"
_ROOT_GONE = int(Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT)
_ISDIR, _ATTRIB, _IGNORED, _OVERFLOW = (int(m) for m in (Mask.ISDIR, Mask.ATTRIB, Mask.IGNORED, Mask.Q_OVERFLOW))
_MOVES = _ISDIR | _OVERFLOW
"""Paths of directories may be others after these."""


class CopyWatch:
    """Of one volume: `Others`. `volume` stays the caller's, and open until we are closed."""

    def __init__(self, volume: Tree, clock: Clock, found: Callable[[Changed], None]) -> None:
        """`found` is called with all that others have done since `arm` whenever there is more of it, from any thread;
        it must not call us."""
        self._volume = volume
        self._clock = clock
        self._found = found
        self._lock = threading.Condition()  # guards everything below
        self._telling = threading.Lock()  # taken before the other one, and held while `found` is called
        self._inotify: Inotify | None = None
        self._tree: WatchedTree | None = None
        self._selection: Selection | None = None
        self._thread: threading.Thread | None = None
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._applying = False
        self._touched: set[bytes] = set()
        self._within: bytes | None = None
        """A directory of which all that is directly in it counts as touched."""
        self._names: dict[bytes, None] = {}
        self._count = 0
        self._told = 0
        self._lost = False
        self._since_ns = 0
        self._number = 0
        self._tried: float | None = None
        self._mending = False
        """What was found before is noted, and not mended yet."""
        self._quiet_since = clock.monotonic()
        self.reason = ""
        """Why it cannot watch: a CamelCase word, `: `, a sentence. Empty: it can, or was not asked to."""

    # -- Others

    @property
    def armed(self) -> bool:
        """See `Others`."""
        return self._tree is not None

    def armed_under(self, selection: Selection | None) -> bool:
        """See `Others`."""
        return self.armed and _rules(self._selection) == _rules(selection)

    def arm(self, selection: Selection | None) -> None:
        """See `Others`. What cannot be watched is told in `reason`, and tried again later."""
        now = self._clock.monotonic()
        if self.armed or (self._tried is not None and now < self._tried + AGAIN_SECONDS):
            return
        self._tried = now
        with self._lock:
            self._forget()
            self._number = next(_numbers)
            self._since_ns = self._clock.now_ns() - MARGIN_NS
        # Without the lock: of a large tree it takes its time.
        try:
            inotify = Inotify()
        except (WatchLimit, OSError) as e:
            self._give_up(e)
            return
        tree = WatchedTree(inotify, self._volume, IGNORED, selection)
        try:
            tree.build()
        except (WatchLimit, OSError) as e:
            inotify.close()
            self._give_up(e)
            return
        with self._lock:
            self._tried, self.reason, self._quiet_since = None, "", self._clock.monotonic()
            self._mending = False
            if tree.unreadable:
                self.reason = f"Unreadable: {tree.unreadable} directories may not be read by the agent"
            self._selection, self._inotify, self._tree = selection, inotify, tree
        self._thread = threading.Thread(target=self._run, args=(inotify,), name="copywatch", daemon=True)
        self._thread.start()

    def disarm(self) -> None:
        """See `Others`."""
        with self._lock:
            self._let_go()
            self._forget()
            self._quiet_since = self._clock.monotonic()

    def changed(self) -> Changed | None:
        """See `Others`."""
        with self._lock:
            self._pump()
        return self._tell()

    def applying(self) -> None:
        """See `Others`."""
        with self._lock:
            self._pump()
            self._done()
            self._applying = self.armed
        self._tell()

    def through(self) -> None:
        """See `Others`."""
        if self._applying:
            self.applying()

    def touch(self, path: bytes) -> None:
        """See `Others`."""
        if not self._applying:
            return
        if len(self._touched) >= TOUCHED:
            self.applying()
        self._touched.add(path)

    def touch_within(self, directory: bytes) -> None:
        """See `Others`."""
        if self._applying:
            self._within = directory

    def applied(self) -> Changed | None:
        """See `Others`."""
        with self._lock:
            self._pump()
            self._done()
            self._applying = False
            self._lock.notify_all()
        return self._tell()

    def renew(self) -> Changed | None:
        """See `Others`."""
        with self._telling:
            with self._lock:
                began = self._clock.now_ns()
                self._pump()
                changed, news = self._sum(), self._count > self._told
                if changed is not None:
                    self._forget()
                    self._mending, self._number, self._since_ns = True, next(_numbers), began - MARGIN_NS
            if changed is not None and news:
                self._found(changed)
        return changed

    def mended(self) -> None:
        """See `Others`."""
        with self._lock:
            if self._mending:
                self._mending, self._quiet_since = False, self._clock.monotonic()

    # -- for whoever reports

    def quiet_seconds(self) -> float | None:
        """For how long it has watched and seen nothing of others; None: it does not watch, or what it saw is not
        mended. Never waits."""
        mended = self.armed and not self._count and not self._mending
        return self._clock.monotonic() - self._quiet_since if mended else None

    def idle_seconds(self) -> float | None:
        """For how long there has been nothing to watch; None: there is, or it cannot be watched. Never waits."""
        return None if self.armed or self.reason else self._clock.monotonic() - self._quiet_since

    @property
    def watches(self) -> int:
        """Number of directories that are watched."""
        with self._lock:
            return len(self._tree) if self._tree is not None else 0

    def close(self) -> None:
        """Stop watching. For one thread; once more is fine."""
        self.disarm()
        thread, self._thread = self._thread, None
        if thread is not None:
            os.eventfd_write(self._wake, 1)
            thread.join()
        if self._wake >= 0:
            os.close(self._wake)
            self._wake = -1

    # -- inside; all but `_run` and `_tell` hold the lock

    def _done(self) -> None:
        self._touched.clear()
        self._within = None

    def _let_go(self) -> None:
        inotify, self._inotify, self._tree = self._inotify, None, None
        self._applying = False
        self._done()
        if inotify is not None:
            inotify.close()
        self._lock.notify_all()

    def _forget(self) -> None:
        self._names.clear()
        self._count = self._told = 0
        self._lost = False

    def _give_up(self, why: WatchLimit | OSError) -> None:
        """What was seen stays."""
        with self._lock:
            self._let_go()
        self.reason = f"{why.reason}: {why.message}" if isinstance(why, WatchLimit) else f"Unreadable: {why}"
        log.warning("what others change on the copy is not seen: %s", self.reason)

    def _run(self, inotify: Inotify) -> None:
        """The thread: takes events while nobody else does."""
        while True:
            with self._lock:
                self._lock.wait_for(lambda: not self._applying, LONGEST_SECONDS)
                long = self._applying
                if self._inotify is not inotify:
                    return
            # A descriptor that is closed meanwhile is noticed with the next look.
            with contextlib.suppress(OSError, ValueError):
                inotify.wait(1.0, self._wake)
            with self._lock:
                # What is ours has been touched by then: nobody forgets what was but who touches.
                if self._inotify is inotify and (long or not self._applying):
                    self._pump()
            self._tell()
            self._clock.sleep(REST_SECONDS)

    def _tell(self) -> Changed | None:
        """All of it; to `found` as well, where there is more than it knows."""
        with self._telling:  # whoever asks has it told when the answer comes, whoever saw it
            with self._lock:
                changed = self._sum()
                news, self._told = self._count > self._told, self._count
            if changed is not None and news:
                self._found(changed)
        return changed

    def _sum(self) -> Changed | None:
        if not self._count:
            return None
        return Changed(self._count, tuple(self._names), self._since_ns, self._lost, self._number)

    def _pump(self) -> None:
        """Take all that is queued at the call."""
        inotify, tree = self._inotify, self._tree
        if inotify is None or tree is None:
            return
        before, began = self._count, self._clock.now_ns()
        try:
            if os.fstat(self._volume.root).st_nlink == 0:
                raise OSError(_GONE)  # of a directory that we hold open no event tells that
            paths: dict[int, bytes | None] = {}
            for data in inotify.read_raw():
                self._read(tree, data, paths)
            tree.sweep()
        except (WatchLimit, OSError) as e:
            self._give_up(e)
        if self._count != before:
            self._quiet_since = self._clock.monotonic()
        elif not self._count:
            # All that they had done before has been seen, and it was nothing.
            self._since_ns = max(self._since_ns, began - MARGIN_NS)

    def _read(self, tree: WatchedTree, data: bytes, paths: dict[int, bytes | None]) -> None:
        """The events in what one read gave. Nearly all are about files that we have touched."""
        touched = self._touched
        for watch, mask, name in parse_names(data):
            if mask & _MOVES or not name:
                paths.clear()
            elif (base := paths.get(watch)) and base + b"/" + name in touched:
                continue
            self._note(tree, watch, mask, name, paths)

    def _note(self, tree: WatchedTree, watch: int, mask: int, name: bytes, paths: dict[int, bytes | None]) -> None:
        """One event. `paths`: of watched directories, as far as nothing has moved since."""
        if mask & _OVERFLOW:
            self._count += 1
            self._lost = True
            tree.build()
            return
        directory = tree.find(watch)
        if directory is None:
            return
        if not name:
            self._note_self(tree, directory, mask)
            return
        base = paths[watch] if watch in paths else paths.setdefault(watch, tree.path(directory))
        if base is None or (not base and name in IGNORED):
            return
        path = base + b"/" + name if base else name
        if path not in self._touched and base != self._within:
            self._others_did(path, base, name, is_directory=bool(mask & _ISDIR))
        if mask & _ISDIR and mask & _STRUCTURE:
            tree.cover(directory, name)
        elif mask & _ISDIR and mask & _LEFT:
            tree.detach(directory, name)

    def _note_self(self, tree: WatchedTree, directory: Directory, mask: int) -> None:
        if mask & _IGNORED and directory is not tree.root:
            tree.forget(directory.watch)
        elif directory is tree.root and mask & _ROOT_GONE:
            raise OSError(_GONE)
        elif directory is tree.root and mask & _ATTRIB and b"" not in self._touched:
            self._add(b"")

    def _others_did(self, path: bytes, base: bytes, name: bytes, *, is_directory: bool) -> None:
        if self._selection is None or not self._selection.excludes(base, name, is_directory=is_directory):
            self._add(path)

    def _add(self, path: bytes) -> None:
        if path in self._names:
            return
        self._count += 1
        if len(self._names) >= REMEMBERED:
            return
        self._names[path] = None
        with contextlib.suppress(OSError):
            found = self._volume.lstat(path)
            if found is not None:
                self._since_ns = min(self._since_ns, found.st_ctime_ns)


def _rules(selection: Selection | None) -> Rules:
    return selection.rules if selection is not None else ()
