"""What a session tells whoever runs it, while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from storagemirror.entry import NotKeptKind, brief

FIRST_NAMES = 10
"""How many names of each kind that could not be kept are remembered."""

_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the mirror that is running. `None` totals are not known (yet); they may still grow, as the source does."""

    files_done: int = 0
    """Entries compared, whether or not they had to be sent."""
    files_total: int | None = None
    bytes_done: int = 0
    """Of content: compared equal, or sent."""
    bytes_total: int | None = None
    bytes_per_second: int = 0
    """Of `bytes_done`, over the last few seconds."""
    wire_bytes: int = 0
    """Sent on the wire by this session so far, headers included, before TLS."""


class EventKind(StrEnum):
    """What happened to a session."""

    CONNECTED = "Connected"
    MIRROR_STARTED = "MirrorStarted"
    MIRROR_ENDED = "MirrorEnded"
    """Everything was compared. A target says in `detail` what it could not write first; empty: the copy is whole."""
    MARKED = "Marked"
    """Everything the source did up to `through_ns` is fsynced on the target."""
    HELD = "Held"
    KEPT = "Kept"
    """Restore: what only the target's volume held is kept aside, durably."""
    FAILED_ENTRY = "FailedEntry"
    """One entry could not be written; `detail` says which and why. The next mirror tries it again."""
    SHORT_OF_SPACE = "ShortOfSpace"
    """The source was counted, and does not fit on the target; `detail` says what it takes, and what is there."""
    UNREAD_ENTRY = "UnreadEntry"
    """One entry could not be read on the source; `detail` says which and why. What the target has of it stays."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    kind: EventKind
    detail: str = ""
    through_ns: int | None = None
    instance: int | None = None
    """On a target that let a source in: the source agent's number."""
    hint: str = ""
    """What a person can do about it."""


class Observer(Protocol):
    """Called from the session's own thread; must return soon, and must not raise."""

    def progress(self, progress: Progress) -> None:
        """At most twice a second while a mirror runs, and once at its end."""
        ...

    def not_kept(self, kind: NotKeptKind, path: bytes) -> None:
        """One thing that could not be kept. Never silently skipped; called once for each."""
        ...

    def event(self, event: Event) -> None:
        """Something happened."""
        ...


class SilentObserver:
    """Hears everything and says nothing."""

    def progress(self, progress: Progress) -> None:
        """Nothing."""

    def not_kept(self, kind: NotKeptKind, path: bytes) -> None:
        """Nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class NotKeptCount:
    """How many of one kind could not be kept, and the first names."""

    kind: NotKeptKind
    count: int
    first: tuple[bytes, ...]

    def first_printable(self) -> tuple[str, ...]:
        """The first names, safe to print, and not too long for a report."""
        return tuple(map(brief, self.first))


@dataclass(slots=True)
class NotKeptTally:
    """Counts what could not be kept, by kind. A path that is told twice counts once (of the first 100,000)."""

    _counts: dict[NotKeptKind, int] = field(default_factory=dict)
    _first: dict[NotKeptKind, list[bytes]] = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)

    def add(self, kind: NotKeptKind, path: bytes) -> None:
        """One more of `kind`."""
        mark = hash((kind, path))
        if mark in self._seen:
            return
        if len(self._seen) < _REMEMBERED:
            self._seen.add(mark)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        first = self._first.setdefault(kind, [])
        if len(first) < FIRST_NAMES and path not in first:
            first.append(path)

    def clear(self) -> None:
        """Start anew: a full mirror looks at everything again."""
        self._counts.clear()
        self._first.clear()
        self._seen.clear()

    def counts(self) -> tuple[NotKeptCount, ...]:
        """By kind, in the order of `NotKeptKind`."""
        return tuple(
            NotKeptCount(kind, self._counts[kind], tuple(self._first[kind]))
            for kind in NotKeptKind
            if kind in self._counts
        )
