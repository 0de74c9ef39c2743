"""Which directory each inotify watch stands for, while directories come, go and move.

The kernel names an event by a watch and a name, so we keep a tree of our own from watches to paths. It lags behind the
volume by the events that are still queued; the rule that makes it right again: **whoever is told that a directory is
now at a path opens that path, watches what is there, and places the watch that the kernel returns**, for it and for
all below it. The kernel knows an inode that it watches already by its old watch, so this finds moved directories,
swapped ones and those made before their parent was watched. After the last event about a directory or one above it,
its place is true; until then an event may be named with a path that was, and the event that moved it, still queued,
has the whole directory compared.
"""

from __future__ import annotations

import errno
import os

from storagemirror.fs.inotify import Inotify, Mask
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree

MASK = int(
    Mask.MODIFY | Mask.ATTRIB | Mask.CLOSE_WRITE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.CREATE | Mask.DELETE
    # Files that are unlinked and still written (every database's temporary files) say nothing.
    | Mask.EXCL_UNLINK | Mask.ONLYDIR
)  # fmt: skip
_ROOT_MASK = MASK | int(Mask.DELETE_SELF | Mask.MOVE_SELF)

_NONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EXDEV})
"""Nothing of that name, or something else by now (the event that says so is queued), or another file system."""


class Directory:
    """A watched directory and its place. `parent` is None for the root, and for one that is nowhere now."""

    __slots__ = ("children", "name", "parent", "watch")

    def __init__(self, watch: int) -> None:
        self.watch = watch
        self.parent: Directory | None = None
        self.name = b""
        self.children: dict[bytes, Directory] | None = None


class WatchedTree:
    """All watches of one tree. Not for more than one thread at a time.

    `unreadable` counts directories that we may not read and therefore cannot watch.
    """

    def __init__(
        self, inotify: Inotify, volume: Tree, ignored: frozenset[bytes], selection: Selection | None = None
    ) -> None:
        """`volume` stays the caller's; `ignored` are names in its root. Directories that `selection` leaves out are not
        watched."""
        self._selection = selection
        self._inotify = inotify
        self._volume = volume
        self._ignored = ignored
        self._nowhere: set[Directory] = set()
        self._by_watch: dict[int, Directory] = {}
        self.unreadable = 0
        self.root = Directory(-1)

    def __len__(self) -> int:
        return len(self._by_watch)

    def find(self, watch: int) -> Directory | None:
        """The directory of a watch; None where the watch is no longer ours."""
        return self._by_watch.get(watch)

    def path(self, directory: Directory) -> bytes | None:
        """Its path from the root, `b""` for the root; None where it is nowhere."""
        names: list[bytes] = []
        at: Directory = directory
        while at is not self.root:
            if at.parent is None:
                return None
            names.append(at.name)
            at = at.parent
        names.reverse()
        return b"/".join(names)

    def build(self) -> None:
        """Watch everything, from nothing or after events were lost. Raises `WatchLimit`."""
        before = self._by_watch
        self._by_watch = {}
        self._nowhere.clear()
        self.unreadable = 0
        self.root = Directory(self._inotify.add(self._volume.root, _ROOT_MASK))
        self._by_watch[self.root.watch] = self.root
        self._walk([(self.root, name) for name in self._list(self.root, self._volume.root)])
        for watch in before.keys() - self._by_watch.keys():
            self._inotify.remove(watch)

    def cover(self, parent: Directory, name: bytes) -> None:
        """A directory is said to be at `name` in `parent`: watch what is there now, and all below."""
        if self.path(parent) is not None:
            self._walk([(parent, name)])

    def detach(self, parent: Directory, name: bytes) -> None:
        """A directory is said to have left `name` in `parent`."""
        if parent.children and (child := parent.children.pop(name, None)):
            child.parent = None
            self._nowhere.add(child)

    def forget(self, watch: int) -> None:
        """The kernel has dropped this watch: its directory is gone."""
        directory = self._by_watch.pop(watch, None)
        if directory is None or directory is self.root:
            return
        if directory.parent is not None and directory.parent.children is not None:
            directory.parent.children.pop(directory.name, None)
        directory.parent = None
        self._nowhere.discard(directory)
        for child in (directory.children or {}).values():
            child.parent = None
            self._nowhere.add(child)

    def sweep(self) -> None:
        """Stop watching what has left and is nowhere; if it comes back, it is told and covered again."""
        for top in self._nowhere:
            stack = [top]
            while stack:
                directory = stack.pop()
                stack.extend((directory.children or {}).values())
                if self._by_watch.get(directory.watch) is directory:
                    del self._by_watch[directory.watch]
                    self._inotify.remove(directory.watch)
        self._nowhere.clear()

    def _walk(self, stack: list[tuple[Directory, bytes]]) -> None:
        """Watch the directories on `stack` and all below."""
        while stack:
            parent, name = stack.pop()
            base = self.path(parent)
            if base is None or (parent is self.root and name in self._ignored):
                continue
            if self._selection is not None and self._selection.excludes(base, name, is_directory=True):
                self.detach(parent, name)
                continue
            fd = self._open(base + b"/" + name if base else name)
            if fd < 0:
                self.detach(parent, name)
                continue
            try:
                directory = self._place(self._inotify.add(fd, MASK), parent, name)
                stack.extend((directory, child) for child in self._list(directory, fd))
            finally:
                os.close(fd)

    def _open(self, path: bytes) -> int:
        """A descriptor of the directory at `path`, or -1 where there is none of this file system that we may read."""
        try:
            return self._volume.open_directory(path)
        except PermissionError:
            self.unreadable += 1
        except OSError as e:
            if e.errno not in _NONE:
                raise
        return -1

    def _list(self, directory: Directory, fd: int) -> list[bytes]:
        """The names of the directories in `directory`; watched children that are not among them are let go of."""
        with os.scandir(fd) as entries:
            names = [os.fsencode(e.name) for e in entries if e.is_dir(follow_symlinks=False)]
        if directory.children:
            for gone in directory.children.keys() - set(names):
                self.detach(directory, gone)
        return names

    def _place(self, watch: int, parent: Directory, name: bytes) -> Directory:
        """The directory of `watch` is at `name` in `parent`, whatever we thought before."""
        directory = self._by_watch.get(watch)
        if directory is parent:
            # It has been moved below what is now in its own old place. What is there is told by an event that is still
            # queued, and covers it all; until then it is nowhere: within itself it would have a path without end.
            if parent.parent is not None:
                self.detach(parent.parent, parent.name)
            return directory
        if directory is None:
            directory = self._by_watch[watch] = Directory(watch)
        elif directory.parent is parent and directory.name == name:
            return directory
        elif directory.parent is not None and directory.parent.children is not None:
            directory.parent.children.pop(directory.name, None)
        self._break_cycle(directory, parent)
        self.detach(parent, name)
        self._nowhere.discard(directory)
        directory.parent, directory.name = parent, name
        if parent.children is None:
            parent.children = {}
        parent.children[name] = directory
        return directory

    def _break_cycle(self, directory: Directory, parent: Directory) -> None:
        """Where we still believe `parent` to be somewhere in `directory`, let go of that belief.

        Seen when a directory is moved below a new one that took the name of its own old place.
        """
        at = parent
        while at.parent is not None:
            if at.parent is directory:
                self.detach(directory, at.name)
                return
            at = at.parent
