"""What changed, as the kernel named it: ranges of bytes, by inode number."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

Range = tuple[int, int]
"""Bytes: the first, and the one after the last."""
Ranges = tuple[Range, ...]
"""Sorted, apart from each other."""

PAGE = mmap.PAGESIZE
_HUGE = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"
_LARGEST_ORDER = 11
"""MAX_XAS_ORDER (Linux, include/linux/pagemap.h): no folio of a page cache has more than 2**11 pages."""


def merged(ranges: Iterable[Range]) -> Ranges:
    """These ranges, those that touch made one."""
    found: list[Range] = []
    for start, end in sorted(ranges):
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        elif end > start:
            found.append((start, end))
    return tuple(found)


def largest_folio() -> int:
    """Bytes of the largest folio (pages that are kept, and made dirty, as one) that this kernel's page cache makes.

    That of a huge page; where the kernel has none it makes no large folios, and we allow for 2 MiB all the same.
    """
    try:
        with open(_HUGE, encoding="ascii") as file:
            huge = int(file.read())
    except (OSError, ValueError):
        huge = 2 << 20
    return max(PAGE, min(huge, PAGE << _LARGEST_ORDER))


def folio(index: int, largest: int) -> Range:
    """The bytes that a folio may hold whose first page is number `index`; `largest` in bytes.

    The kernel names a folio's first page and not its size. A folio of 2**n pages begins at a multiple of 2**n.
    """
    start = index * PAGE
    reach = (index & -index) * PAGE if index else largest
    return start, start + min(reach, largest)


@dataclass(frozen=True, slots=True)
class Hints:
    """What the kernel named between two drains. Inode numbers only: which object that is, the reader tells
    (`object_id`), since the number may have been given out again.

    `pages`       bytes that may have changed. Every range of `direct` is in it too.
    `direct`      of these, what had only begun when it was named (direct I/O, holes punched, ranges zeroed, tails cut
                  off): read now, it may be as before, and nothing will name it again. It stays a candidate until it was
                  read frozen.
    `structural`  compare the whole file, whatever `pages` has of it: its blocks moved, went or were shared. Begun only,
                  too.
    `lost`        events were lost, and `why` says how: compare everything.
    """

    pages: Mapping[int, Ranges] = field(default_factory=dict)
    direct: Mapping[int, Ranges] = field(default_factory=dict)
    structural: frozenset[int] = frozenset()
    lost: bool = False
    why: str = ""

    def standing(self) -> Hints:
        """What a pass that is not frozen must hand on to the next drain's hints, although it has read it."""
        return Hints(pages=self.direct, direct=self.direct, structural=self.structural)

    def joined(self, later: Hints) -> Hints:
        """These and those of a later drain, as of one."""
        return Hints(
            pages=_joined(self.pages, later.pages),
            direct=_joined(self.direct, later.direct),
            structural=self.structural | later.structural,
            lost=self.lost or later.lost,
            why=self.why or later.why,
        )


def _joined(one: Mapping[int, Ranges], other: Mapping[int, Ranges]) -> dict[int, Ranges]:
    result = dict(one)
    for ino, ranges in other.items():
        before = result.get(ino)
        result[ino] = merged((*before, *ranges)) if before else ranges
    return result
