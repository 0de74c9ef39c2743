"""What must be read of a file, by what is known of it before and now, and by what was named between.

Hints add to the file's own record, they never replace it: what is not named (on btrfs holes, clones and truncation;
inline data) changes ctime.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from storagemirror.fs.trace.hints import PAGE, Hints, Ranges, merged

_TICK_NS = 20_000_000
"""Longer than a tick of any kernel's clock (10 ms at CONFIG_HZ=100)."""
_FINE = (6, 13)
"""Linux 6.13: a ctime that somebody has looked at moves with the very next change (multigrain timestamps; ext4, XFS,
btrfs, tmpfs)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was seen at a point. `object` is `object_id`'s; bytes; nanoseconds. `settled`: whether any later
    change moves the ctime (see `settled`)."""

    object: tuple[int, int]
    size: int
    ctime_ns: int
    settled: bool = True


def settled(ctime_ns: int, looked_ns: int, release: str | None = None) -> bool:
    """Whether a change after `looked_ns` (nanoseconds, CLOCK_REALTIME) moves a ctime that was this when looked at.

    Before Linux 6.13 the clock of ctime moves in ticks: what changed in the tick of the look, after it, shows nothing.
    `release` is the kernel's, as of uname(2).
    """
    version = re.match(r"(\d+)\.(\d+)", release or os.uname().release)
    if version is not None and (int(version[1]), int(version[2])) >= _FINE:
        return True
    return looked_ns - ctime_ns > _TICK_NS


WHOLE = None
"""Compare all of it."""


def candidates(
    hints: Hints, before: Seen | None, now: Seen, *, names_structure: bool, elsewhere: Ranges | None = None
) -> Ranges | None:
    """The bytes of a regular file that may differ from the last point; `WHOLE` where that may be any.

    `before` is the file at the last point (None: it was not there); `hints` are all since then, with what stood over
    from passes that were not frozen. Where structure is not named, `elsewhere` stands in for it: what lies elsewhere
    than at the last point (`placed.moved`); None where that is not known.
    """
    if hints.lost or before is None or before.object != now.object:
        return WHOLE
    ino = now.object[0]
    if ino in hints.structural or now.size < before.size:
        return WHOLE
    named = hints.pages.get(ino, ())
    if elsewhere:
        named = merged((*named, *elsewhere))
    changed = now.ctime_ns != before.ctime_ns or not before.settled
    if changed and not (named and (names_structure or elsewhere is not None)):
        return WHOLE
    if now.size > before.size:  # the page that the old end was in, too
        named = merged((*named, (before.size // PAGE * PAGE, now.size)))
    return tuple((start, min(end, now.size)) for start, end in named if start < now.size)
