"""What has come of a large file when its session ends: it is kept, and the next session goes on with it.

One file at most: `.storagemirror/tmp/partial`, and beside `tmp` a record of the path that it was to have. Nothing else
is believed of it. The next session tells the sums of its blocks as of any base of a delta (`storagemirror.sync.bases`),
read from the file as it is then; the source sends every block whose sum is another, and what has not come at all. So
whatever a kill, a power cut or anybody has made of it is mended, and the file gets its name only when it is whole.

A comparison of everything that ends leaves none: what the source did not ask for then it does not have any more.
"""

from __future__ import annotations

import contextlib
import os
import stat

import msgspec

from storagemirror.entry import Attributes, is_path
from storagemirror.fs.incoming import IncomingFile
from storagemirror.fs.patch import Base
from storagemirror.fs.place import Placer
from storagemirror.fs.syscalls import punch_hole

NAME = b"partial"
LEAST = 64 << 20
"""Smaller files are sent again from their beginning."""
_RECORD = b"partial.json"
_RECORD_LIMIT = 512 << 10
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class _Record(msgspec.Struct, frozen=True):
    path: str
    """Hexadecimal."""


def remember(state: int, temporary: int, path: bytes) -> None:
    """A file that is to be kept comes now; the one before is forgotten. OSError. (Not durable: there is nothing to lose
    but time.)"""
    forget(state, temporary)
    fd = os.open(_RECORD, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=state)
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(_Record(path.hex())))


def forget(state: int, temporary: int) -> None:
    """What was kept is not needed."""
    for name, place in ((NAME, temporary), (_RECORD, state)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=place)


def kept(state: int, temporary: int) -> tuple[bytes, int] | None:
    """Path, and bytes that have come at most; None: nothing is kept (any more)."""
    try:
        found = os.stat(NAME, dir_fd=temporary, follow_symlinks=False)
        fd = os.open(_RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=state)
        with open(fd, "rb") as file:
            path = bytes.fromhex(msgspec.json.decode(file.read(_RECORD_LIMIT), type=_Record).path)
    except (OSError, ValueError, msgspec.MsgspecError):
        return None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or not path or not is_path(path):
        return None
    return path, found.st_size


def open_base(state: int, temporary: int, path: bytes) -> Base | None:
    """What is kept of the file at `path`, to be told of and written; None: nothing."""
    found = kept(state, temporary)
    if found is None or found[0] != path:
        return None
    try:
        return Base(os.open(NAME, _OPEN, dir_fd=temporary), partial=True)
    except OSError:
        return None


class ResumedFile(IncomingFile):
    """The rest of it comes, into the file itself: nobody sees it before it is whole."""

    def __init__(self, placer: Placer, temporary: int, path: bytes, attributes: Attributes, base: Base) -> None:
        """Takes over `base`. Makes no file: it is there."""
        self._base = base
        super().__init__(placer, temporary, path, attributes, keep_as=NAME)

    def _open(self) -> int:
        """The file that is there."""
        fd = os.dup(self._base.fd)
        self._base.close()
        return fd

    def hole(self, offset: int, length: int) -> None:
        """Zeros."""
        punch_hole(self._fd, offset, length)
