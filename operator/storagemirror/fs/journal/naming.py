"""Names: steps Hold, Place and Finish of a committed point, by its plan. Each may be done again from its beginning.

Files lie aside under their id until the point is at its end, and get their names as links. A directory cannot have two
names: it is moved aside, and from there to its place; so where nothing lies aside any more it is in its place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from functools import partial

from storagemirror.entry import NotKeptKind, join, split
from storagemirror.fs.inodeflags import get_flags, open_any, set_flags, set_project
from storagemirror.fs.journal.plan import OURS, Directory, Locked, names_of
from storagemirror.fs.journal.segments import Reader
from storagemirror.fs.journal.volume import Volume
from storagemirror.fs.journal.work import Work
from storagemirror.point import Name, Object, RecordKind, read_object


def hold(volume: Volume, work: Work, directories: list[Directory]) -> None:
    """Step Hold: those that move go aside, so that no place is taken and none leads to them. OSError."""
    others = volume.others()
    moving = [(told.was, told.id.name()) for told in directories if told.moves and told.was is not None]
    for was, aside in sorted(moving, key=lambda move: move[0].count(b"/"), reverse=True):
        if _exists(work.stage, aside):
            continue
        above, name = split(was)
        fd = volume.tree.open_directory(above)
        others.touch(was)
        try:
            volume.unlocking(was, partial(_rename, fd, name, work.stage, aside))
        finally:
            os.close(fd)


class Namer:
    """Step Place."""

    def __init__(self, volume: Volume, work: Work, reader: Reader) -> None:
        self._volume = volume
        self._work = work
        self._reader = reader
        self._others = volume.others()

    def place(self, told: Directory) -> None:
        """The names of one directory, whose own name is placed. OSError."""
        if told.names_at < 0:
            return
        fd = self._volume.tree.open_directory(told.path)
        try:
            wanted: dict[bytes, Name] = {}
            kept = set(told.left)
            for name in names_of(self._reader, told.names_at):
                if name.kept:
                    kept.add(name.name)
                else:
                    wanted[name.name] = name
            self._make_way(fd, told, wanted, kept)
            for name in wanted.values():
                self._give(fd, told, name)
        finally:
            os.close(fd)

    def _make_way(self, fd: int, told: Directory, wanted: dict[bytes, Name], kept: set[bytes]) -> None:
        """What is there and is not to be: directories aside, all else unlinked. `wanted` loses what is right."""
        with os.scandir(b"/proc/self/fd/%d" % fd) as found:
            present = [(e.name, e.inode(), e.is_dir(follow_symlinks=False)) for e in found]
        for name, inode, is_directory in present:
            if name in kept or (not told.path and name in OURS):
                continue
            if name in wanted and self._is_right(wanted[name], inode):
                del wanted[name]
                continue
            path = join(told.path, name)
            self._others.touch(path)
            if is_directory:
                away = b"%x" % inode
                self._volume.unlocking(path, partial(_rename, fd, name, self._work.gone, away))
            else:
                self._volume.unlocking(path, partial(os.unlink, name, dir_fd=fd))

    def _is_right(self, wanted: Name, inode: int) -> bool:
        source = self._work.source_of(wanted.id.name())
        if source is None:
            return True  # a directory that was put here before; of all else something lies aside
        return source[1].st_ino == inode

    def _give(self, fd: int, told: Directory, name: Name) -> None:
        aside = name.id.name()
        source = self._work.source_of(aside)
        if source is None:
            raise FileNotFoundError(
                errno.ENOENT, "what gets this name is not there any more", join(told.path, name.name)
            )
        directory, found = source
        path = join(told.path, name.name)
        self._others.touch(path)
        if stat.S_ISDIR(found.st_mode):
            self._volume.unlocking(path, partial(_rename, directory, aside, fd, name.name))
        else:
            self._volume.unlocking(
                path,
                lambda: os.link(aside, name.name, src_dir_fd=directory, dst_dir_fd=fd, follow_symlinks=False),
            )


def finish(volume: Volume, reader: Reader, directories: list[Directory], locked: list[Locked]) -> None:
    """Step Finish, once nothing lies aside: attributes of directories, those below first; then what locks. OSError."""
    for told in reversed(directories):
        fd = volume.tree.open_directory(told.path)
        volume.others().touch(told.path)
        try:
            record = reader.at(told.object_at)
            if record is None or record.kind != RecordKind.OBJECT:
                raise OSError(errno.EIO, "the journal cannot be read any more")
            told_of = read_object(record.payload)
            volume.unlocking(told.path, partial(_leave, volume, fd, told_of, told.path))
        finally:
            os.close(fd)
    for lock in locked:
        _lock(volume, lock)


def _leave(volume: Volume, fd: int, told: Object, path: bytes) -> None:
    if told.project is not None and not set_project(fd, told.project):
        volume.report(NotKeptKind.PROJECT, path)
    volume.placer.leave(fd, path, told.attributes, fresh=False)
    if told.flags is not None and (told.flags or get_flags(fd)):
        _set_flags(volume, fd, told.flags, path)


def _lock(volume: Volume, lock: Locked) -> None:
    above, name = split(lock.path)
    fd = volume.tree.open_directory(above)
    try:
        volume.others().touch(lock.path)
        with contextlib.suppress(FileNotFoundError):
            inner = open_any(fd, name)
            try:
                _set_flags(volume, inner, lock.flags, lock.path)
            finally:
                os.close(inner)
    finally:
        os.close(fd)


def _set_flags(volume: Volume, fd: int, flags: int, path: bytes) -> None:
    volume.locks.forget(path)
    if not set_flags(fd, flags):
        volume.report(NotKeptKind.FLAGS, path)


def _rename(old_directory: int, old: bytes, new_directory: int, new: bytes) -> None:
    os.rename(old, new, src_dir_fd=old_directory, dst_dir_fd=new_directory)


def _exists(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
