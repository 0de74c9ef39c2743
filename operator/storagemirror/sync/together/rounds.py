"""What the lead of a group decides: when all freeze, when all stand still, whether that makes a point, and what becomes
of it.

Why a committed round is one moment: `Still` is said only when every member has said `Frozen`, nobody thaws before it
has heard `Still`, and `Commit` is said only when every member's guard has answered for its freeze until its thaw
(`Held`). So at the time of `Still` every volume stood still. Whatever else happens ends in `Void`, for all.

Why the copies can be brought to one point: a target holds its point back, and the round is *in hand*, until every
member has said that its target has its own durably (`Durable`); only then `Release` is said, and the first target
applies its point. So where one copy is at the point of a round, every target has that of the same round. Where a target
does not take its point, or a member threw its own away because it was cut off from the word `Commit`, it `Lacks` it:
all `Drop` theirs, and the copies stay at the one before. No round begins while one is in hand: the next point builds on
it.

A member whose volume was mirrored `Anew` since, by a new agent or after its target was found otherwise, is not waited
for: its copy is no point before the next round, whatever becomes of this one. A new lead, which is one of those, learns
from the others which round was in hand when its forerunner ended.
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
    holds: bool = False
    ready: dict[str, bool] = field(default_factory=dict)
    """Who is, and whether there something has changed."""
    frozen: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)


@dataclass
class _Hand:
    """A round that was committed, and of which it is not decided what becomes of it."""

    number: int
    durable: set[str] = field(default_factory=set)
    anew: set[str] = field(default_factory=set)


class Rounds:
    """Of one group. Waits for nothing and knows no time but what it is told; for one thread at a time."""

    def __init__(self, members: Sequence[str], above: int = 0, in_hand: int = 0) -> None:
        """`members`: names of volumes, the lead's own first. `above`: a number that was given out before. `in_hand`: of
        the round that is; 0: none is, as far as the lead knows."""
        self._members = tuple(members)
        self._here = {self._members[0]}
        self._hold = {self._members[0]}
        """Who can wait for `Release`."""
        self._round: _Round | None = None
        self._hand = _Hand(in_hand) if in_hand else None
        self._decided: tuple[int, g.Message] = (0, g.Alive())
        """The last round that was in hand, and what was said of it."""
        self._number = above

    @property
    def away(self) -> tuple[str, ...]:
        """Who is not connected."""
        return tuple(v for v in self._members if v not in self._here)

    @property
    def lacking(self) -> tuple[str, ...]:
        """Of whose targets it is not known whether they have the point that is in hand."""
        hand = self._hand
        return () if hand is None else tuple(v for v in self._members if v not in hand.durable | hand.anew)

    def come(self, volume: str, *, holds: bool = True) -> Said:
        """It is connected. It takes part from the next round on. `holds`: it can wait for `Release`."""
        self._here.add(volume)
        (self._hold.add if holds else self._hold.discard)(volume)
        return self._ask(volume)

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
        if self.away or self.lacking:
            why = "not connected: volume" if self.away else "the point before is not on the target of volume"
            names = ", ".join(self.away or self.lacking)
            said += self._all(g.Void(number, NOT_READY, f"{why} {names}"))
            return said + [one for volume in self.lacking for one in self._ask(volume)]
        self._round = _Round(number, holds=set(self._members) <= self._hold)
        return said + self._all(g.Prepare(number, self._round.holds))

    def _ask(self, volume: str) -> Said:
        hand = self._hand
        return [(volume, g.Ask(hand.number))] if hand is not None and volume in set(self.lacking) & self._here else []

    def heard(self, volume: str, message: g.Message, now_ns: TimeNs) -> Said:
        """A member has said this. What is of another round, or out of its turn, changes nothing."""
        if volume in self._here and isinstance(message, g.Durable | g.Lacks | g.Anew):
            return self._heard_of_hand(volume, message)
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
                    self._hand = _Hand(found.number) if found.holds else None
                    return self._end(g.Commit(found.number))
            case g.Cannot():
                return self._void(self._why(found, volume, message))
        return []

    def _heard_of_hand(self, volume: str, message: g.Durable | g.Lacks | g.Anew) -> Said:
        hand, (decided, answer) = self._hand, self._decided
        if hand is None or message.round != hand.number:
            if message.round == decided:
                return [(volume, answer)] if isinstance(message, g.Durable) else []  # it was away when that was said
            if hand is not None or not isinstance(message, g.Durable):
                return []
            self._hand = _Hand(message.round, {volume})  # of a lead before this one
            return [one for other in self.lacking for one in self._ask(other)]
        match message:
            case g.Durable():
                hand.durable.add(volume)
            case g.Anew():
                hand.anew.add(volume)
            case g.Lacks():
                return self._decide(g.Drop(hand.number, VOID, f"volume {volume}: {message.reason}: {message.message}"))
        return [] if self.lacking else self._decide(g.Release(hand.number))

    def _decide(self, message: g.Release | g.Drop) -> Said:
        self._hand, self._decided = None, (message.round, message)
        return self._all(message)

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
