"""Immutable and append-only entries, and directories of a project, on a target: unlocked for a change, locked again.

The source's own flags come last in a mirror (`Flags`). What had to be unlocked for a change and is not told of by then
is given back what it had.
"""

from __future__ import annotations

import contextlib
import errno
import os

from storagemirror.entry import join, split
from storagemirror.fs.inodeflags import LOCKS, WISHES, get_flags, open_any, set_flags
from storagemirror.fs.tree import Tree, names_in

_REMEMBERED = 100_000
"""Entries whose flags are given back; beyond, the source's word alone counts."""
_REFUSED = (errno.EPERM, errno.EXDEV)


class Locks:
    """Of one target volume. `active` says whether anything on it may be locked at all."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._were: dict[bytes, int] = {}
        self.active = False

    def yields(self, error: OSError, *paths: bytes) -> bool:
        """Whether a change of `paths` was refused because of flags that are gone now: it may be tried again."""
        if error.errno not in _REFUSED:
            return False
        unlocked = [self._unlock_way(path) for path in paths]  # each of them
        return any(unlocked)

    def unlock(self, fd: int, path: bytes) -> bool:
        """An open file or directory; whether it was locked."""
        try:
            flags = get_flags(fd)
            if not flags & LOCKS or not set_flags(fd, flags & WISHES & ~LOCKS):
                return False
        except OSError:
            return False
        if len(self._were) < _REMEMBERED:
            self._were.setdefault(path, flags & WISHES)
        self.active = True
        return True

    def unlock_entry(self, directory: int, path: bytes) -> bool:
        """By name in an open directory; whether it was locked."""
        try:
            fd = open_any(directory, split(path)[1] or b".")
        except OSError:
            return False
        try:
            return self.unlock(fd, path)
        finally:
            os.close(fd)

    def _unlock_way(self, path: bytes) -> bool:
        """The entry, and the lowest directory above it that is there."""
        unlocked = self._unlock_at(path)
        while path:
            path = split(path)[0]
            try:
                fd = self._tree.open_directory(path)
            except OSError:
                continue
            try:
                return self.unlock(fd, path) or unlocked
            finally:
                os.close(fd)
        return unlocked

    def _unlock_at(self, path: bytes) -> bool:
        try:
            fd = self._tree.open_directory(split(path)[0])
        except OSError:
            return False
        try:
            return self.unlock_entry(fd, path)
        finally:
            os.close(fd)

    def unlock_tree(self, path: bytes) -> bool:
        """`path` and all that is below, to be deleted; whether anything was locked."""
        unlocked = self._unlock_way(path)
        pending = [path]
        while pending:
            directory = pending.pop()
            try:
                fd = self._tree.open_directory(directory)
            except OSError:
                continue  # gone, no directory, or somebody else's file system
            try:
                unlocked = self.unlock(fd, directory) or unlocked
                for name, is_file, is_directory in names_in(fd):
                    inner = join(directory, name)
                    if is_directory:
                        pending.append(inner)
                    elif is_file:
                        unlocked = self.unlock_entry(fd, inner) or unlocked
            finally:
                os.close(fd)
        return unlocked

    def forget(self, path: bytes) -> None:
        """The source has said what it has."""
        self._were.pop(path, None)

    def forget_all(self) -> None:
        """The source has said of everything what it has."""
        self._were.clear()

    def give_back(self) -> None:
        """To all that was unlocked and is still there what it had."""
        for path, flags in self._were.items():
            with contextlib.suppress(OSError):
                fd = self._tree.open_directory(split(path)[0])
                try:
                    inner = open_any(fd, split(path)[1] or b".")
                    try:
                        set_flags(inner, flags)
                    finally:
                        os.close(inner)
                finally:
                    os.close(fd)
        self._were.clear()
