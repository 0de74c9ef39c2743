"""What somebody else does to a copy: how whoever watches it is told what is ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from storagemirror.entry import TimeNs, brief
from storagemirror.fs.selection import Selection

CHANGED = "TargetChanged"
"""Why a volume is at no point: somebody else has changed it since."""
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Changed:
    """What others have changed since the watch began."""

    count: int
    """Of names; at least, where `lost`. Beyond those that are remembered, one that changes again counts again."""
    first: tuple[bytes, ...]
    """Paths, in the order in which they were seen."""
    since_ns: TimeNs
    """By the target's clock, nanoseconds since the Unix epoch: no file that they changed has an older ctime."""
    lost: bool = False
    """There is more that could not be named: the kernel's queue was full."""
    watch: int = 0
    """By which watch it was seen, counted from 1."""

    @property
    def sentence(self) -> str:
        """For people; at most a few hundred bytes."""
        return f"somebody else has changed the copy ({self._which})"

    @property
    def since_point(self) -> str:
        """The same of a copy that was at a point."""
        return f"somebody else has changed the copy since its last point ({self._which})"

    @property
    def _which(self) -> str:
        first = f", the first: {brief(self.first[0])[:_LONGEST]}" if self.first else ""
        count = f"at least {self.count}" if self.lost else str(self.count)
        return f"{count} entries{first}"


class Others(Protocol):
    """Watches one volume. For the thread that writes it, save where said otherwise."""

    @property
    def armed(self) -> bool:
        """Whether it watches: all that is done to the volume's own files is somebody else's then, but what is told by
        `touch` between `applying` and `applied`. For any thread."""

    def armed_under(self, selection: Selection | None) -> bool:
        """Whether it does under these rules."""

    def arm(self, selection: Selection | None) -> None:
        """From now on. Nothing where it watches already, or cannot (that is told elsewhere)."""

    def disarm(self) -> None:
        """The volume is about to be changed by us otherwise than by a point."""

    def changed(self) -> Changed | None:
        """All that others have done up to now, since `arm`; None: nothing. For any thread."""

    def applying(self) -> None:
        """A point, or something else of the source's, is about to be applied."""

    def touch(self, path: bytes) -> None:
        """It is about to change what is at `path`, and is through with what it touched before."""

    def touch_within(self, directory: bytes) -> None:
        """As `touch`, of all that is directly in a directory that it has just made."""

    def through(self) -> None:
        """It is through with all that it touched, and goes on. Needed after a directory was renamed, before the next
        one is: places are known by their paths."""

    def applied(self) -> Changed | None:
        """It was. As `changed`."""

    def renew(self) -> Changed | None:
        """What was found up to now, as `changed`; it is about to be mended, and from here on is counted anew."""

    def mended(self) -> None:
        """What was found before `renew` is mended."""


class Nobody:
    """Does not watch."""

    armed = False

    def armed_under(self, selection: Selection | None) -> bool:
        """See `Others`."""
        return False

    def arm(self, selection: Selection | None) -> None:
        """See `Others`."""

    def disarm(self) -> None:
        """See `Others`."""

    def changed(self) -> Changed | None:
        """See `Others`."""
        return None

    def applying(self) -> None:
        """See `Others`."""

    def touch(self, path: bytes) -> None:
        """See `Others`."""

    def touch_within(self, directory: bytes) -> None:
        """See `Others`."""

    def through(self) -> None:
        """See `Others`."""

    def applied(self) -> Changed | None:
        """See `Others`."""
        return None

    def renew(self) -> Changed | None:
        """See `Others`."""
        return None

    def mended(self) -> None:
        """See `Others`."""
