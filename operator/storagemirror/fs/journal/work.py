"""Where a point lies before it has its names: directories of ours in `.storagemirror/journal/`.

    obj/<id>     what is new
    stage/<id>   what gets another name: of a file a further link, of a directory the directory itself
    gone/<n>     directories that have to go

All are empty while no point is taken, held back or applied.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable

from storagemirror.fs.locks import Locks
from storagemirror.fs.remove import remove_entry
from storagemirror.fs.syscalls import reserve
from storagemirror.fs.tree import Tree

DIRECTORY = b"journal"
OBJ, STAGE, GONE = b"obj", b"stage", b"gone"
_BALLAST = b"ballast"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_journal(state: int, *, make: bool) -> int | None:
    """A descriptor of `journal/` in our directory `state`; None when there is none. OSError."""
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o700, dir_fd=state)
            os.fsync(state)
    try:
        return os.open(DIRECTORY, _OPEN_DIRECTORY, dir_fd=state)
    except FileNotFoundError:
        return None


class Work:
    """These directories, open. `journal`: descriptor of `journal/`, which stays the caller's. OSError."""

    def __init__(self, journal: int) -> None:
        self.journal = journal
        self.obj = _directory(journal, OBJ)
        self.stage = _directory(journal, STAGE)
        self.gone = _directory(journal, GONE)

    def close(self) -> None:
        """Let go."""
        for fd in (self.obj, self.stage, self.gone):
            os.close(fd)

    def source_of(self, name: bytes) -> tuple[int, os.stat_result] | None:
        """Where the object of that id lies, as the descriptor of its directory, and what it is; None: nowhere here
        (any more)."""
        for directory in (self.obj, self.stage):
            with contextlib.suppress(FileNotFoundError):
                return directory, os.stat(name, dir_fd=directory, follow_symlinks=False)
        return None


def set_aside(journal: int, length: int) -> None:
    """Take so many bytes of the file system, to be let go of when they are needed. OSError ENOSPC."""
    fd = os.open(_BALLAST, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=journal)
    try:
        reserve(fd, 0, length)
    finally:
        os.close(fd)


def let_go(journal: int) -> None:
    """Of what was set aside."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_BALLAST, dir_fd=journal)


def clear(journal: int) -> None:
    """Nothing lies aside any more. OSError."""
    let_go(journal)
    for name in (GONE, STAGE, OBJ):
        try:
            fd = os.open(name, _OPEN_DIRECTORY, dir_fd=journal)
        except FileNotFoundError:
            continue
        try:
            _empty(fd)
        finally:
            os.close(fd)


def _empty(directory: int) -> None:
    tree = Tree(b"/proc/self/fd/%d" % directory)
    try:
        for name in _plain_first(directory):
            try:
                remove_entry(tree, name, _let_us_in)
            except PermissionError:
                if not Locks(tree).unlock_tree(name):
                    raise
                remove_entry(tree, name, _let_us_in)
    finally:
        tree.close()


def _plain_first(directory: int) -> Iterable[bytes]:
    return sorted(os.listdir(b"/proc/self/fd/%d" % directory))


def _let_us_in(fd: int) -> None:
    mode = os.fstat(fd).st_mode
    if mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):
            os.fchmod(fd, stat.S_IMODE(mode) | 0o700)


def _directory(journal: int, name: bytes) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=journal)
    return os.open(name, _OPEN_DIRECTORY, dir_fd=journal)
