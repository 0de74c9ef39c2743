"""Where hints of what changed come from.

A hint says where to look, never what is. Two kinds of it come together here: names, from inotify, and pages, from the
kernel's trace where that is to be had. Neither replaces a look at the ctime of what it names: that is what tells
whether an object changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from storagemirror import contract
from storagemirror.fs.trace import hints
from storagemirror.sync.changes import WHOLE_TREE, covering
from storagemirror.sync.watch import TreeWatch

Ranges = list[tuple[int, int]]
"""Begin and end of stretches of bytes, ascending, none touching the next."""


@dataclass(slots=True)
class Hints:
    """What may have changed. Whatever is not named here did not, as far as the capture promises."""

    names: set[bytes] = field(default_factory=set)
    """Paths: something happened to what is there, was there, or is there by now."""
    trees: set[bytes] = field(default_factory=set)
    """Directories of which everything below is looked at; `b""` is the whole volume."""
    pages: dict[int, Ranges] = field(default_factory=dict)
    """By inode number: bytes that may have been written."""
    standing: dict[int, Ranges | None] = field(default_factory=dict)
    """By inode number: bytes of which something had only begun when it was named (direct I/O, holes); None: any. Read
    now, they may be as before, and nothing names them again: they are read once more while frozen. All of it is in
    `pages` or `whole`, too."""
    whole: set[int] = field(default_factory=set)
    """Inode numbers of which pages do not say what changed: compared as a whole."""
    lost: bool = False
    """Hints were lost: everything is looked at, and what changed is compared as a whole."""

    def __len__(self) -> int:
        return len(self.names) + len(self.trees) + len(self.pages) + len(self.whole)

    def add(self, other: Hints) -> None:
        """What came later."""
        self.names |= other.names
        self.trees |= other.trees
        self.whole |= other.whole
        self.lost = self.lost or other.lost
        for inode, ranges in other.pages.items():
            self.pages[inode] = merged([*self.pages.get(inode, ()), *ranges])
        for inode, begun in other.standing.items():
            self.standing[inode] = joined(self.standing.get(inode, []), begun)


class Capture(Protocol):
    """How changes of the source are seen. For one thread."""

    @property
    def mode(self) -> contract.Capture:
        """For the status."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not a better one, and what to do about it; may be empty."""
        ...

    @property
    def names_pages(self) -> bool:
        """Whether every write is named by its pages, those through a memory map or libaio too. Else the ctimes of all
        objects are the only witness of these."""
        ...

    @property
    def names_structure(self) -> bool:
        """False: pages are named, and holes, clones and truncation are not: where a file's blocks lie tells of them."""
        ...

    @property
    def broken(self) -> bool:
        """Whether a change was found that should have been named and was not: whatever was read by pages is doubtful.
        Once true it stays so."""
        ...

    def compared(self, named: int, missed: int) -> None:
        """A file was compared as a whole: so many of its changes had been named, so many had not."""
        ...

    def drain(self, *, frozen: bool = False) -> Hints:
        """What came since the last call; waits for nothing. Once the volume is `frozen`, a drain gives all hints of
        what was done before. `VolumeError` when the volume is no longer there."""
        ...


class WatchCapture:
    """inotify alone. Sees names, and no write through a memory map or by libaio before the file is closed."""

    def __init__(self, watch: TreeWatch) -> None:
        """`watch` stays the caller's."""
        self._watch = watch

    @property
    def mode(self) -> contract.Capture:
        """See `Capture`."""
        return self._watch.capture

    @property
    def reason(self) -> str:
        """See `Capture`."""
        return self._watch.reason

    @property
    def names_pages(self) -> bool:
        """See `Capture`."""
        return False

    @property
    def names_structure(self) -> bool:
        """See `Capture`."""
        return True

    @property
    def broken(self) -> bool:
        """See `Capture`."""
        return False

    def compared(self, named: int, missed: int) -> None:
        """See `Capture`."""

    def drain(self, *, frozen: bool = False) -> Hints:
        """See `Capture`. Without watches everything is looked at each time."""
        drained = self._watch.drain(0.0, at_once=True)
        if self._watch.capture is contract.Capture.SCAN or drained.whole:
            return Hints(trees=set(WHOLE_TREE))
        return Hints(names=set(drained.paths), trees=covering(set(drained.trees)))


def joined(one: Ranges | None, other: Ranges | None) -> Ranges | None:
    """Both; None is anything."""
    return None if one is None or other is None else merged([*one, *other])


def outside(begin: int, end: int, ranges: Ranges) -> Ranges:
    """What of these bytes is in none of `ranges`."""
    found: Ranges = []
    for low, high in ranges:
        if low >= end:
            break
        if high > begin:
            if low > begin:
                found.append((begin, low))
            begin = high
    return [*found, (begin, end)] if begin < end else found


def merged(ranges: Ranges) -> Ranges:
    """Sorted, and those that touch or overlap made one."""
    return list(hints.merged(ranges))
