"""Files that were kept aside and still have a name outside get a content of their own.

That such a name stayed means that the file is as it was, and only the kept name is new. Yet it must keep what it shows
now: the name that stayed is written again, in place by an application, its attributes by a mirror.

All copies are made first, under temporary names, then synced at once, then put in place: a crash leaves each name with
all of its content. Kept names of one file are those of one copy. Where there is no room nothing is done.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

from storagemirror.entry import View, split
from storagemirror.fs.place import raise_if_full
from storagemirror.fs.scan import ignore, read_attributes
from storagemirror.fs.source import data_extents
from storagemirror.fs.syscalls import syncfs
from storagemirror.fs.target import TargetVolume
from storagemirror.fs.tree import Tree

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def shared(found: Iterator[tuple[bytes, os.stat_result]]) -> list[list[bytes]]:
    """Of all kept entries those files that have a name outside: the kept paths of each."""
    paths: dict[int, list[bytes]] = {}
    names: dict[int, int] = {}
    for path, entry in found:
        if stat.S_ISREG(entry.st_mode) and entry.st_nlink > 1:
            paths.setdefault(entry.st_ino, []).append(path)
            names[entry.st_ino] = entry.st_nlink
    return [kept for inode, kept in paths.items() if len(kept) < names[inode]]


def unshare(volume: TargetVolume, aside: Tree, groups: list[list[bytes]]) -> None:
    """Give each group of paths below `aside` a file of their own. `VolumeFull`: nothing was changed. OSError."""
    made: list[bytes] = []
    try:
        for number, paths in enumerate(groups):
            name = b"copy.%d" % number
            made.append(name)
            _copy(volume, aside, paths[0], name)
        syncfs(volume.tree.root)
        for name, paths in zip(made, groups, strict=True):
            for path in paths:
                _put(volume, aside, name, path)
    except OSError as e:
        raise_if_full(e)
        raise
    finally:
        for name in made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=volume.temporary)


def _copy(volume: TargetVolume, aside: Tree, path: bytes, name: bytes) -> None:
    """With its holes, and with all its attributes."""
    directory, own = split(path)
    fd = aside.open_directory(directory)
    try:
        source = os.open(own, _READ, dir_fd=fd)
    finally:
        os.close(fd)
    try:
        target = os.open(name, _CREATE, 0o600, dir_fd=volume.temporary)
        try:
            size = os.fstat(source).st_size
            for begin, end in data_extents(source, size):
                _copy_piece(source, target, begin, end)
            os.ftruncate(target, size)
            volume.placer.finish_file(target, read_attributes(source, View(), ignore, path), path)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_piece(source: int, target: int, begin: int, end: int) -> None:
    at = begin
    while at < end:
        try:
            count = os.copy_file_range(source, target, end - at, at, at)
        except OSError as e:
            if e.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.EPERM):
                raise
            count = os.pwrite(target, os.pread(source, min(end - at, 1 << 20), at), at)
        if count == 0:
            return
        at += count


def _put(volume: TargetVolume, aside: Tree, name: bytes, path: bytes) -> None:
    """`path` becomes a name of the copy, in one step; the directory keeps its time."""
    directory, own = split(path)
    fd = aside.open_directory(directory)
    try:
        before = os.fstat(fd)
        volume.placer.link(volume.temporary, name, fd, own)
        os.utime(fd, ns=(before.st_atime_ns, before.st_mtime_ns))
    finally:
        os.close(fd)
