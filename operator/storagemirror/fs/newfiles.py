"""Many small files made in one directory, with as few system calls as they need.

What a file is when it is made depends on more than on us: the owner on a set-group-ID directory, on the mount
(`grpid`, mapped identities, a squashed root), the mode on the umask and on ACLs. None of that is guessed: the first
file of each mode in a directory is looked at, and only what the others must have otherwise is set. So most files cost
four calls: open, write, their time, close.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from storagemirror.entry import Attributes

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL = 0o7000
"""Set-user-ID, set-group-ID, sticky: writing and giving away clear them, so they are set when all else is done."""

Finish = Callable[[int, Attributes, bytes], None]


class NewFiles:
    """Of the directory `fd`, while it gets its content. A file has its name while it is written; where anybody but us
    may enter the directory already, it is ours alone until it is whole."""

    def __init__(self, fd: int, finish: Finish, *, owner: bool) -> None:
        """`finish(fd, attributes, name)` sets all that a file has, its time last, and reports what is refused;
        `owner`: whether files are given away at all."""
        self._fd = fd
        self._finish = finish
        self._owner = owner
        self._private = not os.fstat(fd).st_mode & 0o077
        self._made: dict[int, tuple[int, int, int]] = {}
        """By the mode that was asked for: owner, group and mode that a new file has got."""
        self._as_made: set[tuple[int, int, int]] = set()
        """Mode with type, owner and group of those that need nothing but their time."""

    def put(self, name: bytes, attributes: Attributes, content: memoryview) -> None:
        """A whole file. FileExistsError when something has the name; other OSError: nothing is left of it."""
        # Nearly all are as one before them was: nothing is asked again.
        like_one_before = (attributes.mode, attributes.uid, attributes.gid) in self._as_made and not attributes.xattrs
        mode = attributes.mode & 0o7777
        simple = like_one_before or (self._private and not (attributes.xattrs or mode & _SPECIAL))
        fd = os.open(name, _CREATE, mode if simple else 0o600, dir_fd=self._fd)
        try:
            size = content.nbytes
            if size and (done := os.write(fd, content)) != size:
                _write_rest(fd, content[done:])
            if like_one_before or (simple and self._is_made(fd, mode, attributes)):
                mtime = attributes.mtime_ns
                try:
                    os.utime(fd, ns=(mtime, mtime))
                except (PermissionError, OverflowError):
                    self._finish(fd, attributes, name)  # tries again, and reports it
            else:
                self._finish(fd, attributes, name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self._fd)
            raise
        finally:
            os.close(fd)

    def _is_made(self, fd: int, mode: int, attributes: Attributes) -> bool:
        """Whether a file made with this mode has its owner and mode already."""
        made = self._made.get(mode)
        if made is None:
            found = os.fstat(fd)
            made = self._made[mode] = found.st_uid, found.st_gid, found.st_mode
        uid, gid, got = made
        if got != attributes.mode or (self._owner and (uid != attributes.uid or gid != attributes.gid)):
            return False
        self._as_made.add((attributes.mode, attributes.uid, attributes.gid))
        return True


def _write_rest(fd: int, content: memoryview) -> None:
    while content.nbytes:
        content = content[os.write(fd, content) :]
