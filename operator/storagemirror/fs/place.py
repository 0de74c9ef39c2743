"""Putting entries into a target.

The order in which an entry gets what it has: content, owner, extended attributes, mode, and its time last. (Giving a
file away clears its set-user-ID bit and its capabilities; setting an ACL moves mode bits.) So a file whose time is
right is whole: a target that was killed in between leaves a file whose time is *not* the source's, which the next
comparison sends again.

What is durable: nothing by itself. Files are not fsynced one by one; the session syncs the whole file system at marks,
at checkpoints and at its end, and after a crash distrusts every file changed since (`Scanner.distrust_after_ns`).

A replaced file is written under a temporary name in `.storagemirror/tmp` and renamed: its old content is there until
the new one is whole. A small file of a directory that this mirror made is written in place.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Callable

from storagemirror.entry import Attributes, NotKeptKind, View, join
from storagemirror.errors import VolumeFull
from storagemirror.fs import xattrs
from storagemirror.fs.behind import memory_limit
from storagemirror.fs.newfiles import NewFiles
from storagemirror.fs.scan import Report
from storagemirror.fs.shortfall import Lack, Shortfall
from storagemirror.fs.syscalls import chmod_no_follow

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
Put = Callable[[int | bytes, dict[bytes, bytes], View, Callable[[NotKeptKind], None]], None]
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Placer:
    """Makes entries. `temporary` is the descriptor of the directory for files that are not whole yet."""

    def __init__(self, temporary: int, view: View, report: Report, shortfall: Shortfall | None = None) -> None:
        self._shortfall = shortfall if shortfall is not None else Shortfall()
        self._temporary = temporary
        self._view = view
        self._report = report
        self._numbers = itertools.count()
        self.memory = memory_limit()
        """Bytes that this process may use, page cache included; None: no limit."""
        self._acls = view.acls

    def look_with(self, view: View) -> None:
        """What the session compares: beyond what the volume can hold no more than the source asks for."""
        self._view, self._acls = view, view.acls

    def temporary_name(self) -> bytes:
        """One that was not given before."""
        return b"%d" % next(self._numbers)

    def file(self, fd: int, path: bytes, name: bytes, attributes: Attributes, content: memoryview) -> None:
        """A whole small file, in place of whatever is no directory."""
        temporary = self.temporary_name()
        self._write_file(self._temporary, temporary, attributes, content, join(path, name))
        self.into_place(temporary, fd, name)

    def new_files(self, fd: int, path: bytes) -> NewFiles:
        """Makes small files in the directory `fd` at `path`, in which nothing of these names should be."""
        return NewFiles(
            fd,
            lambda file, attributes, name: self.finish_file(file, attributes, join(path, name)),
            owner=self._view.owner,
        )

    def _write_file(
        self, directory: int, name: bytes, attributes: Attributes, content: memoryview, path: bytes
    ) -> None:
        fd = os.open(name, _CREATE, 0o600, dir_fd=directory)
        try:
            write_all(fd, content)
            self.finish_file(fd, attributes, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=directory)
            raise
        finally:
            os.close(fd)

    def finish_file(self, fd: int, attributes: Attributes, path: bytes) -> None:
        """The attributes of a file that was just made, its time last."""
        if self._view.owner:
            os.fchown(fd, attributes.uid, attributes.gid)
        if attributes.xattrs:
            self._extended(fd, attributes, path, xattrs.write)
        self._mode(fd, attributes, path)
        self._times(fd, attributes, path)

    def into_place(self, temporary: bytes, fd: int, name: bytes) -> None:
        """Give a temporary its name; OSError EISDIR when a directory has it."""
        try:
            os.rename(temporary, name, src_dir_fd=self._temporary, dst_dir_fd=fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=self._temporary)
            raise

    def symlink(self, fd: int, path: bytes, name: bytes, attributes: Attributes, content: bytes) -> None:
        """A symbolic link, in place of whatever is no directory."""
        temporary = self.temporary_name()
        os.symlink(content, temporary, dir_fd=self._temporary)
        self._finish_special(temporary, attributes, join(path, name))
        self.into_place(temporary, fd, name)

    def node(self, fd: int, path: bytes, name: bytes, attributes: Attributes, device: int) -> None:
        """A FIFO, socket or device, in place of whatever is no directory."""
        temporary = self.temporary_name()
        try:
            os.mknod(temporary, stat.S_IFMT(attributes.mode) | 0o600, device, dir_fd=self._temporary)
        except OSError as e:
            # EINVAL: XFS holds minor numbers of 18 bits alone.
            if e.errno not in (errno.EPERM, errno.EINVAL):
                raise
            self._report(NotKeptKind.DEVICE, join(path, name))
            return
        self._finish_special(temporary, attributes, join(path, name))
        self.into_place(temporary, fd, name)

    def link(self, leader_fd: int, leader: bytes, fd: int, name: bytes) -> None:
        """A further name, in place of whatever is no directory."""
        temporary = self.temporary_name()
        os.link(leader, temporary, src_dir_fd=leader_fd, dst_dir_fd=self._temporary, follow_symlinks=False)
        self.into_place(temporary, fd, name)
        # rename(2) does nothing, and leaves the old name, when both are one file already.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=self._temporary)

    def touch(self, fd: int, path: bytes, name: bytes, attributes: Attributes) -> None:
        """The attributes of an entry that is there; OSError ENOENT when it is not, or is of another type."""
        found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if stat.S_IFMT(found.st_mode) != stat.S_IFMT(attributes.mode):
            raise OSError(errno.ENOENT, "of another type by now", name)
        place = xattrs.path_of(fd, name)
        where = join(path, name)
        if self._view.owner and (found.st_uid, found.st_gid) != (attributes.uid, attributes.gid):
            os.chown(name, attributes.uid, attributes.gid, dir_fd=fd, follow_symlinks=False)
        self._extended(place, attributes, where, xattrs.replace)
        if not stat.S_ISLNK(attributes.mode):
            self._mode(place, attributes, where)
        self._times(place, attributes, where)

    def directory(self, fd: int, name: bytes) -> bool:
        """An empty directory that only we may enter, without what it would inherit; False when one is there."""
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                return False
            raise
        self.bare(xattrs.path_of(fd, name))
        return True

    def bare(self, place: int | bytes) -> None:
        """Take a directory's ACLs away, so that nothing that is made in it inherits them."""
        if not self._acls:
            return
        for inherited in (xattrs.ACL_DEFAULT, xattrs.ACL_ACCESS):
            with contextlib.suppress(OSError):
                if isinstance(place, int):
                    os.removexattr(place, inherited)
                else:
                    os.removexattr(place, inherited, follow_symlinks=False)

    def leave(self, fd: int, path: bytes, attributes: Attributes, *, fresh: bool) -> None:
        """The attributes of the directory `fd`: nothing in it changes any more."""
        if self._view.owner:
            os.fchown(fd, attributes.uid, attributes.gid)
        if attributes.xattrs or not fresh:
            self._extended(fd, attributes, path, xattrs.replace)
        self._mode(fd, attributes, path)
        self._times(fd, attributes, path)

    def _finish_special(self, temporary: bytes, attributes: Attributes, path: bytes) -> None:
        directory = self._temporary
        place = xattrs.path_of(directory, temporary)
        try:
            if self._view.owner:
                os.chown(temporary, attributes.uid, attributes.gid, dir_fd=directory, follow_symlinks=False)
            if attributes.xattrs:
                self._extended(place, attributes, path, xattrs.write)
            if not stat.S_ISLNK(attributes.mode):
                self._mode(place, attributes, path)
            self._times(place, attributes, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise

    def _extended(self, place: int | bytes, attributes: Attributes, path: bytes, put: Put) -> None:
        """What is refused is reported, and noted with what the entry has instead."""
        refused: list[NotKeptKind] = []
        put(place, attributes.xattrs, self._view, refused.append)
        lacks = self._shortfall
        if not refused:
            if lacks.attributes:
                lacks.note(lacks.attributes, path, None)
            return
        for kind in refused:
            self._report(kind, path)
        there = xattrs.values_at(place, xattrs.names_at(place), self._view, lambda kind: None)
        if xattrs.ACCESS_TIME in attributes.xattrs:
            there[xattrs.ACCESS_TIME] = attributes.xattrs[xattrs.ACCESS_TIME]
        kinds = tuple(dict.fromkeys(refused))
        lack = Lack(kinds, xattrs.digest(attributes.xattrs), xattrs.digest(there))
        lacks.note(lacks.attributes, path, lack)

    def _mode(self, place: int | bytes, attributes: Attributes, path: bytes) -> None:
        try:
            if isinstance(place, int):
                os.fchmod(place, attributes.mode & 0o7777)
            else:
                chmod_no_follow(place, attributes.mode & 0o7777)
        except PermissionError:
            self._report(NotKeptKind.MODE, path)

    def _times(self, place: int | bytes, attributes: Attributes, path: bytes) -> None:
        access = attributes.xattrs.get(xattrs.ACCESS_TIME) if attributes.xattrs else None
        times = (int.from_bytes(access, "little", signed=True) if access else attributes.mtime_ns, attributes.mtime_ns)
        try:
            if isinstance(place, int):
                os.utime(place, ns=times)
            else:
                os.utime(place, ns=times, follow_symlinks=False)
        except (PermissionError, OverflowError):
            self._report(NotKeptKind.TIMES, path)


def write_all(fd: int, content: memoryview) -> None:
    """All of it at the file's position; `VolumeFull` when there is no room."""
    rest = content
    while rest.nbytes:
        try:
            rest = rest[os.write(fd, rest) :]
        except OSError as e:
            raise_if_full(e)
            raise


def raise_if_full(error: OSError) -> None:
    """`VolumeFull` where an error means that."""
    if error.errno in _FULL:
        raise VolumeFull(
            "no space, inodes or quota left on the target",
            hint="Grow the target's volume, or free space on it; the mirror goes on by itself.",
        ) from error
