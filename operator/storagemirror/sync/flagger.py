"""Inode flags and project ids, on the target: set as told, and what cannot be had is noted as lacking."""

from __future__ import annotations

import os
from collections.abc import Callable

from storagemirror.entry import NotKeptKind, split
from storagemirror.errors import VolumeFull
from storagemirror.fs.inodeflags import open_any, set_flags, set_project
from storagemirror.fs.shortfall import Lack
from storagemirror.fs.target import TargetVolume
from storagemirror.wire import messages as m

_GONE = (FileNotFoundError, NotADirectoryError)


def set_all(
    volume: TargetVolume,
    message: m.Flags,
    report: Callable[[NotKeptKind, bytes], None],
    fail: Callable[[bytes, Exception], None],
) -> None:
    """Entries of one directory follow each other mostly: it is opened once."""
    fd, opened = -1, b""
    try:
        for entry in message.entries:
            directory, name = split(entry.path)
            try:
                if fd < 0 or directory != opened:
                    if fd >= 0:
                        os.close(fd)
                        fd = -1
                    fd, opened = volume.directory(directory), directory
                _set_one(volume, fd, name, entry, report)
            except _GONE:
                continue  # it could not be written, or was removed since: that was told of
            except (OSError, VolumeFull) as e:
                fail(entry.path, e)
    finally:
        if fd >= 0:
            os.close(fd)


def _set_one(
    volume: TargetVolume, fd: int, name: bytes, entry: m.InodeFlags, report: Callable[[NotKeptKind, bytes], None]
) -> None:
    volume.locks.forget(entry.path)
    inner = open_any(fd, name or b".")
    try:
        kinds = []
        # The project first: an immutable file keeps the one it has.
        if not set_project(inner, entry.project):
            volume.locks.unlock(inner, entry.path)
            volume.locks.forget(entry.path)
            if not set_project(inner, entry.project):
                kinds.append(NotKeptKind.PROJECT)
        if not set_flags(inner, entry.flags):
            kinds.append(NotKeptKind.FLAGS)
    finally:
        os.close(inner)
    for kind in kinds:
        report(kind, entry.path)
    lacks = volume.shortfall
    lacks.note(lacks.flags, entry.path, Lack(tuple(kinds), b"") if kinds else None)
