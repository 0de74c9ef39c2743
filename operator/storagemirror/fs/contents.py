"""What a file, or a directory with all that is in it, holds: digests by which two sides find out that it is the same.

A file's digest is the xxh3_128 over the sums of its blocks (`storagemirror.fs.blocks`), taken together, and its size: 8
bytes, little-endian. A directory's is the xxh3_128 over each directory below it, itself included, in the order of the
walk: the path from it, the digest by which directories are compared (`storagemirror.fs.scan`: names, attributes,
types), and the digest of each of its files. So all of it is read.

A file with further names has no digest: what becomes of its other names cannot be told.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from xxhash import xxh3_128, xxh3_128_digest

from storagemirror.entry import join
from storagemirror.fs.blocks import digest_of_sums
from storagemirror.fs.scan import Leaders, Scanner
from storagemirror.fs.source import unchanged

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
Seen = Callable[[bytes, int], None]


def nothing(path: bytes, fd: int) -> None:
    """Nobody needs to see what is open."""


def file_digest(directory: int, path: bytes, name: bytes, seen: Seen = nothing) -> bytes:
    """Of the file `name` in the open `directory`. OSError, also when it is no regular file, has further names, or
    changes meanwhile. `seen` is called with its path and descriptor."""
    try:
        fd = os.open(name, _READ | os.O_NOATIME, dir_fd=directory)
    except PermissionError:  # only the owner and root may ask for that
        fd = os.open(name, _READ, dir_fd=directory)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise OSError(errno.EMLINK, "no regular file with one name", path)
        digest = xxh3_128_digest(digest_of_sums(fd, found.st_size) + found.st_size.to_bytes(8, "little"))
        if not unchanged(found, os.fstat(fd)):
            raise OSError(errno.EAGAIN, "it changed while it was read", path)
        seen(path, fd)
        return digest
    finally:
        os.close(fd)


def tree_digest(scanner: Scanner, top: bytes, seen: Seen = nothing) -> bytes:
    """Of the directory `top`. OSError as `file_digest`, or where a directory cannot be read; `BadInput` where a path is
    too long."""
    scanner.leaders = Leaders()
    total = xxh3_128()
    pending = [b""]
    while pending:
        below = pending.pop()
        path = join(top, below) if below else top
        scanned = scanner.scan(path)
        if scanned.hidden:
            raise OSError(errno.EXDEV, "another file system is mounted in it", path)
        total.update(len(below).to_bytes(4, "little") + below + scanned.digest)
        directory = scanner.tree.open_directory(path)
        try:
            for entry in scanned.entries:
                if stat.S_ISREG(entry.mode):
                    total.update(file_digest(directory, join(path, entry.name), entry.name, seen))
        finally:
            os.close(directory)
        pending.extend(join(below, name) for name in reversed(scanned.subdirectories))
    return total.digest()
