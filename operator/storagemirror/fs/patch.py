"""A large file on its way in as a delta: what differs from the file that is there (its *base*), until it is whole.

The base is not touched before all has come and the checksum is right. A temporary takes what comes:

- Where the file system shares blocks (FICLONE: XFS, btrfs), it begins as a clone of the base, so it is the whole file.
- Elsewhere it is empty but for what comes, each piece at its place. In the end either the rest is copied from the base
  (where that is little, and where the base has further names, which must not change), or the pieces are written into
  the base in place, as a plan that survives a kill and a power cut (`storagemirror.fs.redo`).

In the first two cases the temporary gets the name in one step, and the base is another file, unchanged.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from array import array

import msgspec

from storagemirror.entry import Attributes, split
from storagemirror.fs import redo
from storagemirror.fs.place import Placer, raise_if_full
from storagemirror.fs.source import data_extents
from storagemirror.fs.syscalls import birth_and_mount, clone, punch_hole, reserve

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
COPY_LIMIT = 8 << 20
"""So much of a base is rather copied than kept in place: that takes no fsync."""
COPY_RATIO = 2
"""So is one of which no more than so many times what changed is kept."""
RUNS_LIMIT = 1 << 17
"""Pieces that are known by their place; beyond, the rest is copied as they come."""


class Base:
    """The file that a delta starts from, open; and what it was when it was opened."""

    def __init__(self, fd: int, *, partial: bool = False) -> None:
        """`partial`: it is what has come of a file before (`storagemirror.fs.partial`), and has no name yet."""
        self.fd = fd
        self.found = os.fstat(fd)
        self.partial = partial

    def unchanged(self) -> bool:
        """Whether nobody has written it since."""
        now = os.fstat(self.fd)
        return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) == (
            self.found.st_size,
            self.found.st_mtime_ns,
            self.found.st_ctime_ns,
        )

    def close(self) -> None:
        """Let go of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class IncomingDelta:
    """As `storagemirror.fs.incoming.IncomingFile`, for what differs from `base`, which it takes over.

    Pieces come in the order of their offsets and do not overlap."""

    def __init__(
        self, path: bytes, attributes: Attributes, base: Base, *, placer: Placer, state: int, temporary: int
    ) -> None:
        """`state`, `temporary`: descriptors of our directory, and of the one for files that are not whole yet."""
        self.path = path
        self._placer = placer
        self._state = state
        self._directory = temporary
        self._attributes = self._torn = attributes
        self._base = base
        self._name = placer.temporary_name()
        self._fd = os.open(self._name, _CREATE, 0o600, dir_fd=temporary)
        self._whole = False
        """The temporary is the whole file already."""
        self._begun = False
        self._runs = array("Q")
        """Offset, and twice the length plus one for a hole, of each piece."""
        self._told = 0
        """Up to where pieces have come."""
        self._filled = 0
        """Up to where the rest was copied from the base."""
        self._changed = 0
        self.runs_limit = RUNS_LIMIT
        self.in_place = True
        """Whether the base may be written: False where it must stay what it is."""

    # -- what comes

    def write(self, offset: int, content: memoryview) -> None:
        """One piece; `VolumeFull` when there is no room, ValueError when it is out of order."""
        self._piece(offset, content.nbytes, hole=False)
        rest = content
        try:
            while rest.nbytes:
                count = os.pwrite(self._fd, rest, offset)
                rest, offset = rest[count:], offset + count
        except OSError as e:
            raise_if_full(e)
            raise

    def hole(self, offset: int, length: int) -> None:
        """Zeros."""
        self._piece(offset, length, hole=True)
        if self._whole:
            punch_hole(self._fd, offset, length)

    def copy(self, offset: int, start: int, length: int) -> None:
        """What the base has at `start`; as `write`."""
        if start + length > self._base.found.st_size:
            raise ValueError(f"expected bytes that the base has, got {start} to {start + length}")
        self._piece(offset, length, hole=False)
        try:
            redo.copy_range(self._base.fd, self._fd, start, length, offset)
        except OSError as e:
            raise_if_full(e)
            raise

    def _piece(self, offset: int, length: int, *, hole: bool) -> None:
        if offset < self._told:
            raise ValueError(f"expected a piece at {self._told} or beyond, got {offset}")
        self._begin()
        self._told = offset + length
        self._changed += length
        if self._whole:
            return
        self._runs.extend((offset, 2 * length + hole))
        if len(self._runs) > 2 * self.runs_limit:
            self._fill(offset)
            del self._runs[:-2]
            self.in_place = False

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            self._whole = clone(self._base.fd, self._fd)

    def set_time(self, mtime_ns: int) -> None:
        """The modification time it gets in the end."""
        self._attributes = msgspec.structs.replace(self._attributes, mtime_ns=mtime_ns)

    # -- the end

    def complete(self, size: int, *, in_place: bool) -> None:
        """All has come, and is right: have the temporary hold what it must. `in_place`: whether the base may be
        written. OSError (ESTALE when the base was changed meanwhile), `VolumeFull`."""
        self._begin()
        if not self._base.unchanged():
            raise OSError(errno.ESTALE, "the target's file was changed by somebody else meanwhile", self.path)
        kept = max(0, min(self._base.found.st_size, size) - self._changed)
        small = kept <= max(COPY_LIMIT, COPY_RATIO * self._changed)
        self.in_place = self.in_place and in_place and not small and not self._whole and self._may_write_base()
        if not self._whole and not self.in_place:
            try:
                self._fill(min(self._base.found.st_size, size))
            except OSError as e:
                raise_if_full(e)
                raise
            self._whole = True

    def _may_write_base(self) -> bool:
        """A plan that could not be carried out once it has begun would leave the file torn: so we look before. Nor may
        an older one be left, which would be carried out over this one."""
        if self._base.found.st_nlink != 1 or not redo.is_clear(self._state):
            return False
        try:
            fd = os.open(b"/proc/self/fd/%d" % self._base.fd, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            for offset, length, hole in self._each_run():
                if not hole:
                    reserve(fd, offset, length)
        except OSError as e:
            raise_if_full(e)
            raise
        finally:
            os.close(fd)
        # That may have changed the change time: nobody else has, or the look before would have said so.
        self._base.found = os.fstat(self._base.fd)
        return True

    def _fill(self, end: int) -> None:
        """Copy from the base what lies between the pieces, up to `end`."""
        for offset, length, _ in self._each_run():
            self._copy(self._filled, min(offset, end))
            self._filled = max(self._filled, offset + length)
        self._copy(self._filled, end)
        self._filled = max(self._filled, end)

    def _copy(self, begin: int, end: int) -> None:
        if begin >= end:
            return
        for low, high in data_extents(self._base.fd, min(end, self._base.found.st_size), begin):
            redo.copy_range(self._base.fd, self._fd, low, high - low)

    def _each_run(self) -> list[redo.Run]:
        runs = self._runs
        return [(runs[at], runs[at + 1] >> 1, bool(runs[at + 1] & 1)) for at in range(0, len(runs), 2)]

    def finish(self, fd: int, name: bytes, size: int) -> None:
        """Its size, its attributes, its name in the directory `fd`; after `complete`. When that fails: try again, or
        `drop` it."""
        try:
            if self._whole:
                os.ftruncate(self._fd, size)
                self._placer.finish_file(self._fd, self._attributes, self.path)
                os.rename(self._name, name, src_dir_fd=self._directory, dst_dir_fd=fd)
                self._close()
                return
            self._write_in_place(fd, name, size)
        except OSError as e:
            raise_if_full(e)
            raise

    def _write_in_place(self, fd: int, name: bytes, size: int) -> None:
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        base = self._base.found
        if (found.st_ino, found.st_dev) != (base.st_ino, base.st_dev):
            raise OSError(errno.ESTALE, "the target's file was replaced by somebody else meanwhile", self.path)
        plan = redo.Plan(
            self.path,
            base.st_ino,
            size,
            self._attributes,
            birth_and_mount(self._base.fd)[0],
            self._torn.mtime_ns,
            self._each_run(),
        )
        redo.seal(self._fd, plan)
        with redo.directory(self._state) as place:
            os.rename(self._name, self._name, src_dir_fd=self._directory, dst_dir_fd=place)
            self._directory = os.dup(place)
        try:
            os.fsync(self._directory)
            redo.apply(plan, self._fd, fd, name, self._placer)
            os.unlink(self._name, dir_fd=self._directory)
        finally:
            os.close(self._directory)
            self._directory = -1
        self._close()

    def drop(self) -> None:
        """Forget it. A plan that is being carried out is not forgotten: it is finished when the volume is claimed."""
        fd = self._fd
        self._close()
        if fd >= 0 and self._directory >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._directory)

    def _close(self) -> None:
        self._base.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_base(directory: int, path: bytes) -> Base:
    """The file at `path`, whose directory is open. OSError, also when it is no regular file."""
    name = split(path)[1]
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=directory)
    base = Base(fd)
    if not stat.S_ISREG(base.found.st_mode):
        base.close()
        raise OSError(errno.ELOOP, "no regular file", path)
    return base
