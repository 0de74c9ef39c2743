"""What a mirror leaves as it is on the target, on purpose: counted, with the first names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from storagemirror.entry import brief

FIRST_NAMES = 10
_REMEMBERED = 100_000


class LeftKind(StrEnum):
    """Why something on the target is not what the source has."""

    NEWER = "Newer"
    """Files that are newer there (`CompareBy.NEWER`)."""
    ORPHAN = "Orphan"
    """Entries that the source does not have."""


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """How many of one kind, and the first names."""

    kind: LeftKind
    count: int
    first: tuple[bytes, ...] = ()

    def first_printable(self) -> tuple[str, ...]:
        """The first names, safe to print, and not too long for a report."""
        return tuple(map(brief, self.first))


@dataclass(slots=True)
class LeftTally:
    """What a source knows of it since the last full comparison began. A path that is told twice counts once (of the
    first 100,000)."""

    newer: int = 0
    orphans: int = 0
    first_newer: list[bytes] = field(default_factory=list)
    first_orphans: tuple[bytes, ...] = ()
    _seen: set[int] = field(default_factory=set)

    def clear(self) -> None:
        """Everything is looked at again."""
        self.newer = self.orphans = 0
        self.first_newer, self.first_orphans = [], ()
        self._seen.clear()

    def is_newer(self, path: bytes) -> None:
        """This file is newer on the target."""
        mark = hash(path)
        if mark in self._seen:
            return
        if len(self._seen) < _REMEMBERED:
            self._seen.add(mark)
        self.newer += 1
        if len(self.first_newer) < FIRST_NAMES:
            self.first_newer.append(path)

    def counts(self) -> tuple[LeftAlone, ...]:
        """By kind; none of what there is none of."""
        found = (
            LeftAlone(LeftKind.NEWER, self.newer, tuple(self.first_newer)),
            LeftAlone(LeftKind.ORPHAN, self.orphans, self.first_orphans),
        )
        return tuple(left for left in found if left.count)
