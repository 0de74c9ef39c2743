"""Directories of a volume, opened so that nothing can lead out of it.

openat2 does it in one call: beneath the root, through no symbolic link, into no other mount. Where it is not allowed
(an old kernel, a strict seccomp profile) each name is opened by the descriptor of the directory before.
"""

from __future__ import annotations

import errno
import os
import stat

from storagemirror.entry import is_path
from storagemirror.errors import BadInput, VolumeError
from storagemirror.fs.syscalls import has_openat2, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 4000
"""Bytes of a path that are resolved at once: below PATH_MAX (4096)."""


class Tree:
    """The root of a volume, held open."""

    def __init__(self, path: str | bytes, *, use_openat2: bool | None = None) -> None:
        """`VolumeError` when `path` is not a directory that can be opened. `use_openat2`: None finds out."""
        self.path = os.path.abspath(os.fsencode(path))  # looked at again later, wherever we stand then
        try:
            self.root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as e:
            raise VolumeError(
                f"expected a directory at {os.fsdecode(self.path)}: {e.strerror}", reason="VolumeUnusable"
            ) from e
        self.device = os.fstat(self.root).st_dev
        self._openat2 = has_openat2() if use_openat2 is None else use_openat2

    def open_directory(self, path: bytes) -> int:
        """A new descriptor of the directory at `path`. OSError: ENOENT, ENOTDIR, ELOOP (a symbolic link), EXDEV
        (another file system), EACCES. `BadInput` when `path` is not a path within the volume."""
        if not is_path(path):
            raise BadInput(f"not a path within the volume: {path[:300]!r}")
        if not path:
            return (
                openat2(self.root, b".", _DIRECTORY) if self._openat2 else os.open(b".", _DIRECTORY, dir_fd=self.root)
            )
        if not self._openat2:
            return self._open_by_names(path.split(b"/"))
        if len(path) <= _PIECE:
            return openat2(self.root, path, _DIRECTORY)
        return self._open_in_pieces(path.split(b"/"))

    def open_child(self, fd: int, name: bytes) -> int:
        """A new descriptor of the directory `name` in the directory `fd`. OSError as `open_directory`."""
        if self._openat2:
            return openat2(fd, name, _DIRECTORY)
        deeper = os.open(name, _DIRECTORY, dir_fd=fd)
        if os.fstat(deeper).st_dev != self.device:
            os.close(deeper)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), name)
        return deeper

    def obstacle(self, path: bytes) -> bytes | None:
        """The first of `path` and the directories that lead to it that is there and cannot be opened as a directory;
        None when there is none."""
        fd = os.dup(self.root)
        names = path.split(b"/")
        try:
            for number, name in enumerate(names, 1):
                try:
                    deeper = self.open_child(fd, name)
                except FileNotFoundError:
                    return None
                except OSError:
                    return b"/".join(names[:number])
                os.close(fd)
                fd = deeper
        finally:
            os.close(fd)
        return None

    def _open_in_pieces(self, names: list[bytes]) -> int:
        fd = os.dup(self.root)
        at = 0
        while at < len(names):
            end, size = at, 0
            while end < len(names) and (size := size + len(names[end]) + 1) <= _PIECE:
                end += 1
            try:
                deeper = openat2(fd, b"/".join(names[at:end]), _DIRECTORY)
            finally:
                os.close(fd)
            fd, at = deeper, end
        return fd

    def _open_by_names(self, names: list[bytes]) -> int:
        fd = os.dup(self.root)
        for name in names:
            try:
                deeper = self.open_child(fd, name)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def lstat(self, path: bytes) -> os.stat_result | None:
        """What is at `path`, None when there is nothing (or something on the way is no directory)."""
        directory, _, name = path.rpartition(b"/")
        try:
            fd = self.open_directory(directory)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as e:
            if e.errno in (errno.ELOOP, errno.EXDEV):
                return None
            raise
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False) if name else os.fstat(fd)
        except FileNotFoundError:
            return None
        finally:
            os.close(fd)
        return found if found.st_dev == self.device else None

    def is_hidden(self, path: bytes) -> bool:
        """Whether another file system is mounted at `path`, or at a directory that leads to it."""
        while path:
            path, _, name = path.rpartition(b"/")
            try:
                fd = self.open_directory(path)
            except OSError as e:
                if e.errno == errno.EXDEV:
                    return True
                continue  # nothing is there, or no directory: what is above decides
            try:
                return os.stat(name, dir_fd=fd, follow_symlinks=False).st_dev != self.device
            except FileNotFoundError:
                return False
            finally:
                os.close(fd)
        return False

    def close(self) -> None:
        """Let go of the root."""
        if self.root >= 0:
            os.close(self.root)
            self.root = -1


def names_in(fd: int) -> list[tuple[bytes, bool, bool]]:
    """Of the directory `fd`: (name, is a file, is a directory), sorted by name. No call per entry."""
    with os.scandir(b"/proc/self/fd/%d" % fd) as found:
        names = [(e.name, e.is_file(follow_symlinks=False), e.is_dir(follow_symlinks=False)) for e in found]
    names.sort()
    return names


def is_special(mode: int) -> bool:
    """Whether a mode is that of a device."""
    return stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
