"""The volume that is copied. It is only ever read: nothing here writes, creates, or changes a time."""

from __future__ import annotations

import errno
import os
import platform
import stat
from typing import NamedTuple

from storagemirror.entry import STATE_DIRECTORY, Attributes, Identity, NotKeptKind, View, join, within
from storagemirror.errors import VolumeError
from storagemirror.fs import xattrs
from storagemirror.fs.identity import Facts, facts, identity
from storagemirror.fs.marker import Marker, marker_beneath
from storagemirror.fs.reading import Reading
from storagemirror.fs.scan import Leaders, Report, Scanner
from storagemirror.fs.selection import Selection
from storagemirror.fs.shared import SHARING
from storagemirror.fs.syscalls import syncfs
from storagemirror.fs.tree import Tree, names_in

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
READ_QUIETLY = _READ | os.O_NOATIME
"""Moves no access time; only the owner and root may ask for that."""
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MULTIGRAIN = frozenset({"ext4", "xfs", "btrfs", "tmpfs"})


class Content(NamedTuple):
    """A small file, read whole."""

    attributes: Attributes
    data: memoryview
    steady: bool
    """Nothing about the file changed while it was read."""
    found: os.stat_result


class SourceVolume:
    """A directory that is read. Paths are relative to it; see `storagemirror.entry`."""

    def __init__(self, tree: Tree, *, grain_ns: int | None = None) -> None:
        """`grain_ns`: None finds out (see `time_grain_ns`)."""
        self.tree = tree
        self.selection: Selection | None = None
        """What is mirrored; None: everything. Of the session that goes on."""
        self.reading = Reading()
        self.identity: Identity = identity(tree.root)
        fs_type = facts(tree.root).fs_type
        self.grain_ns = time_grain_ns(fs_type) if grain_ns is None else grain_ns
        self.shares = fs_type in SHARING
        """Whether its files may share data."""

    @classmethod
    def open(cls, path: str | bytes) -> SourceVolume:
        """`VolumeError` when there is no directory at `path`, or it may not be read."""
        tree = Tree(path)
        try:
            os.listdir(tree.root)
        except OSError as e:
            tree.close()
            raise VolumeError(
                f"cannot read the directory {os.fsdecode(tree.path)}: {e.strerror}", reason="SourceNotReadable"
            ) from e
        return cls(tree)

    def close(self) -> None:
        """Let go of it."""
        self.tree.close()

    def __enter__(self) -> SourceVolume:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def facts(self) -> Facts:
        """Size and free space of its file system."""
        return facts(self.tree.root)

    def open_state(self) -> int | None:
        """A descriptor of our directory, to be closed, where the volume was a copy once; None when it was not."""
        try:
            return os.open(STATE_DIRECTORY, _DIRECTORY, dir_fd=self.tree.root)
        except OSError:
            return None

    def marker(self) -> Marker | None:
        """What it says of itself, where it was a copy once; None: nothing that can be read."""
        return marker_beneath(self.tree.root)

    def sync(self) -> None:
        """Have the kernel write dirty pages, so that the next write through a memory map moves its file's time."""
        syncfs(self.tree.root)

    def check_identity(self) -> None:
        """`VolumeError` when the directory we were started on is another one by now (unmounted, mounted over)."""
        try:
            now = os.stat(self.tree.path)
        except OSError as e:
            raise VolumeError(f"the source has gone: {e.strerror}", reason="SourceUnmounted") from e
        if (now.st_dev, now.st_ino) != (self.tree.device, self.identity.inode):
            raise VolumeError(
                f"{os.fsdecode(self.tree.path)} is no longer the directory it was", reason="SourceUnmounted"
            )

    def scanner(self, view: View, report: Report, leaders: Leaders | None = None) -> Scanner:
        """Something that looks at directories as both sides compare them."""
        return Scanner(self.tree, view, report, leaders if leaders is not None else Leaders(), selection=self.selection)

    def lstat(self, path: bytes) -> os.stat_result | None:
        """What is at `path`; None when nothing is. OSError EXDEV when another file system is mounted there or above:
        what it hides is not gone."""
        found = self.tree.lstat(path)
        if found is None and self.tree.is_hidden(path):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
        return found

    def directory(self, path: bytes, view: View, report: Report) -> SourceDirectory:
        """The directory at `path`, open; OSError when it cannot be."""
        return SourceDirectory(self, path, view, report)


class SourceDirectory:
    """One open directory of a source: its entries are read by name."""

    def __init__(self, volume: SourceVolume, path: bytes, view: View, report: Report) -> None:
        self.path = path
        self.device = volume.tree.device
        self._selection = volume.selection
        self.reading = volume.reading
        self._view = view
        self.looks_at_xattrs = view.acls or view.user_xattrs or view.capabilities or view.trusted_xattrs
        self._report = report
        self.fd = volume.tree.open_directory(path)

    def __enter__(self) -> SourceDirectory:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)

    def names(self) -> list[tuple[bytes, bool, bool]]:
        """(name, is a file, is a directory), sorted; what is left out is not among them. Root directories show what is
        ours or the system's too."""
        selection = self._selection
        if selection is None:
            return names_in(self.fd)
        return [
            found for found in names_in(self.fd) if not selection.excludes(self.path, found[0], is_directory=found[2])
        ]

    def attributes(self) -> Attributes:
        """The directory's own."""
        return self._attributes(self.fd, os.fstat(self.fd), b"")

    def lstat(self, name: bytes) -> os.stat_result:
        """OSError when there is nothing of that name."""
        return os.stat(name, dir_fd=self.fd, follow_symlinks=False)

    def is_foreign(self, found: os.stat_result) -> bool:
        """Whether it is on another file system, mounted there."""
        return found.st_dev != self.device

    def open_file(self, name: bytes) -> tuple[int, os.stat_result]:
        """A descriptor of the regular file `name`, and what it is; OSError, ELOOP too when it is none (any more)."""
        try:
            fd = os.open(name, READ_QUIETLY, dir_fd=self.fd)
        except PermissionError:
            fd = os.open(name, _READ, dir_fd=self.fd)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise OSError(errno.ELOOP, "no regular file", name)
        return fd, found

    def read_small(self, fd: int, before: os.stat_result, name: bytes, room: memoryview | None = None) -> Content:
        """An open file, whole, read into `room` (at least a byte more than it has; None: memory of its own)."""
        size = before.st_size
        if room is None:
            room = memoryview(bytearray(size + 1))
        have = self.reading.small(fd, size, room[: size + 1]) if size else 0
        while have < size and (more := os.preadv(fd, (room[have:size],), have)):
            have += more
        steady = have == size and unchanged(before, os.fstat(fd))
        return Content(self._attributes(fd, before, name), room[:have], steady, before)

    def file_attributes(self, fd: int, found: os.stat_result, name: bytes) -> Attributes:
        """Of an open file of this directory, as `found` a moment ago."""
        return self._attributes(fd, found, name)

    def special_attributes(self, name: bytes, found: os.stat_result) -> Attributes:
        """Of what is not opened: links, FIFOs, sockets, devices, and files of which the content is not needed."""
        return self._attributes(xattrs.path_of(self.fd, name), found, name)

    def readlink(self, name: bytes) -> bytes:
        """Where a symbolic link leads. OSError ENOENT when it is gone, or something else by now."""
        try:
            return os.readlink(name, dir_fd=self.fd)
        except OSError as e:
            if e.errno == errno.EINVAL:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from e
            raise

    def _attributes(self, place: int | bytes, found: os.stat_result, name: bytes) -> Attributes:
        view = self._view
        values: dict[bytes, bytes] = {}
        if self.looks_at_xattrs and (names := xattrs.names_at(place)):
            values = xattrs.values_at(place, names, view, lambda kind: self._report(kind, self._path_of(name)))
        if not view.owner and (found.st_uid, found.st_gid) != (view.uid, view.gid):
            self._report(NotKeptKind.OWNER, self._path_of(name))
        mtime = found.st_mtime_ns
        if not view.oldest_ns <= mtime <= view.latest_ns:
            self._report(NotKeptKind.TIMES, self._path_of(name))
            mtime = within(mtime, view)
        if view.access_times:
            values |= xattrs.access_time(found, view)
        return Attributes(found.st_mode, found.st_uid, found.st_gid, mtime, values)

    def _path_of(self, name: bytes) -> bytes:
        return join(self.path, name) if name else self.path


def time_grain_ns(fs_type: str) -> int:
    """Two changes of a file so far apart may have the same time.

    0 where a change after a look always has another time (multigrain timestamps, Linux 6.13); else a tick of the
    kernel's slowest clock (10 ms), twice to be sure.
    """
    version = platform.release().split("-")[0].split(".")
    numbers = [int(part) for part in version[:2] if part.isdigit()]
    return 0 if numbers >= [6, 13] and fs_type in _MULTIGRAIN else 20_000_000


def unchanged(before: os.stat_result, after: os.stat_result) -> bool:
    """Whether a file was left alone between two looks."""
    return (
        before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
        and before.st_size == after.st_size
    )


def data_extents(fd: int, size: int, start: int = 0) -> list[tuple[int, int]]:
    """Where the file `fd` holds data, from `start` to `size`, which may be in its midst: (begin, end), without its
    holes. All of it where the file system cannot say."""
    extents: list[tuple[int, int]] = []
    at = start
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, begin, os.SEEK_HOLE)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing but a hole up to the end
                break
            return [(start, size)]
        if begin >= size:
            break  # what comes next is beyond what was asked for
        extents.append((begin, min(end, size)))
        at = end
    return extents
