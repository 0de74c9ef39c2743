"""One connection of a source that makes points: a mirror where there must be one, then a point each interval.

What the maker of points knows outlives connections: where the target still has the point that we think it has, a new
connection goes on from there, and the copy is never anything but a point meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from storagemirror.agent.follow import Following
from storagemirror.agent.queueing import Queueing
from storagemirror.agent.together import Together
from storagemirror.agent.view import View
from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import Phase, PointsMade, Problem, ReplicationOrder
from storagemirror.errors import StorageMirrorError
from storagemirror.sync.freezing import FreezeLost, NotFrozen
from storagemirror.sync.pointmaker.making import Maker, PointRefused
from storagemirror.sync.pointmaker.standstill import Limits, PutOff
from storagemirror.sync.pointmaker.turn import Turn
from storagemirror.sync.source import SourceSession
from storagemirror.sync.together.seat import Fate

log = logging.getLogger("storagemirror.agent")

TURN_SECONDS = 0.2
"""So often it is looked whether the connection is still wanted, and whether the target has said something."""
REFUSED_SECONDS = 10.0
"""After a point that the target could not take: it is full, mostly."""
GRACE_SECONDS = 25.0
"""So much longer than the interval one that does not lead waits for a round, before it says that there was none."""
DURABLE_SECONDS = 0.05
"""So often it is looked what the group says while the target is waited for."""
LAST_SECONDS = 5.0
"""How long the last point of a good end may take to become durable, and that of a group to be released."""
LONGEST_WHY = 300


@dataclass(frozen=True)
class Points:
    """What one connection that makes points works with."""

    session: SourceSession
    maker: Maker
    following: Following
    """For the mirror."""
    queueing: Queueing
    order: Callable[[], ReplicationOrder]
    together: Together
    """For points of one moment with other volumes."""


class Pointing:
    """From the beginning of a connection to its end, or until points are not wanted any more."""

    def __init__(self, points: Points, view: View, clock: Clock) -> None:
        self._points = points
        self._maker = points.maker
        self._view = view
        self._clock = clock
        self._line = points.session.line()
        self._due = 0.0
        self._said = ""
        self._begun = False

    def run(self, wanted: Callable[[], bool]) -> None:
        """As long as points are `wanted`. Raises what ends the connection; `CannotFreeze`; `MirrorAgain`: then the
        maker is of no use any more."""
        self._begin()
        with self._points.together.seat.engaged():
            while wanted():
                self._turn()
        self._maker.let_go(self._line)

    def once(self, wanted: Callable[[], bool]) -> bool:
        """One point of what the source holds now, unless nothing has changed since the last; once it is durable on the
        target it is True. False: it was not `wanted` any more. Raises as `run`."""
        self._begin()
        if self._view.sight.phase is not Phase.REPLICATING:
            self._view.see(phase=Phase.REPLICATING)
        done = False
        while not done and wanted():
            done = self._attempt(wanted)
            self._see()
        self._maker.let_go(self._line)
        return done

    def _attempt(self, wanted: Callable[[], bool]) -> bool:
        """Whether a point of now is durable; where not, some time has passed."""
        self._limit()
        self._agree()
        rest = min(self._points.order().interval_seconds, REFUSED_SECONDS)
        try:
            made = self._make()
            while self._maker.waits:
                self._maker.hear(self._line, TURN_SECONDS)
                self._see()
            if made is not None:
                return True
        except PointRefused as e:
            self._refused(e)
            rest = REFUSED_SECONDS
        end = self._clock.monotonic() + rest
        while wanted() and self._clock.monotonic() < end:
            if not self._maker.is_open:
                self._points.session.ping()
            self._clock.sleep(TURN_SECONDS)
        return False

    def _begin(self) -> None:
        """A mirror, unless the target has a point that we know. Once in a connection."""
        if self._begun:
            return
        self._limit()
        if self._maker.go_on(self._line):
            log.info("the target has point %d: nothing needs to be compared", self._maker.durable_number)
            self._view.see(phase=Phase.REPLICATING, problem=None)
        else:
            wall, began = self._clock.now_ns(), self._clock.monotonic()
            mirrored_ns = self._points.following.settle_down()
            # Where the clock was set back meanwhile, what changed since bears times of before the mirror.
            passed = int((self._clock.monotonic() - began) * 1e9)
            mirrored_ns -= max(0, passed - (self._clock.now_ns() - wall))
            self._line = self._points.session.line()
            self._maker.begin(self._line, mirrored_ns)
            self._points.together.seat.anew()
            log.info("everything is compared and on the target; points follow")
        self._begun = True

    def interval(self) -> float:
        """Seconds from point to point; see `PointsMade`. For any thread, also once this connection has ended."""
        return max(self._maker.figures.interval or 0.0, self._maker.since_seconds)

    def finish(self) -> None:
        """A last point, before a good end; none where it would be of this volume alone. Raises as `run`."""
        if not self._points.together.wanted:
            self._make()
        end = self._clock.monotonic() + LAST_SECONDS
        while (self._maker.waits or self._in_hand) and self._clock.monotonic() < end:
            self._maker.hear(self._line, TURN_SECONDS)
            self._agree()
            if not self._maker.waits and self._in_hand:
                if not self._points.together.connected:
                    break  # nobody is left to say it
                self._clock.sleep(DURABLE_SECONDS)
        self._see()
        self._maker.let_go(self._line)

    def _turn(self) -> None:
        if self._points.together.wanted:
            self._turn_together()
            return
        self._agree()
        now = self._clock.monotonic()
        if now >= self._due:
            self._limit()
            self._due = now + self._points.order().interval_seconds
            try:
                self._make()
            except PointRefused as e:
                self._refused(e)
                self._due = self._clock.monotonic() + REFUSED_SECONDS
        else:
            self._maker.hear(self._line, min(TURN_SECONDS, self._due - now))
        self._see()
        if not self._maker.is_open:
            self._points.session.ping()
        wait = min(TURN_SECONDS, self._due - self._clock.monotonic())
        if wait > 0 and not self._maker.waits:
            self._clock.sleep(wait)

    def _turn_together(self) -> None:
        """The lead begins a round when a point is due; whoever else there is takes part as soon as one begins."""
        together, now = self._points.together, self._clock.monotonic()
        due = now >= self._due or (not together.connected and now >= self._due - GRACE_SECONDS)
        interval = self._points.order().interval_seconds
        seconds = min(TURN_SECONDS, max(0.01, self._due - now))
        if due and together.leads and together.lacking and now < self._due + interval:
            seconds = TURN_SECONDS  # it begins as soon as it is known what becomes of the point before
        elif due and together.leads:
            together.begin()
            seconds = 0.0
        turn = together.seat.join(0.0 if self._maker.waits else seconds, self._in_hand)
        self._agree()
        if turn is not None:
            self._limit()
            self._due = now + interval + (0.0 if together.leads else GRACE_SECONDS)
            try:
                self._make(turn)
            except PointRefused as e:
                self._refused(e)
                self._due += REFUSED_SECONDS
        elif due and not together.leads:
            self._put_off(together.missed())
            self._due = now + interval
        try:
            self._maker.hear(self._line, DURABLE_SECONDS)
        except PointRefused as e:
            self._refused(e)
            self._due += REFUSED_SECONDS if together.leads else 0.0
        self._agree()
        self._see()
        if not self._maker.is_open:
            self._points.session.ping()

    @property
    def _in_hand(self) -> int:
        moment = self._maker.in_hand
        return moment.group if moment is not None else 0

    def _agree(self) -> None:
        """With the group on what becomes of its last point: it is applied once all targets have it, and not before."""
        maker, seat = self._maker, self._points.together.seat
        moment = maker.in_hand
        if moment is None:
            if maker.lacked:
                seat.lacks(maker.lacked, PutOff("the target did not take the point", reason="PointRefused"))
            return
        if maker.waits:
            return
        fate = Fate.RELEASED
        if moment.holds and self._points.together.wanted:
            fate = seat.durable(moment.group)
        if fate is Fate.RELEASED:
            maker.release(self._line)
        elif fate is Fate.DROPPED:
            maker.drop(self._line)
            self._put_off(seat.why)

    def _refused(self, why: PointRefused) -> None:
        log.warning("the target takes no point: %s: %s", why.reason, why.message)
        self._view.see(problem=Problem(reason=why.reason, message=why.message, hint=why.hint))

    def _make(self, turn: Turn | None = None) -> bool | None:
        """Whether a point was made; None: it was put off."""
        queueing = self._points.queueing
        overflows, anew = queueing.overflows, self._maker.figures.begun_anew
        try:
            made = self._maker.make(self._line, turn)
            queueing.covered(overflows)  # what was dropped was looked for everywhere
        except (PutOff, NotFrozen, FreezeLost) as e:
            self._tell(e)
            if self._maker.figures.begun_anew != anew:
                log.warning("the point that could not be made is begun anew: its content was overwritten over and over")
            return None
        self._said = ""
        if made and self._view.sight.problem is not None:
            self._view.see(problem=None)
        return made

    def _put_off(self, why: PutOff) -> None:
        """Its time had come, and nobody has begun a round."""
        self._maker.put_off(why)
        self._tell(why)

    def _tell(self, why: StorageMirrorError) -> None:
        if why.reason != self._said:
            log.warning("no point this time: %s: %s", why.reason, why.message)
        self._said = why.reason

    def _limit(self) -> None:
        order = self._points.order()
        self._maker.limits = Limits(order.max_stall_seconds)
        self._points.queueing.limit(order.queue)

    def _see(self) -> None:
        made, capture, why = report_of(self._maker), self._maker.capture.mode, self._maker.capture.reason
        sight = self._view.sight
        if (made, self._maker.through_ns) != (sight.points, sight.through_ns):
            self._view.see(points=made, through_ns=self._maker.through_ns)
        if (capture, why) != (sight.capture, sight.capture_why):
            self._view.see(capture=capture, capture_why=why)


def report_of(maker: Maker) -> PointsMade:
    """How it goes."""
    figures, durable = maker.figures, maker.durable
    return PointsMade(
        number=durable.number if durable is not None else None,
        at=rfc3339(durable.at_ns) if durable is not None else None,
        group=durable.moment.group if durable is not None and durable.moment is not None else None,
        made=figures.made,
        put_off=figures.put_off.total(),
        in_a_row=figures.put_off_in_a_row,
        why=figures.why[:LONGEST_WHY],
        stall_p50=_rounded(figures.percentile(0.5)),
        stall_p99=_rounded(figures.percentile(0.99)),
        beyond_p50=_rounded(figures.percentile(0.5, beyond=True)),
        beyond_p99=_rounded(figures.percentile(0.99, beyond=True)),
        missed=figures.missed,
        told_again=figures.told_again,
        untraced=maker.capture.reason[:LONGEST_WHY],
    )


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
