"""What a target answers when it is asked what it has."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from storagemirror.entry import Entry, split
from storagemirror.fs.scan import Scanner, attributes_digest
from storagemirror.wire import messages as m

_ENTRIES = 5_000
_BYTES = 1 << 20


def listing(scanner: Scanner, path: bytes) -> Iterator[m.Listing]:
    """The directory at `path`, in as many frames as it needs."""
    try:
        found = scanner.scan(path)
    except OSError:
        yield m.Listing(path, None, [])
        return
    batch: list[Entry] = []
    size = 0
    for entry in found.entries:
        weight = len(entry.name) + len(entry.content) + len(entry.leader) + 80
        if batch and (len(batch) >= _ENTRIES or size + weight > _BYTES):
            yield m.Listing(path, found.attributes, batch, last=False)
            batch, size = [], 0
        batch.append(entry)
        size += weight
    yield m.Listing(path, found.attributes, batch)


def looked(scanner: Scanner, paths: list[bytes]) -> m.Looked:
    """What is at each of `paths`."""
    entries: list[Entry | None] = []
    attributes: list[bytes] = []
    for path in paths:
        entry, digest = _look(scanner, path)
        entries.append(entry)
        attributes.append(digest)
    return m.Looked(entries, attributes)


def _look(scanner: Scanner, path: bytes) -> tuple[Entry | None, bytes]:
    directory, name = split(path)
    try:
        fd = scanner.tree.open_directory(directory)
    except OSError:
        return None, b""
    try:
        if not name:
            return Entry(b".", stat.S_IFDIR), attributes_digest(fd, scanner.view)
        entry = scanner.look(fd, directory, name)
        if entry is None or not stat.S_ISDIR(entry.mode):
            return entry, b""
    except OSError:
        return None, b""
    finally:
        os.close(fd)
    try:
        fd = scanner.tree.open_directory(path)
    except OSError:
        return None, b""
    try:
        return entry, attributes_digest(fd, scanner.view)
    finally:
        os.close(fd)
