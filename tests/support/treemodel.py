"""A model of a copy: what a target holds, if it examines exactly the names it was given and nothing else."""

from __future__ import annotations

import errno
import os
import random
import stat
from dataclasses import dataclass, field

from storagemirror.sync.pending import IGNORED
from storagemirror.sync.requests import Changes


@dataclass(frozen=True)
class Entry:
    """What one name shows: kind and permissions, modification time in ns, content (or link text)."""

    mode: int
    mtime: int
    content: bytes


def look(root: bytes, path: bytes) -> Entry | None:
    """The entry at `path` below `root`; None where nothing is."""
    full = os.path.join(root, path) if path else root
    if path and os.path.realpath(os.path.dirname(full)) != os.path.dirname(full):
        return None  # through a link: not a name in this tree
    try:
        st = os.lstat(full)
        if stat.S_ISLNK(st.st_mode):
            return Entry(st.st_mode, 0, os.readlink(full))
        if stat.S_ISREG(st.st_mode):
            with open(full, "rb") as f:
                return Entry(st.st_mode, st.st_mtime_ns, f.read())
        return Entry(st.st_mode, st.st_mtime_ns, b"")
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


@dataclass
class Copy:
    """The model. `root` is the source that names are examined in."""

    root: bytes
    entries: dict[bytes, Entry] = field(default_factory=dict)

    def scan(self, tree: bytes = b"") -> None:
        """Compare everything below `tree`."""
        self._drop(tree)
        stack = [tree]
        while stack:
            path = stack.pop()
            entry = look(self.root, path)
            if entry is None:
                continue
            self.entries[path] = entry
            if stat.S_ISDIR(entry.mode):
                try:
                    names = os.listdir(os.path.join(self.root, path) if path else self.root)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                stack += [path + b"/" + n if path else n for n in names if path or n not in IGNORED]

    def apply(self, changes: Changes) -> None:
        """Examine what is named, as a session would; renames are ignored, as they may be."""
        for path in sorted(changes.paths):
            entry = look(self.root, path)
            if entry is None or not stat.S_ISDIR(entry.mode):
                self._drop(path)
            if entry is not None:
                self.entries[path] = entry
        for tree in changes.trees:
            self.scan(tree)

    def _drop(self, tree: bytes) -> None:
        for path in [p for p in self.entries if not tree or p == tree or p.startswith(tree + b"/")]:
            del self.entries[path]


NAMES = [b"a", b"b", b"c", b"d", b"\xff\xfe", "é".encode()]


class Storm:
    """Random operations of an application below `root`, from a seed."""

    def __init__(self, root: bytes, seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)
        self._open: list[int] = []

    def _path(self, depth: int = 3) -> bytes:
        pick = self._random
        return os.path.join(self._root, *(pick.choice(NAMES) for _ in range(pick.randint(1, depth))))

    def step(self) -> None:
        """One operation; many fail, as an application's do."""
        op = self._random.choice(
            [self._write] * 3 + [self._append] * 2 + [self._hold, self._held_write]
            + [self._mkdirs] * 4 + [self._rename] * 5 + [self._unlink] * 2 + [self._rmdir, self._rmtree]
            + [self._chmod, self._symlink, self._truncate, self._swap_in, self._utime]
        )  # fmt: skip
        try:
            op()
        except OSError:
            return

    def run(self, steps: int) -> None:
        """Many operations."""
        for _ in range(steps):
            self.step()

    def close(self) -> None:
        """Close the files that were kept open."""
        for fd in self._open:
            os.close(fd)
        self._open.clear()

    def _data(self) -> bytes:
        return b"%d\n" % self._random.randrange(1 << 40)

    def _write(self) -> None:
        with open(self._path(), "wb") as f:
            f.write(self._data())

    def _append(self) -> None:
        with open(self._path(), "ab") as f:
            f.write(self._data())

    def _hold(self) -> None:
        if len(self._open) < 8:
            self._open.append(os.open(self._path(), os.O_RDWR | os.O_CREAT, 0o644))

    def _held_write(self) -> None:
        if self._open:
            os.pwrite(self._random.choice(self._open), self._data(), 0)

    def _mkdirs(self) -> None:
        path = self._path(4)
        os.makedirs(path)
        with open(os.path.join(path, b"new"), "wb") as f:
            f.write(self._data())

    def _rename(self) -> None:
        os.rename(self._path(), self._path())

    def _swap_in(self) -> None:
        path = self._path()
        with open(path + b".tmp", "wb") as f:
            f.write(self._data())
        os.rename(path + b".tmp", path)

    def _unlink(self) -> None:
        os.unlink(self._path())

    def _rmdir(self) -> None:
        os.rmdir(self._path())

    def _rmtree(self) -> None:
        for here, dirs, files in os.walk(self._path(), topdown=False):
            for name in files:
                os.unlink(os.path.join(here, name))
            for name in dirs:
                path = os.path.join(here, name)
                if os.path.islink(path):
                    os.unlink(path)
                else:
                    os.rmdir(path)
            os.rmdir(here)

    def _chmod(self) -> None:
        os.chmod(self._path(), self._random.choice([0o600, 0o644, 0o755, 0o700]))

    def _symlink(self) -> None:
        os.symlink(self._random.choice(NAMES), self._path())

    def _truncate(self) -> None:
        os.truncate(self._path(), self._random.randrange(4))

    def _utime(self) -> None:
        os.utime(self._path(), ns=(0, self._random.randrange(1 << 60)))
