"""Where a maker of points sits in its group: it says how far it is, and waits for what the lead says.

All that waits has a limit, and whoever's limit ends first voids the round for all. While a volume is frozen nobody
waits for the network but for `Still`.

A round that was committed is *in hand* until the lead has said what becomes of it. What is said to the lead of it is
kept, and said again to whoever leads later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum

from storagemirror.entry import TimeNs
from storagemirror.errors import StorageMirrorError
from storagemirror.sync.pointmaker.standstill import PutOff
from storagemirror.sync.pointmaker.turn import Go, Moment
from storagemirror.sync.together.rounds import NOT_READY, VOID
from storagemirror.wire import group as g

NOT_POINTING = "NotPointing"
_EXPLAIN_SECONDS = 0.3
"""For so long the lead is given the time to say who was missing; nothing is frozen then."""
_LONGEST = 500


class _At(Enum):
    PREPARED = "Prepared"
    FREEZE = "Freeze"
    STILL = "Still"
    COMMITTED = "Committed"
    NOTHING = "Nothing"
    VOID = "Void"


class Fate(Enum):
    """What becomes of the point of a round that was committed."""

    UNKNOWN = "Unknown"
    RELEASED = "Released"
    DROPPED = "Dropped"


class Seat:
    """Of one volume; the maker's thread waits, any thread tells it what the lead says."""

    def __init__(self, say: Callable[[g.Message], None], why_idle: Callable[[], str]) -> None:
        """`say` tells the lead; it raises nothing, and may call `take`. `why_idle`: why no points are made here."""
        self._say = say
        self._why_idle = why_idle
        self._news = threading.Condition()
        self._round = 0
        self._at = _At.VOID
        self._moment_ns: TimeNs = 0
        self._why = (NOT_READY, "no round has begun yet")
        self._fresh = False
        """A round has begun that nobody has joined yet."""
        self._engaged = False
        self._holds = False
        """Of the round: the lead says what becomes of its point."""
        self._prepared = 0
        """The latest round that began while this process was there."""
        self._hand, self._fate = 0, Fate.UNKNOWN
        """The latest round that was committed, and what becomes of it."""
        self._word: g.Durable | g.Lacks | g.Anew | None = None
        """What was said of it."""

    @contextmanager
    def engaged(self) -> Iterator[None]:
        """While points are made here. Without, every round is declined."""
        with self._news:
            self._engaged = True
        try:
            yield
        finally:
            with self._news:
                self._engaged, self._fresh, number = False, False, self._round
            self._say(g.Cannot(number, NOT_POINTING, "it makes no points any more"))

    def take(self, message: g.Message) -> None:
        """The lead has said it."""
        declined, word = False, None
        with self._news:
            number = getattr(message, "round", None)
            if isinstance(message, g.Prepare):
                self._round, self._at, self._fresh = message.round, _At.PREPARED, self._engaged
                self._prepared, self._holds = message.round, message.holds
                declined = not self._engaged
            elif isinstance(message, g.Ask):
                word = self._word_of(message.round)
            elif isinstance(message, g.Release | g.Drop):
                self._decided(message)
            elif isinstance(message, g.Void) and message.round > self._round:
                # A round that could not even begin; the one before it may have been committed.
                self._round, self._fresh, self._at = message.round, self._engaged, _At.VOID
                self._void(message.reason, message.message)
            elif number == self._round and self._at is not _At.VOID:
                self._follow(message)
            elif isinstance(message, g.Commit) and number == self._round and self._holds:
                word = self._word_of(message.round)  # too late
            self._news.notify_all()
        if word is not None:
            self._say(word)
        if declined:
            self._say(g.Cannot(self._round, NOT_POINTING, f"it makes no points just now ({self._why_idle()})"))

    def _follow(self, message: g.Message) -> None:
        match message:
            case g.Freeze():
                self._at = _At.FREEZE
            case g.Still():
                self._at, self._moment_ns = _At.STILL, message.moment_ns
            case g.Commit():
                self._at = _At.COMMITTED
                if self._holds:
                    self._hand, self._fate, self._word = message.round, Fate.UNKNOWN, None
            case g.Nothing():
                self._at = _At.NOTHING
            case g.Void():
                self._void(message.reason, message.message)

    def lost(self, why: str) -> None:
        """The lead is not heard any more: the round is void, unless it was committed."""
        with self._news:
            self._void(NOT_READY if self._at in (_At.PREPARED, _At.VOID) else VOID, why)
            self._news.notify_all()

    def _void(self, reason: str, why: str) -> None:
        if self._at is not _At.COMMITTED:
            self._at, self._why = _At.VOID, (reason, why)

    # -- what becomes of a round that was committed

    def _decided(self, message: g.Release | g.Drop) -> None:
        if message.round != self._hand or self._fate is not Fate.UNKNOWN:
            return
        if isinstance(message, g.Drop):
            self._fate, self._why = Fate.DROPPED, (message.reason, message.message)
            self._word = g.Lacks(message.round, message.reason, message.message)
        else:
            self._fate, self._word = Fate.RELEASED, g.Durable(message.round)

    def _word_of(self, number: int) -> g.Message | None:
        """The answer to `Ask`; None: it is on its way, or nothing can be said yet."""
        if number == self._hand:
            return self._word
        if number <= self._prepared:
            return g.Lacks(number, VOID, "it was not heard in time that the round was committed")
        return g.Anew(number) if self._engaged else None

    @property
    def in_hand(self) -> int:
        """The round of which it is not known what becomes of it; 0: there is none."""
        with self._news:
            return self._hand if self._fate is Fate.UNKNOWN else 0

    @property
    def word(self) -> g.Message | None:
        """For one that leads from now on: what was said of the round in hand."""
        with self._news:
            return self._word if self._fate is Fate.UNKNOWN else None

    def durable(self, number: int) -> Fate:
        """The target has its point of that round. What becomes of it, as far as is known."""
        self._tell_of(g.Durable(number))
        with self._news:
            return self._fate if number == self._hand else Fate.UNKNOWN

    def lacks(self, number: int, why: StorageMirrorError) -> None:
        """The target has not got its point of that round, and will not."""
        self._tell_of(g.Lacks(number, why.reason[:100], why.message[:_LONGEST]))

    def anew(self) -> None:
        """Its volume was mirrored anew: of a round in hand nothing is known any more."""
        self._tell_of(g.Anew(self.in_hand))

    def _tell_of(self, word: g.Durable | g.Lacks | g.Anew) -> None:
        """Once; it is said again to a new lead."""
        with self._news:
            if not word.round or word.round != self._hand or self._fate is not Fate.UNKNOWN or self._word == word:
                return
            if isinstance(self._word, g.Lacks | g.Anew):
                return
            self._word = word
        self._say(word)

    def abandon(self, number: int, why: StorageMirrorError) -> bool:
        """No point is made of what was read in that round. Whether it was committed: then the target lacks it."""
        with self._news:
            committed = number == self._hand
            if not committed and number == self._round:
                self._void(VOID, why.message)
        if committed:
            self.lacks(number, why)
        return committed

    @property
    def round(self) -> int:
        """Number of the latest round that was heard of; 0: none was."""
        with self._news:
            return self._round

    @property
    def why(self) -> PutOff:
        """Why the last round came to nothing, or none has begun."""
        with self._news:
            reason, message = self._why
            return PutOff(message, reason=reason)

    def join(self, seconds: float, hand: int = 0) -> Turn | None:
        """The next round, as soon as one begins; None when none did in that time, or when it is known what becomes of
        round `hand`."""
        with self._news:
            self._news.wait_for(lambda: self._fresh or (hand and self._fate is not Fate.UNKNOWN), seconds)
            if not self._fresh:
                return None
            self._fresh = False
            return Turn(self, self._round)

    # -- for a `Turn`

    def say(self, message: g.Message) -> None:
        """To the lead."""
        self._say(message)

    def wait(self, number: int, left: frozenset[_At], seconds: float) -> _At:
        """What the round is at, once it is at none of `left`, or the time is over. `PutOff` when it is void."""
        with self._news:
            self._news.wait_for(lambda: self._round != number or self._at not in left, seconds)
            if self._round != number:
                raise PutOff("another round has begun meanwhile", reason=VOID)
            if self._at is _At.VOID:
                reason, message = self._why
                raise PutOff(message, reason=reason)
            return self._at

    def moment(self, number: int) -> Moment:
        """Of the round that stands still."""
        with self._news:
            return Moment(number, self._moment_ns, self._holds)

    def explained(self, number: int, error: StorageMirrorError) -> StorageMirrorError:
        """`error`, or what the lead says of the same: it knows who was missing."""
        with self._news:
            self._news.wait_for(lambda: self._round != number or self._at is _At.VOID, _EXPLAIN_SECONDS)
            if self._round != number or self._at is not _At.VOID:
                return error
            reason, message = self._why
            return PutOff(message, reason=reason)


_PREPARED = frozenset({_At.PREPARED})
_FREEZE = frozenset({_At.FREEZE})
_STILL = frozenset({_At.STILL})


class Turn:
    """One round, for the maker's thread; see `storagemirror.sync.pointmaker.turn`."""

    def __init__(self, seat: Seat, number: int) -> None:
        self._seat = seat
        self._number = number
        self._late = False

    def check(self) -> None:
        """See `Turn`."""
        self._seat.wait(self._number, frozenset(), 0.0)

    def ready(self, seconds: float, *, changed: bool) -> Go:
        """See `Turn`."""
        self._seat.say(g.Ready(self._number, changed))
        at = self._seat.wait(self._number, _PREPARED, seconds)
        return {_At.PREPARED: Go.WAIT, _At.NOTHING: Go.NOTHING}.get(at, Go.FREEZE)

    def unready(self) -> Go:
        """See `Turn`."""
        self._seat.say(g.Unready(self._number))
        at = self._seat.wait(self._number, frozenset(), 0.0)
        return {_At.PREPARED: Go.WAIT, _At.NOTHING: Go.NOTHING}.get(at, Go.FREEZE)

    def frozen(self, seconds: float) -> Moment:
        """See `Turn`."""
        self._seat.say(g.Frozen(self._number))
        if self._seat.wait(self._number, _FREEZE, max(0.0, seconds)) is _At.FREEZE:
            raise self._too_late(f"not all volumes stood still within {max(0.0, seconds):.3f} s")
        return self._seat.moment(self._number)

    def held(self, seconds: float) -> None:
        """See `Turn`."""
        self._seat.say(g.Held(self._number))
        if self._seat.wait(self._number, _STILL, seconds) is _At.STILL:
            raise self._too_late("it was not said in time whether all volumes had stood still")

    def give_up(self, message: str) -> PutOff:
        """See `Turn`."""
        self._late = True
        self._seat.say(g.Cannot(self._number, NOT_READY, message, late=True))
        return PutOff(message, reason=NOT_READY)

    def cannot(self, error: StorageMirrorError) -> StorageMirrorError:
        """See `Turn`."""
        told = self._seat.explained(self._number, error) if self._late else error
        if not self._late and error.reason not in (NOT_READY, VOID):
            self._seat.say(g.Cannot(self._number, error.reason[:100], error.message[:_LONGEST]))
        self._seat.abandon(self._number, told)
        return told

    def _too_late(self, message: str) -> PutOff:
        self._late = True
        self._seat.say(g.Cannot(self._number, VOID, message, late=True))
        return PutOff(message, reason=VOID)
