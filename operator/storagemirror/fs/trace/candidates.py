"""What must be read of a file, by what is known of it before and now, and by what was named between.

Hints add to the file's own record, they never replace it: what is not named (on btrfs holes, clones and truncation;
inline data) changes ctime.
"""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.fs.trace.hints import PAGE, Hints, Ranges, merged


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was seen at a point. `object` is `object_id`'s; bytes; nanoseconds."""

    object: tuple[int, int]
    size: int
    ctime_ns: int


WHOLE = None
"""Compare all of it."""


def candidates(hints: Hints, before: Seen | None, now: Seen, *, names_structure: bool) -> Ranges | None:
    """The bytes of a regular file that may differ from the last point; `WHOLE` where that may be any.

    `before` is the file at the last point (None: it was not there); `hints` are all since then, with what stood over
    from passes that were not frozen. Sound for what was seen while frozen, and since Linux 6.13, whose ctime moves with
    each change that somebody looked at; before that a change within a tick of the last look can leave it as it was.
    """
    if hints.lost or before is None or before.object != now.object:
        return WHOLE
    ino = now.object[0]
    if ino in hints.structural or now.size < before.size:
        return WHOLE
    named = hints.pages.get(ino, ())
    if now.ctime_ns != before.ctime_ns and not (named and names_structure):
        return WHOLE
    if now.size > before.size:  # the page that the old end was in, too
        named = merged((*named, (before.size // PAGE * PAGE, now.size)))
    return tuple((start, min(end, now.size)) for start, end in named if start < now.size)
