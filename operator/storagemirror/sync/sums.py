"""What both sides compute of a file, each on its own volume, to prove that they hold the same.

A file's *sum* is the xxh3_128 of the MessagePack array of

    path, mode, uid, gid, size, modification time, digest of the extended attributes, digest of the content

as the session's view sees them (owner left out where the target cannot keep it, times rounded to its grain). The
digest of the content is the xxh3_128 over each piece of 1 MiB that is not all zeros, preceded by its offset as 8 bytes,
little-endian: so it does not matter where a file system keeps holes.

The *total* is the xxh3_128 over the sums, in the order in which the source let them count.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import msgspec
from xxhash import xxh3_128, xxh3_128_digest

from storagemirror.entry import Entry, View, split
from storagemirror.fs.reading import Reading
from storagemirror.fs.scan import Leaders, Scanner, ignore
from storagemirror.fs.source import data_extents, unchanged
from storagemirror.fs.tree import Tree
from storagemirror.wire.content import ContentDigest

PIECE = 1 << 20
_ZEROS = bytes(PIECE)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_encode = msgspec.msgpack.Encoder().encode


class _NoLeaders(Leaders):
    """Names are looked at one by one here: each as if it were its file's only one."""

    def leader(self, inode: int, path: bytes) -> bytes:
        return b""


class Sum(msgspec.Struct, frozen=True):
    """Of one regular file."""

    digest: bytes
    size: int
    """Bytes of content."""
    found: os.stat_result
    """As it was when its content had been read."""
    steady: bool
    """Nothing about it changed meanwhile."""
    entry: Entry
    """As it is compared, without a leader."""
    content: bytes
    """Digest of the content alone."""


class Summer:
    """Reads files of one volume, a piece at a time."""

    def __init__(self, tree: Tree, view: View, reading: Reading | None = None) -> None:
        self.scanner = self._scanner = Scanner(tree, view, ignore, _NoLeaders())
        self._buffer = bytearray(PIECE)
        self._reading = reading if reading is not None else Reading()

    def sum(self, path: bytes) -> Iterator[Sum | None]:
        """None after each piece that was read; the sum at last. Nothing at all: no regular file is there, or it cannot
        be read."""
        directory, name = split(path)
        try:
            above = self._scanner.tree.open_directory(directory)
        except OSError:
            return
        try:
            fd = _open(above, name)
            try:
                yield from self._one(above, fd, path)
            finally:
                os.close(fd)
        except OSError:
            return
        finally:
            os.close(above)

    def _one(self, above: int, fd: int, path: bytes) -> Iterator[Sum | None]:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode) or before.st_dev != self._scanner.tree.device:
            return
        content = ContentDigest()
        footprint = self._reading.large(fd, before.st_size)
        try:
            for offset in _pieces(fd, before.st_size):
                footprint.ahead(offset, min(PIECE, before.st_size - offset))
                count = self._read(fd, offset, before.st_size)
                footprint.read(min(offset + PIECE, before.st_size))
                if count:
                    content.add(offset, memoryview(self._buffer)[:count])
                yield None
        finally:
            footprint.end()
        directory, name = split(path)
        entry = self._scanner.look(above, directory, name)
        found = os.fstat(fd)
        if entry is None or not stat.S_ISREG(entry.mode):
            return
        read = content.digest()
        facts = (path, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime_ns, entry.xattrs, read)
        # The name may be another file's by now: then what was read is not what is there.
        steady = unchanged(before, found) and _same_name(above, name, found)
        yield Sum(xxh3_128_digest(_encode(facts)), before.st_size, found, steady, entry, read)

    def _read(self, fd: int, offset: int, size: int) -> int:
        """Fill the buffer; how much counts: 0 where all is zeros."""
        want = min(PIECE, size - offset)
        view = memoryview(self._buffer)
        got = 0
        while got < want and (count := os.preadv(fd, [view[got:want]], offset + got)):
            got += count
        if self._buffer[0] == 0 and (self._buffer == _ZEROS if got == PIECE else not any(view[:got])):
            return 0
        return got


class Total:
    """The sums that count, in their order."""

    def __init__(self) -> None:
        self._hash = xxh3_128()
        self.files = 0

    def add(self, digest: bytes) -> None:
        """One more."""
        self._hash.update(digest)
        self.files += 1

    def digest(self) -> bytes:
        """16 bytes."""
        return self._hash.digest()


def _open(directory: int, name: bytes) -> int:
    try:
        return os.open(name, _READ | os.O_NOATIME, dir_fd=directory)
    except PermissionError:  # only the owner and root may ask for that
        return os.open(name, _READ, dir_fd=directory)


def _same_name(directory: int, name: bytes, found: os.stat_result) -> bool:
    try:
        now = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    return (now.st_ino, now.st_dev) == (found.st_ino, found.st_dev)


def _pieces(fd: int, size: int) -> Iterator[int]:
    """Offsets of the pieces that hold data."""
    done = 0
    for begin, end in data_extents(fd, size):
        offset = max(done, begin - begin % PIECE)
        while offset < end:
            yield offset
            offset += PIECE
        done = offset
