"""What a target does with entries that its source does not have.

The source names them; what becomes of them is decided here, by the terms that both have agreed on. Deleted, or moved
aside, is only what may go: what rules leave out stays, wherever it lies; of an orphan that is a directory nothing goes
while something in it is younger than `older_than_seconds`. Age is that of the modification time, by this side's clock:
it is the only time that a copy has from its source.

What stands in the way of an entry that the source has cannot stay. Where orphans are not simply deleted it is moved
aside.

Moved aside is by rename, to `.storagemirror/orphans/<time>/`, under the path that it had. Nothing there is ever
overwritten or deleted by us.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from storagemirror.clock import rfc3339
from storagemirror.entry import join, split
from storagemirror.fs.aside import Aside
from storagemirror.fs.target import TargetVolume
from storagemirror.fs.tree import names_in
from storagemirror.terms import EXACT, OrphanPolicy, Terms

ORPHANS = b"orphans"
"""In our directory: what was moved aside."""

FIRST_NAMES = 10
_NAMES_BYTES = 32_768
_SECOND = 1_000_000_000

Name = tuple[bytes, bool, bool]
"""As `names_in` gives them: name, is a file, is a directory."""


@dataclass(slots=True)
class Orphans:
    """Of one session; for its thread."""

    volume: TargetVolume
    terms: Terms
    now_ns: Callable[[], int]
    left: int = 0
    """Entries that were left where they are, since the last full comparison began."""
    moved: int = 0
    """Entries that were moved aside in this mirror."""
    first: list[bytes] = field(default_factory=list)
    """The first names of what was left, where the terms say that they are told."""
    _aside: Aside | None = None
    _names_size: int = 0

    def begin(self, *, whole: bool) -> None:
        """A comparison starts."""
        self.moved = 0
        if whole:
            self.left, self.first, self._names_size = 0, [], 0
            self.close()

    def close(self) -> None:
        """Let go of the place for what is moved aside; the next one has a time of its own."""
        if self._aside is not None:
            self._aside.close()
            self._aside = None

    # -- judging

    def stays(self, path: bytes) -> bool:
        """Whether this orphan is left where it is. OSError."""
        terms = self.terms
        if terms == EXACT:
            return False
        return terms.leaves_all or self._left_out(path) or (terms.older_than_seconds > 0 and self._is_young(path))

    def leave(self, path: bytes) -> None:
        """Count what stays."""
        count = self.volume.count(path, lambda entry: False)
        self.left += count
        told = self.terms.orphans is OrphanPolicy.REPORT
        if count and told and len(self.first) < FIRST_NAMES and self._names_size + len(path) <= _NAMES_BYTES:
            self.first.append(path)
            self._names_size += len(path)

    def may_rename(self, old: bytes, new: bytes) -> bool:
        """Whether a rename says the same as deleting the one and making the other: nothing that is to stay under its
        name is moved along. OSError."""
        if self.terms == EXACT:
            return True
        if self.terms.keeps or self.terms.orphans is not OrphanPolicy.DELETE:
            return False
        return not (self._left_out(old) or self._left_out(new) or self._moves_excluded(old, new))

    def _left_out(self, path: bytes) -> bool:
        selection = self.volume.selection
        if selection is None:
            return False
        found = self.volume.tree.lstat(path)
        return found is not None and selection.leaves_out(path, is_directory=stat.S_ISDIR(found.st_mode))

    def _is_young(self, path: bytes) -> bool:
        """Whether it, or anything in it, was modified too lately."""
        since = self.now_ns() - self.terms.older_than_seconds * _SECOND
        found = self.volume.tree.lstat(path)
        if found is None:
            return False
        if found.st_mtime_ns > since:
            return True
        if not stat.S_ISDIR(found.st_mode):
            return False
        return any(self._holds_young(directory, names, since) for directory, names in self._directories(path))

    def _holds_young(self, directory: bytes, names: list[Name], since: int) -> bool:
        fd = self.volume.directory(directory)
        try:
            for name, _, is_directory in names:
                if self._excludes(directory, name, is_directory=is_directory):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if os.stat(name, dir_fd=fd, follow_symlinks=False).st_mtime_ns > since:
                        return True
            return False
        finally:
            os.close(fd)

    def _moves_excluded(self, old: bytes, new: bytes) -> bool:
        if self.volume.selection is None:
            return False
        found = self.volume.tree.lstat(old)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return False
        return any(
            self._excludes(directory, name, is_directory=deep)
            or self._excludes(new + directory[len(old) :], name, is_directory=deep)
            for directory, names in self._directories(old)
            for name, _, deep in names
        )

    def _excludes(self, directory: bytes, name: bytes, *, is_directory: bool) -> bool:
        selection = self.volume.selection
        return selection is not None and selection.excludes(directory, name, is_directory=is_directory)

    def _directories(self, top: bytes) -> Iterator[tuple[bytes, list[Name]]]:
        """The directory at `top` and all below, with what is in each: names that are left out too, but nothing that is
        in these."""
        pending = [top]
        while pending:
            path = pending.pop()
            try:
                fd = self.volume.directory(path)
            except OSError:
                continue  # gone, or somebody else's file system
            try:
                names = names_in(fd)
            finally:
                os.close(fd)
            yield path, names
            for name, _, is_directory in names:
                if is_directory and not self._excludes(path, name, is_directory=True):
                    pending.append(join(path, name))

    # -- what goes

    def take(self, path: bytes, *, in_the_way: bool = False) -> int:
        """Delete it or move it aside, with all that is below and is not left out; how many entries went. `in_the_way`:
        something of the source's comes in its place, and it must go whole. OSError, `VolumeError`, `VolumeFull`."""
        plain = self.terms.orphans is OrphanPolicy.DELETE and not self.terms.keeps
        if in_the_way and self._left_out(path):
            raise _stays()
        if plain or (self.terms.orphans is OrphanPolicy.DELETE and not in_the_way):
            count = self.volume.delete(path)
        else:
            count = self._move(path)
        if in_the_way and self.terms.rules and self.volume.tree.lstat(path) is not None:
            raise _stays()
        return count

    def _move(self, path: bytes) -> int:
        count = self.volume.count(path, lambda entry: False)
        stack = [path]
        while stack:
            top = stack.pop()
            kept = self._partly_kept(top)
            if kept is None:
                self._keep(top)
            else:
                stack.extend(kept)
        self.moved += count
        return count

    def _partly_kept(self, path: bytes) -> list[bytes] | None:
        """What of the directory at `path` goes, where not all of it may; None: it goes as one."""
        if self.volume.selection is None:
            return None
        found = self.volume.tree.lstat(path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            return None
        if not self._moves_excluded(path, path):
            return None
        _, names = next(self._directories(path), (path, []))
        return [join(path, name) for name, _, deep in names if not self._excludes(path, name, is_directory=deep)]

    def _keep(self, path: bytes) -> None:
        if self._aside is None:
            name = rfc3339(self.now_ns()).replace(":", "-").encode()
            self._aside = Aside(self.volume, 0, place=ORPHANS, name=name)
        directory, name = split(path)
        try:
            fd = self.volume.directory(directory)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            self._aside.keep(fd, directory, name)
        finally:
            os.close(fd)


def _stays() -> OSError:
    return OSError(errno.ENOTEMPTY, "what is in its place there is left alone by the rules: move it away by hand")
