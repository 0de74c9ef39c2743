"""What lies aside on a volume: counted from what is there, and the record that says so for good.

A directory that was made only to lead to what is kept bears a mark, an extended attribute; it is not counted. One that
was kept for its own attributes bears another mark, and one that was moved none.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from storagemirror.entry import brief, join
from storagemirror.fs import marker as state
from storagemirror.fs.target import TargetVolume
from storagemirror.fs.tree import Tree, names_in

DIVERGED = b"diverged"
FIRST_NAMES = 16
_MARKS = (b"trusted.storagemirror.aside", b"user.storagemirror.aside")
"""The second where we may not set the first. Where neither can be set, directories are not counted."""
PARENT, KEPT = b"parent", b"kept"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Record(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """What was kept of one epoch, all attempts together. `at_ns` is nanoseconds since the Unix epoch."""

    format: int = 1
    epoch: int
    attempt: int
    """The latest that was done."""
    known: bool
    """Each attempt compared with what the copy held when it was promoted."""
    entries: int
    bytes: int
    deleted: int
    first: tuple[str, ...] = ()
    """Printable, at most 16, the topmost alone; of each directory first what is no directory, sorted by name."""
    at_ns: int = 0


@dataclass(slots=True)
class Tally:
    """What lies there."""

    entries: int = 0
    content_bytes: int = 0
    first: list[bytes] = field(default_factory=list)


def read_record(directory: int, epoch: int) -> Record | None:
    """Of this epoch, below our directory `directory`; None when there is none that can be read. OSError."""
    try:
        fd = os.open(DIVERGED, _DIRECTORY, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        data = state.read(fd, record_name(epoch))
    finally:
        os.close(fd)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Record)
    except msgspec.MsgspecError:
        return None


def record_of(volume: TargetVolume, epoch: int) -> Record | None:
    """As `read_record`, of a volume that need not be claimed. Changes nothing."""
    fd = volume.open_state()
    if fd is None:
        return None
    try:
        return read_record(fd, epoch)
    finally:
        os.close(fd)


def record_name(epoch: int) -> bytes:
    """Of the record of an epoch."""
    return b"%d.json" % epoch


def count(tree: Tree) -> Tally:
    """All that lies below `tree`. OSError."""
    tally = Tally()
    seen: set[int] = set()
    for path, found, counts, top in walk(tree):
        if not counts:
            continue
        tally.entries += 1
        if top and len(tally.first) < FIRST_NAMES:
            tally.first.append(path)
        if stat.S_ISREG(found.st_mode) and found.st_ino not in seen:
            tally.content_bytes += found.st_size
            if found.st_nlink > 1:
                seen.add(found.st_ino)
    return tally


def first_names(tally: Tally) -> tuple[str, ...]:
    """As a record tells them."""
    return tuple(map(brief, tally.first))


def walk(tree: Tree) -> Iterator[tuple[bytes, os.stat_result, bool, bool]]:
    """All that lies there, in the order of the walk: path, what it is, whether it counts, and whether nothing above it
    does."""
    stack: list[tuple[bytes, bool]] = [(b"", False)]
    marks = bool(mark_of(tree.root))
    while stack:
        path, below = stack.pop()
        fd = tree.open_directory(path)
        try:
            counts = below or (marks and not is_parent(fd))
            if path or counts:
                yield path, os.fstat(fd), counts, counts and not below
            deeper = []
            for name, _, is_directory in names_in(fd):
                inner = join(path, name)
                if is_directory:
                    deeper.append((inner, counts))
                else:
                    yield inner, os.stat(name, dir_fd=fd, follow_symlinks=False), True, not counts
            stack.extend(reversed(deeper))
        finally:
            os.close(fd)


def mark(fd: int, value: bytes) -> None:
    """Set it, where that can be done."""
    for name in _MARKS:
        with contextlib.suppress(OSError):
            os.setxattr(fd, name, value)
            return


def mark_of(fd: int) -> bytes:
    """Empty where there is none, as of a directory that was moved."""
    for name in _MARKS:
        with contextlib.suppress(OSError):
            return os.getxattr(fd, name)
    return b""


def is_parent(fd: int) -> bool:
    """Whether the directory `fd` only leads to what is kept."""
    return mark_of(fd) == PARENT
