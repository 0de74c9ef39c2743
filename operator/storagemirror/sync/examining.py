"""What is at a path, content and all: the last word on whether two sides differ there, the same code on both."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from storagemirror.entry import Entry, split
from storagemirror.errors import BadInput
from storagemirror.fs import xattrs
from storagemirror.fs.scan import ignore, read_attributes
from storagemirror.sync.sums import Summer
from storagemirror.wire.messages import Seen

DIRECTORY = bytes(16)
"""The content of a directory that can be read."""


def examine(summer: Summer, paths: list[bytes], stop: Callable[[], bool] = lambda: False) -> list[Seen | None]:
    """One for each path; None where nothing is, or nothing that the view shows. `stop`: nobody wants it any more."""
    return [None if stop() else look(summer, path, stop) for path in paths]


def look(summer: Summer, path: bytes, stop: Callable[[], bool] = lambda: False) -> Seen | None:
    """One path. A file is read whole."""
    directory, name = split(path)
    scanner = summer.scanner
    try:
        above = scanner.tree.open_directory(directory)
    except (OSError, BadInput):
        return None
    try:
        entry = scanner.look(above, directory, name) if name else Entry(b".", stat.S_IFDIR)
        if entry is None:
            return None
        if stat.S_ISDIR(entry.mode):
            return _directory(summer, path, entry)
    except OSError:
        return None
    finally:
        os.close(above)
    if not stat.S_ISREG(entry.mode):
        return Seen(entry)
    for found in summer.sum(path):
        if stop():
            return None
        if found is not None:
            return Seen(found.entry, found.content, found.steady)
    return Seen(entry)


def _directory(summer: Summer, path: bytes, entry: Entry) -> Seen:
    """With the attributes of its own."""
    view = summer.scanner.view
    try:
        fd = summer.scanner.tree.open_directory(path)
    except OSError:
        return Seen(entry)
    try:
        own = read_attributes(fd, view, ignore, path)
    finally:
        os.close(fd)
    uid, gid = (own.uid, own.gid) if view.owner else (0, 0)
    mtime = own.mtime_ns - own.mtime_ns % view.time_grain_ns
    return Seen(Entry(entry.name, own.mode, uid, gid, 0, mtime, xattrs=xattrs.digest(own.xattrs)), DIRECTORY)
