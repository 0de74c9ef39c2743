"""How far a committed point has been applied: a file in `journal/` whose name tells it.

    applying-<point>-<step>

Made once the commit is durable, and before the point is acknowledged: who finds it knows that this point was promised.
Of a point that is held back (`Journal.held`) it is made once it is said that it is to be applied; until then there is

    held-<point>

which says no more than that this point was promised: without its journal the promise is known to be broken.
Renamed from step to step, each time after everything of the step before was synced: what a step does may be done again
from its beginning, but not once the next one has begun. Removed when the slots tell that the point was applied.
"""

from __future__ import annotations

import contextlib
import os
import re
from enum import IntEnum
from typing import NamedTuple

_NAME = re.compile(rb"applying-([0-9a-f]{16})-([1-4])")
_HELD = re.compile(rb"held-([0-9a-f]{16})")


class Step(IntEnum):
    """In their order. Paths of the base hold up to the end of `WRITE`."""

    WRITE = 1
    """New objects are made aside, files that get another name get a link aside; content, size and attributes of all
    but directories."""
    HOLD = 2
    """Directories that get another name are moved aside, the deepest first. Left out where there are none."""
    PLACE = 3
    """Every directory that changed gets its names, from above to below; what has to go is moved aside, or unlinked.
    Left out where no directory changed."""
    FINISH = 4
    """What lies aside is removed; attributes of directories, and what locks files."""


class Mark(NamedTuple):
    """What the file says."""

    point: int
    step: Step


def read(directory: int) -> Mark | None:
    """None when no point is being applied. Of two (none but a damaged directory has them) the earlier step."""
    found = [match for name in os.listdir(b"/proc/self/fd/%d" % directory) if (match := _NAME.fullmatch(name))]
    return min((Mark(int(match[1], 16), Step(int(match[2]))) for match in found), default=None)


def begin(directory: int, point: int) -> Mark:
    """Durable when it returns. OSError, in all of these."""
    mark = Mark(point, Step.WRITE)
    os.close(os.open(_name(mark), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory))
    os.fsync(directory)
    return mark


def advance(directory: int, mark: Mark, step: Step) -> Mark:
    """Durable when it returns."""
    new = Mark(mark.point, step)
    os.rename(_name(mark), _name(new), src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
    return new


def end(directory: int, mark: Mark) -> None:
    """It was applied, and the slots say so."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_name(mark), dir_fd=directory)


def hold(directory: int, point: int) -> None:
    """It is promised, and held back. Durable when it returns."""
    name = b"held-%016x" % point
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory))
    os.fsync(directory)


def held(directory: int) -> int:
    """Number of the point that was promised and held back; 0: there is none."""
    names = os.listdir(b"/proc/self/fd/%d" % directory)
    return max((int(match[1], 16) for name in names if (match := _HELD.fullmatch(name))), default=0)


def unhold(directory: int) -> None:
    """It is held back no longer. Durable when it returns, where there was one."""
    found = [name for name in os.listdir(b"/proc/self/fd/%d" % directory) if _HELD.fullmatch(name)]
    for name in found:
        os.unlink(name, dir_fd=directory)
    if found:
        os.fsync(directory)


def _name(mark: Mark) -> bytes:
    return b"applying-%016x-%d" % (mark.point, mark.step)
