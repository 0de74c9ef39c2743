"""What the lead of a group decides: when all freeze, when all stand still, and whether that makes a point.

Why a committed round is one moment: `Still` is said only when every member has said `Frozen`, nobody thaws before it
has heard `Still`, and `Commit` is said only when every member's guard has answered for its freeze until its thaw
(`Held`). So at the time of `Still` every volume stood still. Whatever else happens ends in `Void`, for all.

What only the lead's decision tells cannot be told to a member that is cut off in that moment: it throws its point of
that round away although others keep theirs. The number of the round in each point says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from storagemirror.entry import TimeNs
from storagemirror.wire import group as g

NOT_READY = "GroupNotReady"
"""Somebody is away, or was not ready in time: nobody was frozen for it."""
VOID = "GroupVoid"
"""Not all stood still together: what was read is thrown away."""

Said = list[tuple[str, g.Message]]
"""To whom what is to be said, in this order."""


class Stage(IntEnum):
    """How far a round is."""

    PREPARING = 0
    FREEZING = 1
    STILL = 2
    OVER = 3


@dataclass
class _Round:
    number: int
    stage: Stage = Stage.PREPARING
    ready: dict[str, bool] = field(default_factory=dict)
    """Who is, and whether there something has changed."""
    frozen: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)


class Rounds:
    """Of one group. Waits for nothing and knows no time but what it is told; for one thread at a time."""

    def __init__(self, members: Sequence[str], above: int = 0) -> None:
        """`members`: names of volumes, the lead's own first. `above`: a number that was given out before."""
        self._members = tuple(members)
        self._here = {self._members[0]}
        self._round: _Round | None = None
        self._number = above

    @property
    def away(self) -> tuple[str, ...]:
        """Who is not connected."""
        return tuple(v for v in self._members if v not in self._here)

    def come(self, volume: str) -> None:
        """It is connected. It takes part from the next round on."""
        self._here.add(volume)

    def gone(self, volume: str) -> Said:
        """Its connection has ended; whatever it froze is thawed by its guard."""
        self._here.discard(volume)
        return self._void(f"the agent of volume {volume} has gone")

    def begin(self, now_ns: TimeNs) -> Said:
        """The lead wants a point. The number of a round is never given again: it grows with the clock, so that no
        restart sets it back."""
        said = self._void("another round begins")
        number = max(self._number + 1, now_ns // 1_000_000)
        self._number = number
        if self.away:
            names = ", ".join(self.away)
            return said + self._all(g.Void(number, NOT_READY, f"not connected: volume {names}"))
        self._round = _Round(number)
        return said + self._all(g.Prepare(number))

    def heard(self, volume: str, message: g.Message, now_ns: TimeNs) -> Said:
        """A member has said this. What is of another round, or out of its turn, changes nothing."""
        found = self._round
        if found is None or volume not in self._here or getattr(message, "round", None) != found.number:
            return []
        match message:
            case g.Ready() if found.stage is Stage.PREPARING:
                found.ready[volume] = message.changed
                return self._all_ready(found)
            case g.Unready() if found.stage is Stage.PREPARING:
                found.ready.pop(volume, None)
            case g.Frozen() if found.stage is Stage.FREEZING:
                found.frozen.add(volume)
                if found.frozen == set(self._members):
                    found.stage = Stage.STILL
                    return self._all(g.Still(found.number, now_ns))
            case g.Held() if found.stage is Stage.STILL:
                found.held.add(volume)
                if found.held == set(self._members):
                    return self._end(g.Commit(found.number))
            case g.Cannot():
                return self._void(self._why(found, volume, message))
        return []

    def _all_ready(self, found: _Round) -> Said:
        if set(found.ready) != set(self._members):
            return []
        if not any(found.ready.values()):
            return self._end(g.Nothing(found.number))
        found.stage = Stage.FREEZING
        return self._all(g.Freeze(found.number))

    def _why(self, found: _Round, volume: str, said: g.Cannot) -> str:
        if not said.late:
            return f"volume {volume}: {said.reason}: {said.message}"
        done: set[str] = (set(found.ready), found.frozen, found.held)[found.stage]
        missing = ", ".join(v for v in self._members if v not in done)
        what = ("ready", "frozen", "read and thawed")[found.stage]
        if not missing:
            return f"volume {volume} could not wait for the others any longer"
        return f"not {what} in the time that volume {volume} could wait: volume {missing}"

    def _void(self, why: str) -> Said:
        found = self._round
        if found is None:
            return []
        return self._end(g.Void(found.number, NOT_READY if found.stage is Stage.PREPARING else VOID, why))

    def _end(self, message: g.Message) -> Said:
        self._round = None
        return self._all(message)

    def _all(self, message: g.Message) -> Said:
        """The lead last: what it does in its own process must not delay what the others hear."""
        order = (*self._members[1:], self._members[0])
        return [(volume, message) for volume in order if volume in self._here]
