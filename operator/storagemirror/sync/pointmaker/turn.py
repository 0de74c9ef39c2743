"""What a maker of points needs of its group, where its points are to be of one moment with those of other volumes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from storagemirror.entry import TimeNs
from storagemirror.errors import StorageMirrorError


@dataclass(frozen=True, slots=True)
class Moment:
    """At which all volumes of a group stood still."""

    group: int
    """Number of the round: points of several volumes that bear the same are of one moment."""
    at_ns: TimeNs
    """On the clock of whoever leads the group."""
    holds: bool = False
    """The target holds the point back until it is known that all targets have theirs."""


class Go(Enum):
    """What the group says to one that is ready."""

    WAIT = "Wait"
    """The others are not yet."""
    FREEZE = "Freeze"
    NOTHING = "Nothing"
    """Nothing has changed anywhere: no point."""


class Turn(Protocol):
    """One round of the group. `PutOff` from all of it: the round is void, for everybody."""

    def check(self) -> None:
        """Whether the round still stands."""
        ...

    def ready(self, seconds: float, *, changed: bool) -> Go:
        """Little is left to read. Waits so long for the others."""
        ...

    def unready(self) -> Go:
        """One more pass is made before the freeze; where it is too late for that, what is to be done."""
        ...

    def frozen(self, seconds: float) -> Moment:
        """The volume stands still. Waits so long for all others to do so."""
        ...

    def held(self, seconds: float) -> None:
        """It was read and thawed, and had stood still all the time. Waits until that is known of all; only then there
        is a point."""
        ...

    def give_up(self, message: str) -> StorageMirrorError:
        """The others were waited for as long as may be; the error to raise."""
        ...

    def cannot(self, error: StorageMirrorError) -> StorageMirrorError:
        """No point here, for this reason; the error to raise, in the words of who knows best."""
        ...
