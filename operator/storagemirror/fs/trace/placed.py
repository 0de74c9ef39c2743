"""Where a file's blocks lie, then and now: how btrfs shows what no event of it names.

btrfs writes nothing in place. Whoever punches a hole, clones or truncates leaves other blocks behind (or none), and so
does every write. What lies where it lay, and was not named as written, is as it was.

One exception is left to the comparison that looks at everything: blocks that were freed, written by another file and
cloned back to the very same place of this one, all between two looks.
"""

from __future__ import annotations

from storagemirror.fs.fiemap import DELALLOC, ENCODED, INLINE, NOT_ALIGNED, UNKNOWN, UNWRITTEN, extents
from storagemirror.fs.inodeflags import NOCOW, get_flags
from storagemirror.fs.trace.hints import Range, Ranges, merged

Run = tuple[int, int, int, int]
"""In the file: first byte, byte after the last. On the device: how much further. Flags that matter."""
Placed = tuple[Run, ...]

_VAGUE = UNKNOWN | DELALLOC | ENCODED | NOT_ALIGNED | INLINE
"""With one of these the place does not tell the content: of a compressed extent only its beginning is told."""
_MOST = 262_144
"""Runs of one file; more are not kept."""


def placed(fd: int) -> Placed | None:
    """Of a file of btrfs, now. None where its blocks tell nothing: it is written in place (`chattr +C`, nodatacow), or
    in too many pieces. OSError."""
    if get_flags(fd) & NOCOW:
        return None
    runs: list[Run] = []
    for logical, physical, length, flags in extents(fd, batch=512):
        end, shift, kind = logical + length, physical - logical, flags & (_VAGUE | UNWRITTEN)
        if runs and runs[-1][1:] == (logical, shift, kind):  # how it is cut into extents is of no interest
            runs[-1] = (runs[-1][0], end, shift, kind)
        else:
            runs.append((logical, end, shift, kind))
        if len(runs) > _MOST:
            return None
    return tuple(runs)


def moved(before: Placed, now: Placed) -> Ranges:
    """The bytes that do not lie where they lay, or whose place does not tell."""
    here = set(before) & set(now)
    same = [(run[0], run[1]) for run in here if not run[3] & _VAGUE]
    old = [run for run in before if run not in here]
    new = [run for run in now if run not in here]
    at = to = 0
    while at < len(old) and to < len(new):
        one, other = old[at], new[to]
        start, end = max(one[0], other[0]), min(one[1], other[1])
        if start < end and one[2:] == other[2:] and not one[3] & _VAGUE:
            same.append((start, end))
        if one[1] <= other[1]:
            at += 1
        if other[1] <= one[1]:
            to += 1
    return _without(merged((run[0], run[1]) for run in (*before, *now)), merged(same))


def _without(ranges: Ranges, others: Ranges) -> Ranges:
    """Those bytes of `ranges` that are not in `others`, each of which lies in one of `ranges`."""
    found: list[Range] = []
    at = 0
    for start, end in ranges:
        left = start
        while at < len(others) and others[at][1] <= end:
            if left < others[at][0]:
                found.append((left, others[at][0]))
            left = others[at][1]
            at += 1
        if left < end:
            found.append((left, end))
    return tuple(found)
