"""What a point makes, holds and writes: everything but names.

`Preparer` does it while a point comes in, as far as nobody sees it: what is new is made aside (so that there are inodes
for it), what gets another name gets a link aside, and it is counted how much room the content needs. What cannot be
done then refuses the point. `Maker` does the same again once the point is committed, and writes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from functools import partial

from storagemirror.entry import Kind, NotKeptKind, split
from storagemirror.fs.inodeflags import LOCKS, NOCOW, get_flags, open_any, set_flags, set_project
from storagemirror.fs.journal.refusal import NotTaken, Why
from storagemirror.fs.journal.volume import Volume
from storagemirror.fs.journal.work import Work
from storagemirror.fs.source import data_extents
from storagemirror.fs.syscalls import punch_hole
from storagemirror.point import Object, ObjectId, device

_WRITE = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_UNKNOWN_LINKS = 127
"""What the C library says of file systems that it does not know (btrfs, tmpfs)."""
_MOST_LINKS = 65_000
"""Then: ext4's limit, below those of the others."""
_EXECUTABLE = 0o111
_BLOCK = 4096
"""Bytes: less than a block is none less."""
_LARGE = 1 << 40
"""Bytes: whether a larger file can be is tried."""


class Current:
    """The object that a point tells of, where it is now: `name` in the open `directory`."""

    def __init__(self, told: Object, directory: int, name: bytes, path: bytes) -> None:
        self.told = told
        self.directory = directory
        self.name = name
        self.path = path
        """For reports."""
        self.fd = -1
        """Open for writing."""

    def close(self) -> None:
        """Let go."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Finder:
    """Finds and makes objects, one after the other. Base of both that follow."""

    def __init__(self, volume: Volume, work: Work) -> None:
        self._volume = volume
        self._work = work
        self._current: Current | None = None
        self._parent: tuple[bytes, int] | None = None
        """Of what was found last, and open."""

    @property
    def _now(self) -> Current:
        if self._current is None:
            raise AssertionError("tell of an object first")
        return self._current

    def object(self, told: Object) -> None:
        """What follows is about this one. `NotTaken`, OSError."""
        self.end()
        self._current = self._find(told)

    def end(self) -> None:
        """Nothing more comes for it."""
        if self._current is not None:
            self._current.close()
            self._current = None

    def close(self) -> None:
        """Let go of all."""
        Finder.end(self)
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _find(self, told: Object) -> Current:
        if told.was is None:
            self._make(told)
            return Current(told, self._work.obj, told.id.name(), b"")
        directory, name = split(told.was)
        fd = self._directory(directory)
        try:
            found = os.stat(name or b".", dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError as e:
            raise NotTaken(Why.CONFLICT, "it is not on the target", told.was) from e
        if stat.S_IFMT(found.st_mode) != told.kind or found.st_dev != self._volume.tree.device:
            raise NotTaken(Why.CONFLICT, "it is something else on the target", told.was)
        self._known(told, found)
        if told.moves and told.kind != Kind.DIRECTORY:
            self._hold(told, fd, name, found)
        return Current(told, fd, name, told.was)

    def _known(self, told: Object, found: os.stat_result) -> None:
        """It was found on the volume."""

    def _directory(self, path: bytes) -> int:
        if self._parent is not None:
            if self._parent[0] == path:
                return self._parent[1]
            os.close(self._parent[1])
            self._parent = None
        try:
            fd = self._volume.tree.open_directory(path)
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NotTaken(Why.CONFLICT, "no such directory is on the target", path) from e
        except OSError as e:
            if e.errno not in (errno.ELOOP, errno.EXDEV, errno.EACCES):
                raise
            raise NotTaken(Why.CONFLICT, f"it cannot be opened on the target: {e.strerror}", path) from e
        self._parent = path, fd
        return fd

    def _make(self, told: Object) -> None:
        """Aside, unless it is there already (of an earlier try, or told before)."""
        name, obj = told.id.name(), self._work.obj
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=obj, follow_symlinks=False)
            if stat.S_IFMT(found.st_mode) != told.kind:
                raise NotTaken(Why.OTHER, "one object is told as two kinds of entries")
            return
        if told.kind == Kind.DIRECTORY:
            self._volume.placer.directory(obj, name)
        elif told.kind == Kind.FILE:
            fd = os.open(name, _CREATE, 0o600, dir_fd=obj)
            try:
                if told.flags is not None and told.flags & NOCOW:  # only an empty file takes it
                    set_flags(fd, told.flags & NOCOW)
            finally:
                os.close(fd)
        elif told.kind == Kind.SYMLINK:
            os.symlink(told.content, name, dir_fd=obj)
        else:
            self._make_node(told, name)

    def _make_node(self, told: Object, name: bytes) -> None:
        number = os.makedev(*device(told.content)) if told.content else 0
        try:
            os.mknod(name, told.kind | 0o600, number, dir_fd=self._work.obj)
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.EINVAL):
                raise
            raise NotTaken(Why.DENIED, f"the target takes no device of these numbers: {e.strerror}") from e

    def _hold(self, told: Object, fd: int, name: bytes, found: os.stat_result) -> None:
        """A further link aside, by which it is found whatever becomes of its names."""
        stage, aside = self._work.stage, told.id.name()
        with contextlib.suppress(FileNotFoundError):
            there = os.stat(aside, dir_fd=stage, follow_symlinks=False)
            if there.st_ino != found.st_ino:
                raise NotTaken(Why.OTHER, "one object is told to have been two on the target", told.was or b"")
            return
        self._link_aside(told, lambda: os.link(name, aside, src_dir_fd=fd, dst_dir_fd=stage, follow_symlinks=False))

    def _link_aside(self, told: Object, link: Callable[[], None]) -> None:
        self._volume.unlocking(told.was or b"", link)

    def _open(self, current: Current) -> int:
        """The file, for writing."""
        if current.fd < 0:
            try:
                current.fd = os.open(current.name, _WRITE, dir_fd=current.directory)
            except PermissionError as e:
                if not self._volume.locks.yields(e, current.path):
                    os.chmod(current.name, 0o600, dir_fd=current.directory)  # its mode is set when it is whole
                current.fd = os.open(current.name, _WRITE, dir_fd=current.directory)
            if not stat.S_ISREG(os.fstat(current.fd).st_mode):
                raise NotTaken(Why.CONFLICT, "it is something else on the target", current.path)
        return current.fd


class Preparer(Finder):
    """Before the commit. What it has done is undone by clearing what lies aside: nothing of the volume is touched but
    for the number of links of files."""

    def __init__(self, volume: Volume, work: Work, *, copies: bool) -> None:
        """`copies`: what is written over takes new blocks on this file system."""
        super().__init__(volume, work)
        self._copies = copies
        self._link_max = _link_max(volume.tree.root)
        self.room = 0
        """Bytes that content will take."""
        self._linked: dict[int, ObjectId] = {}
        """Which object a file with several names on the target is."""
        self.later: set[ObjectId] = set()
        """What cannot be held before the commit, since it is locked."""
        self.held: set[int] = set()
        """Inodes, on the target, of what gets another name."""

    def _find(self, told: Object) -> Current:
        if told.links > self._link_max and told.kind != Kind.DIRECTORY:
            message = f"a file cannot have {told.links} names on the target's file system, {self._link_max} at most"
            raise NotTaken(Why.OTHER, message, told.was or b"")
        if told.size > _LARGE:
            self._try_size(told)
        try:
            return super()._find(told)
        except PermissionError as e:
            raise NotTaken(Why.DENIED, f"the target does not let us: {e.strerror}", told.was or b"") from e

    def _hold(self, told: Object, fd: int, name: bytes, found: os.stat_result) -> None:
        try:
            super()._hold(told, fd, name, found)
        except PermissionError:
            inner = open_any(fd, name)
            try:
                locked = get_flags(inner) & LOCKS
            finally:
                os.close(inner)
            if not locked:
                raise
            self.later.add(told.id)  # nothing is unlocked before the commit
        self.held.add(found.st_ino)

    def _link_aside(self, told: Object, link: Callable[[], None]) -> None:
        link()

    def _known(self, told: Object, found: os.stat_result) -> None:
        if found.st_nlink < 2 or told.kind == Kind.DIRECTORY:
            return
        other = self._linked.setdefault(found.st_ino, told.id)
        if other != told.id:
            raise NotTaken(Why.CONFLICT, "two of the source's files are one on the target", told.was or b"")

    def content(self, offset: int, length: int) -> None:
        """So many bytes will be written there: what has no blocks for them yet is counted in `room`. A file of the
        volume is not touched: even to reserve blocks would change its time. (Nor is a new one: on btrfs that takes a
        hundred times as long as to write it.)"""
        current = self._now
        there = current.told.was is not None and not self._copies
        begin = offset - offset % _BLOCK
        length += offset - begin
        length += -length % _BLOCK
        self.room += length - (self._allocated(current, begin, length) if there else 0)
        if current.told.was is not None and self._copies:
            self._open_to_look(current)

    def _allocated(self, current: Current, offset: int, length: int) -> int:
        """Bytes, of these, that the file has blocks for."""
        fd = self._open_to_look(current)
        end = min(offset + length, os.fstat(fd).st_size)
        return sum(high - low for low, high in data_extents(fd, end, offset)) if end > offset else 0

    def _open_to_look(self, current: Current) -> int:
        """Open for reading; that it can be written is looked at as well, and nothing is changed. What was open for
        writing would be told as somebody else's change when it is closed: it is only tried where it must fail."""
        if current.fd < 0:
            name, directory = current.name, current.directory
            if current.told.was is not None and current.told.attributes.mode & _EXECUTABLE:
                self._try_to_write(current)
            writable = os.access(name, os.W_OK, dir_fd=directory, effective_ids=True, follow_symlinks=False)
            try:
                current.fd = os.open(name, _READ if writable else _WRITE, dir_fd=directory)
            except PermissionError as e:
                found = os.stat(current.name, dir_fd=current.directory, follow_symlinks=False)
                if e.errno == errno.EACCES and found.st_uid != os.geteuid():
                    message = f"the target's file cannot be written: {e.strerror}"
                    raise NotTaken(Why.DENIED, message, current.path) from e
                # Locked, or ours and not writable: that is changed when the point is applied.
                current.fd = os.open(current.name, _READ, dir_fd=current.directory)
        return current.fd

    def _try_to_write(self, current: Current) -> None:
        """What is being executed cannot be written, and only opening it says so. What that tells a watch is ours."""
        others = self._volume.others()
        others.applying()
        others.touch(current.path)
        try:
            with contextlib.suppress(PermissionError):
                os.close(os.open(current.name, _WRITE, dir_fd=current.directory))
        finally:
            others.applied()

    def _try_size(self, told: Object) -> None:
        name = b"size"
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._work.gone)
        try:
            os.ftruncate(fd, told.size)
        except OSError as e:
            if e.errno != errno.EFBIG:
                raise
            raise NotTaken(Why.OTHER, "the target's file system has no files so large", told.was or b"") from e
        finally:
            os.close(fd)
            os.unlink(name, dir_fd=self._work.gone)


class Maker(Finder):
    """Step Write of a committed point: all of it may be done again, as long as the paths of the base hold.

    Of an object that is told twice the last size counts: a file is cut when all else is written. A size that it had in
    between would else take away what is as it was."""

    def __init__(self, volume: Volume, work: Work) -> None:
        super().__init__(volume, work)
        self._to_cut: dict[tuple[bool, bytes], Object] = {}
        """By whether it is new, and its id or the path at which it was."""
        self._others = volume.others()

    def _find(self, told: Object) -> Current:
        if told.was is not None and told.kind != Kind.DIRECTORY:
            self._others.touch(told.was)
        return super()._find(told)

    def content(self, offset: int, content: memoryview) -> None:
        """Into the file told last. OSError."""
        fd = self._open(self._now)
        while content.nbytes:
            count = os.pwrite(fd, content, offset)
            content, offset = content[count:], offset + count

    def zeros(self, offset: int, length: int) -> None:
        """Into the file told last: a hole. What is beyond its end becomes zeros with its size. OSError."""
        punch_hole(self._open(self._now), offset, length)

    def end(self) -> None:
        """Its size, and its attributes, its time last; not of directories: what is in them changes yet. OSError."""
        current = self._current
        if current is not None and current.told.kind != Kind.DIRECTORY:
            self._volume.unlocking(current.path, lambda: self._complete(current))
        super().end()

    def _complete(self, current: Current) -> None:
        told, placer = current.told, self._volume.placer
        if told.kind != Kind.FILE:
            placer.touch(current.directory, split(current.path)[0], current.name, told.attributes)
            return
        found = os.stat(current.name, dir_fd=current.directory, follow_symlinks=False)
        if found.st_size > told.size:
            self._to_cut[_key(told)] = told
            return
        self._to_cut.pop(_key(told), None)
        if current.fd >= 0 or found.st_size != told.size or told.flags is not None or told.project is not None:
            self._write_whole(current)
            return
        placer.touch(current.directory, split(current.path)[0], current.name, told.attributes)

    def _write_whole(self, current: Current) -> None:
        fd, told = self._open(current), current.told
        os.ftruncate(fd, told.size)
        self._set_flags(fd, told, current.path)
        self._volume.placer.leave(fd, current.path, told.attributes, fresh=False)

    def finish(self) -> None:
        """Everything was told. OSError."""
        self.end()
        for told in self._to_cut.values():
            current = self._current = self._find(told)
            self._volume.unlocking(current.path, partial(self._write_whole, current))
            super().end()
        self._to_cut.clear()

    def _set_flags(self, fd: int, told: Object, path: bytes) -> None:
        """Without those that lock: they come last of all."""
        if told.project is not None and not set_project(fd, told.project):
            self._volume.report(NotKeptKind.PROJECT, path)
        if told.flags is not None and (told.flags or get_flags(fd)) and not set_flags(fd, told.flags & ~LOCKS):
            self._volume.report(NotKeptKind.FLAGS, path)


def _key(told: Object) -> tuple[bool, bytes]:
    return (True, told.id.name()) if told.was is None else (False, told.was)


def _link_max(fd: int) -> int:
    """How many names a file may have beside one that lies aside while a point is applied."""
    try:
        told = os.fpathconf(fd, "PC_LINK_MAX")
    except (OSError, ValueError):
        told = _UNKNOWN_LINKS
    return (_MOST_LINKS if told <= _UNKNOWN_LINKS else told) - 1
