"""The names that a watch has seen and nobody has taken yet, from raw events to `Drained`."""

from __future__ import annotations

from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, join
from storagemirror.fs.inotify import Event, Mask
from storagemirror.sync.changes import WHOLE_TREE, Drained, tidy
from storagemirror.sync.requests import Changes
from storagemirror.sync.watchtree import Directory, WatchedTree

IGNORED = frozenset({STATE_DIRECTORY, LOST_AND_FOUND})
"""Names in the root that are the volume's own or ours."""

# As plain ints: `&` of two IntFlags makes an object, for every event.
_STRUCTURE = int(Mask.CREATE | Mask.DELETE | Mask.MOVED_FROM | Mask.MOVED_TO)
_ROOT_GONE = int(Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT)
_ISDIR, _ATTRIB, _IGNORED = int(Mask.ISDIR), int(Mask.ATTRIB), int(Mask.IGNORED)
_CREATE, _DELETE = int(Mask.CREATE), int(Mask.DELETE)
_MOVED_FROM, _MOVED_TO = int(Mask.MOVED_FROM), int(Mask.MOVED_TO)


class Pending:
    """Not for more than one thread at a time. False where nothing is pending; `len` is the number of names."""

    def __init__(self, most: int) -> None:
        """More names than `most` become "compare everything"."""
        self.most = most
        self.overflows = 0
        """How often that was."""
        self._paths: set[bytes] = set()
        self._trees: set[bytes] = set()
        self._renames: list[tuple[bytes, bytes]] = []
        self._moved: dict[int, bytes] = {}
        self.root_gone = 0
        """The event mask that said that the root is no longer there."""

    def __len__(self) -> int:
        return len(self._paths) + len(self._trees)

    def note(self, tree: WatchedTree, event: Event) -> None:
        """Put down what one event may have changed; `tree` is kept in step."""
        directory = tree.find(event.watch)
        if directory is None:
            return
        if not event.name:
            self._note_self(tree, directory, event.mask)
            return
        base = tree.path(directory)
        if base is None or (directory is tree.root and event.name in IGNORED):
            return
        path = join(base, event.name)
        if event.mask & _STRUCTURE:
            self._paths.add(base)  # the times of a directory change with what is in it
            self._note_name(path, event)
        if event.mask & _ISDIR:
            self._note_directory(tree, directory, path, event)
        else:
            self._paths.add(path)

    def lose(self) -> None:
        """Something was missed: compare everything."""
        self._trees = set(WHOLE_TREE)
        self._paths.clear()
        self._renames.clear()
        self._moved.clear()

    def put_back(self, changes: Changes) -> None:
        """What was taken and could not be used."""
        self._paths |= changes.paths
        self._trees |= changes.trees
        self.bound()

    def bound(self) -> None:
        """Keep at most as many names as was promised."""
        if b"" in self._trees:
            self.lose()
        elif len(self) + len(self._renames) > self.most:
            self.overflows += 1
            self.lose()

    def peek(self, through_ns: int) -> Drained:
        """What `take` would give; renames are left out."""
        return tidy(self._paths, self._trees, [], through_ns)

    def take(self, through_ns: int) -> Drained:
        """All of it; nothing is pending afterwards."""
        changes = tidy(self._paths, self._trees, self._renames, through_ns)
        self._paths, self._trees, self._renames = set(), set(), []
        # The other half of a rename follows at once; one that has not by now left the tree.
        self._moved.clear()
        return changes

    def _note_self(self, tree: WatchedTree, directory: Directory, mask: int) -> None:
        """An event of a watched directory itself."""
        if directory is tree.root:
            self.root_gone |= mask & _ROOT_GONE
            if mask & _ATTRIB:
                self._paths.add(b"")
        elif mask & _IGNORED:
            tree.forget(directory.watch)

    def _note_name(self, path: bytes, event: Event) -> None:
        """Pair the two halves of a rename."""
        if event.mask & _MOVED_FROM:
            self._moved[event.cookie] = path
        elif event.mask & _MOVED_TO and (old := self._moved.pop(event.cookie, None)) is not None:
            self._renames.append((old, path))

    def _note_directory(self, tree: WatchedTree, parent: Directory, path: bytes, event: Event) -> None:
        """Something happened to the directory at `path`."""
        if event.mask & (_CREATE | _MOVED_TO):
            tree.cover(parent, event.name)
            self._trees.add(path)
            return
        if event.mask & (_DELETE | _MOVED_FROM):
            tree.detach(parent, event.name)
        self._paths.add(path)
