"""What a directory held at a frozen moment, and what of it changed until the next: the truth that hints are held to."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from storagemirror.fs.objectid import object_id
from storagemirror.fs.trace import Placed, Ranges, Seen, moved, placed

P = 4096


@dataclass(frozen=True)
class File:
    """One file at that moment."""

    name: str
    seen: Seen
    placed: Placed | None
    content: bytes


@dataclass(frozen=True)
class Change:
    """A file that is there at the later moment: as it was, as it is, and which of its pages differ (all of them, where
    there was none of that inode number)."""

    name: str
    before: Seen | None
    now: Seen
    pages: frozenset[int]
    elsewhere: Ranges | None
    """What does not lie where it lay; None where that is not known."""

    def outside(self, ranges: Ranges | None) -> frozenset[int]:
        """The pages that differ and lie outside (`None` is everything)."""
        if ranges is None:
            return frozenset()
        return frozenset(
            page for page in self.pages if not any(start // P <= page < -(-end // P) for start, end in ranges)
        )


def look(directory: Path) -> dict[int, File]:
    """Every regular file, by inode number. To be called while frozen."""
    found = {}
    for base, _, names in os.walk(directory):
        for name in names:
            path = Path(base) / name
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                facts = os.fstat(fd)
                content = b"".join(iter(lambda fd=fd: os.read(fd, 1 << 20), b""))  # type: ignore[misc]
                seen = Seen(object_id(fd), facts.st_size, facts.st_ctime_ns)
                where = placed(fd)
            finally:
                os.close(fd)
            found[facts.st_ino] = File(str(path.relative_to(directory)), seen, where, content)
    return found


def pages_that_differ(one: bytes, other: bytes | bytearray) -> list[int]:
    """Of those that `one` has."""
    return [at // P for at in range(0, len(one), P) if one[at : at + P] != other[at : at + P]]


def changes(before: dict[int, File], now: dict[int, File]) -> list[Change]:
    """Of every file that is there now."""
    found = []
    for ino, file in now.items():
        old = before.get(ino)
        if old is not None:
            pages = pages_that_differ(file.content, old.content)
        else:
            pages = list(range(-(-len(file.content) // P)))
        elsewhere = None
        if old is not None and old.placed is not None and file.placed is not None:
            elsewhere = moved(old.placed, file.placed)
        found.append(Change(file.name, old.seen if old else None, file.seen, frozenset(pages), elsewhere))
    return found
