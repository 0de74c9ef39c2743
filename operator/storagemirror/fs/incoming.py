"""A large file on its way in: under a temporary name until it is whole."""

from __future__ import annotations

import contextlib
import os

import msgspec

from storagemirror.entry import Attributes
from storagemirror.fs.behind import Behind
from storagemirror.fs.place import Placer, raise_if_full

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class IncomingFile:
    """Pieces are written where they belong; what is not written is a hole."""

    def __init__(
        self, placer: Placer, temporary: int, path: bytes, attributes: Attributes, *, keep_as: bytes | None = None
    ) -> None:
        """`keep_as`: a temporary name that a later session knows, if this one ends before the file is whole."""
        self.path = path
        self._placer = placer
        self._directory = temporary
        self._attributes = attributes
        self._keep = keep_as is not None
        self._name = placer.temporary_name() if keep_as is None else keep_as
        self._fd = self._open()
        self._behind = Behind(self._fd, placer.memory)

    def _open(self) -> int:
        """A new file."""
        return os.open(self._name, _CREATE, 0o600, dir_fd=self._directory)

    def write(self, offset: int, content: memoryview) -> None:
        """One piece; `VolumeFull` when there is no room."""
        rest = content
        try:
            while rest.nbytes:
                count = os.pwrite(self._fd, rest, offset)
                self._behind.wrote(offset, count)
                rest = rest[count:]
                offset += count
        except OSError as e:
            raise_if_full(e)
            raise

    def set_time(self, mtime_ns: int) -> None:
        """The modification time it gets in the end."""
        self._attributes = msgspec.structs.replace(self._attributes, mtime_ns=mtime_ns)

    def finish(self, fd: int, name: bytes, size: int) -> None:
        """Its size, its attributes, its name in the directory `fd`. When that fails: try again, or `drop` it."""
        try:
            self._behind.end()
            os.ftruncate(self._fd, size)
            self._placer.finish_file(self._fd, self._attributes, self.path)
            os.rename(self._name, name, src_dir_fd=self._directory, dst_dir_fd=fd)
        except OSError as e:
            raise_if_full(e)
            raise
        os.close(self._fd)
        self._fd = -1

    def leave(self) -> None:
        """The session ends: keep what has come, where it may be kept."""
        if not self._keep:
            self.drop()
        elif self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def drop(self) -> None:
        """Forget it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory)
