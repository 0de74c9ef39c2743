"""What has happened on the source and is not yet known to be on the target's disk."""

from __future__ import annotations

import stat
import threading

from storagemirror.contract import Capture
from storagemirror.fs.tree import Tree
from storagemirror.sync.changes import Drained
from storagemirror.sync.requests import Changes
from storagemirror.sync.watch import TreeWatch

MOST_NAMES = 2_000
"""More names are not measured at each heartbeat: the lag in bytes is unknown then, the one in seconds is not."""


class Unsettled:
    """Changes between the watch and the mark that settles them; they come again when the connection breaks."""

    def __init__(self, volume: Tree, watch: TreeWatch) -> None:
        self._volume = volume
        self._watch = watch
        self._lock = threading.Lock()
        self._paths: set[bytes] = set()
        self._trees: set[bytes] = set()
        self._marking: tuple[set[bytes], set[bytes]] = set(), set()
        """Paths and trees of the mark that is open."""
        self._whole = False

    def drain(self, timeout: float) -> Drained:
        """As `TreeWatch.drain`; what it gives counts as not settled."""
        changes = self._watch.drain(timeout)
        with self._lock:
            self._paths |= changes.paths
            self._trees |= changes.trees
        return changes

    def marking(self) -> None:
        """A mark is begun for all that was drained up to now; one at a time."""
        with self._lock:
            self._marking = self._paths, self._trees
            self._paths, self._trees = set(), set()

    def settled(self) -> None:
        """All that was drained before the last `marking` is on the target's disk."""
        with self._lock:
            self._marking = set(), set()
            self._whole = True

    def unsettle(self) -> None:
        """The target may have lost what no mark has settled: it is named again by the next drain."""
        with self._lock:
            paths, trees = self._marking[0] | self._paths, self._marking[1] | self._trees
            self._marking = set(), set()
            self._paths, self._trees = set(), set()
        changes = Changes(paths=frozenset(paths), trees=frozenset(trees))
        if changes:
            self._watch.put_back(changes)

    @property
    def names(self) -> int:
        """How many were drained and are not settled."""
        with self._lock:
            return sum(map(len, (self._paths, self._trees, *self._marking)))

    @property
    def waiting(self) -> int:
        """How many are not drained yet."""
        return self._watch.names

    def lag_bytes(self) -> int | None:
        """Sizes of all files that changed and are not settled: what has to be sent at most. None: not known.

        Known is it only once everything was compared, and while changes are told by name.
        """
        waiting = self._watch.pending()
        with self._lock:
            known = self._whole and self._watch.capture is Capture.WATCH
            trees = waiting.trees or self._trees or self._marking[1]
            if not known or trees or max(map(len, (waiting.paths, self._paths, self._marking[0]))) > MOST_NAMES:
                return None
            paths = waiting.paths | self._paths | self._marking[0]
        if len(paths) > MOST_NAMES:
            return None
        return sum(self._size(path) for path in paths)

    def _size(self, path: bytes) -> int:
        try:
            found = self._volume.lstat(path)
        except OSError:
            return 0
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0
