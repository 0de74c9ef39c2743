"""Making points of one source: passes, freeze, read, thaw, tell, and hear what the target has kept.

A *point* is the state of the volume at one moment while it was frozen. It is sent as what changed since the point
before. One point may be on its way while the next one's passes go on; it is ended only once the one before is durable.

A point of a group is *in hand* until it is known what becomes of it: its target holds it back, until all targets have
theirs. Then it is released; or dropped everywhere, where some target did not take it. Only then does it count as
durable, and only then are passes told: on the target they build on it.

What is told before a freeze is told for good: a freeze that is put off, or a point that was thrown away because the
volume did not stand still, leave the point open, and the next attempt goes on from there. But where more was told in
vain than the point needs (`repeating`), it is dropped and begun anew: the target's room stays bounded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from storagemirror.clock import Clock, onward
from storagemirror.entry import View
from storagemirror.errors import Changed, Passing, StorageMirrorError, VolumeError
from storagemirror.fs.source import SourceVolume
from storagemirror.point import MIRROR
from storagemirror.sync.freezing import FreezeLost, Freezer, NotFrozen
from storagemirror.sync.pointmaker import base
from storagemirror.sync.pointmaker.capturing import Capture
from storagemirror.sync.pointmaker.catalogue import Since
from storagemirror.sync.pointmaker.figures import Figures
from storagemirror.sync.pointmaker.keeping import KeepingTeller, Kept
from storagemirror.sync.pointmaker.line import Line
from storagemirror.sync.pointmaker.opened import Opened
from storagemirror.sync.pointmaker.passing import Passes
from storagemirror.sync.pointmaker.queue import Queue, QueueLost
from storagemirror.sync.pointmaker.standstill import Limits, PutOff, Standstill, Stood
from storagemirror.sync.pointmaker.surveying import Survey
from storagemirror.sync.pointmaker.telling import Reader
from storagemirror.sync.pointmaker.turn import Go, Moment, Turn
from storagemirror.wire import messages as m

PATIENCE_SECONDS = 20.0
"""For so long one that is ready waits for the rest of its group."""
AGAIN_SECONDS = 0.5
"""One that waits makes a further pass so often: what changes meanwhile must not be left for the freeze."""


class MirrorAgain(Passing):
    """The target is not what it was thought to be: mirror, then begin with a new base."""

    reason = "PointConflict"


class PointRefused(Passing):
    """The target took nothing of the point; all of it is told again with the next. `reason` is the target's."""

    reason = "PointRefused"


@dataclass(frozen=True, slots=True)
class Sent:
    """A point that was ended."""

    number: int
    before: bytes
    digest: bytes
    at_ns: int
    moment: Moment | None
    since: Since
    """From its base to it."""
    bytes: int
    kept: Kept | None
    """To tell it once more; None: it was too large to be kept, or the target has it."""
    there: bool = False
    """Durable on the target, which may hold it back."""


@dataclass(frozen=True, slots=True)
class Durable:
    """The latest point that is durable on the target."""

    number: int
    at_ns: int
    moment: Moment | None = None
    """That of its group; None: it is of this volume alone."""


class Maker:
    """The engine of points of one source and one target. Outlives sessions. For one thread, save the properties."""

    def __init__(
        self,
        volume: SourceVolume,
        capture: Capture,
        freezer: Freezer,
        clock: Clock,
        limits: Limits | None = None,
        *,
        number: int = 0,
        queue: Queue | None = None,
    ) -> None:
        """`volume`, `capture` and `freezer` stay the caller's. `number`: of the latest point that was begun before.
        `queue`: of this maker alone; None: one in memory."""
        self._volume = volume
        self.capture = capture
        self._clock = clock
        self.limits = limits if limits is not None else Limits()
        self.queue = queue if queue is not None else Queue()
        self.figures = Figures()
        self._since = clock.monotonic()
        """When the last point was made, or nothing had changed since it."""
        self.durable: Durable | None = None
        self.through_ns: int | None = None
        """Up to then, all that was done on the source is durable on the target as a point; None: there was none."""
        self.unsent_bytes: int | None = None
        """Of content that may have to be sent until the target has a durable point of now: told and not durable, or
        not told yet and, where it is not known which part of a file changed, all of it. None: not known."""
        self._view: View | None = None
        self._number = number
        self._digest = MIRROR
        self._at_ns = 0
        self._sent: Sent | None = None
        self._dropped: Sent | None = None
        """The last one of a group that the target had, and was to drop."""
        self.lacked = 0
        """Group of the last point that the target has not got, and will not; 0: there was none."""
        self._opened: Opened | None = None
        self._must = False
        """Even an empty point is to be sent: the first one after a mirror."""
        self._standstill = Standstill(freezer, clock, self.figures)
        self._catalogue = base.empty(volume)

    # -- beginning

    def begin(self, line: Line, mirrored_ns: int) -> None:
        """A mirror that began at `mirrored_ns` has ended: what it left is the base of the next point.

        Raises as `base.establish`."""
        self._number = max(self._number, line.point[0])
        self.forget()
        self._digest, self._sent, self._opened, self._must = MIRROR, None, None, True
        self._dropped, self.lacked = None, 0
        self._view = line.view
        self._catalogue = base.empty(self._volume)
        self._survey = Survey(
            self._catalogue,
            self._volume,
            line.view,
            line.report,
            self._clock,
            names_pages=lambda: self.capture.names_pages,
        )
        self._passes = Passes(self._catalogue, self._survey, self._volume, self.capture, self._clock)
        self._passes.narrowing.drain()  # of before: the look that follows sees all of it
        base.establish(self._catalogue, self._survey, self._volume, line, mirrored_ns)
        self._reader = Reader(self._catalogue, self._volume, line.view, line.report, self._passes.narrowing)
        self._standstill.watch(self._survey, self._passes, self._reader)

    def go_on(self, line: Line) -> bool:
        """A new session: whether the target has a point that we know, so that no mirror is needed."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.teller.forget()
        number, digest = line.point
        if self._view != line.view or not digest:
            return False
        self._number = max(self._number, number)
        sent, dropped = self._sent, self._dropped
        base = sent.before if sent is not None else self._digest
        if line.held and dropped is not None and digest == dropped.digest:
            line.release(number, drop=True)  # the word was lost with the connection
            digest = dropped.before
        elif line.held and digest == base:
            line.release(number)
        if sent is not None and digest == sent.digest:
            self._is_there(sent)
        elif sent is not None and digest == sent.before:
            if sent.kept is None:
                self._undo(sent)
        elif digest != self._digest:
            return False
        self._forget_told(opened)
        if self._sent is not None and self._sent.kept is not None:
            self._tell_again(line, self._sent, self._sent.kept)
        return True

    def _tell_again(self, line: Line, sent: Sent, kept: Kept) -> None:
        """The target has not got it: it is told from what was kept, without another freeze."""
        try:
            digest = kept.tell(line.begin(sent.number, sent.before))
        except QueueLost:
            self._undo(sent)
            raise
        self._digest, self._sent = digest, replace(sent, digest=digest)
        self.figures.told_again += 1

    def let_go(self, line: Line) -> None:
        """Something else is to be told in this session: nothing comes of the point that is open."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.teller.drop()
            self._forget_told(opened)

    def _begin_anew(self, line: Line) -> None:
        """Where the point that is open was told over and over, and is put off: what the target keeps of it goes."""
        opened = self._opened
        if opened is None or not opened.teller.repeats.too_many:
            return
        self.figures.why += f"; begun anew: {opened.teller.repeats.again:,} bytes of it were overwritten before its end"
        self.figures.begun_anew += 1
        self.let_go(line)

    def forget(self) -> None:
        """Nothing that was kept is needed any more. For the last time, too."""
        if self._opened is not None:
            self._opened.teller.forget()
        if self._sent is not None and self._sent.kept is not None:
            self._sent.kept.clear()

    @property
    def waiting_bytes(self) -> int:
        """In the queue, of the point that the target has not made durable yet. For any thread."""
        sent = self._sent
        return sent.kept.size if sent is not None and sent.kept is not None else 0

    @property
    def since_seconds(self) -> float:
        """For how long what changed has not been in a point: since the last one was made, or nothing had changed. For
        any thread."""
        return self._clock.monotonic() - self._since

    @property
    def number(self) -> int:
        """Of the latest point that was begun."""
        return self._number

    @property
    def is_open(self) -> bool:
        """Whether a point is being told: nothing else may be then."""
        return self._opened is not None

    @property
    def waits(self) -> bool:
        """Whether a point is on its way to the target's disk."""
        return self._sent is not None and not self._sent.there

    @property
    def in_hand(self) -> Moment | None:
        """Moment of the point of a group of which it is not known yet what becomes of it; None: there is none."""
        return self._sent.moment if self._sent is not None else None

    def release(self, line: Line) -> None:
        """All targets have their point of that moment: ours may apply it. After it `waits` no more."""
        if self._sent is not None and self._sent.there:
            line.release(self._sent.number)
            self._became_durable(self._sent)

    def drop(self, line: Line) -> None:
        """Some target has not got its point of that moment, and will not: all that is in ours is told again. After it
        `waits` no more."""
        sent = self._sent
        if sent is not None and sent.there:
            line.release(sent.number, drop=True)
            self._undo(sent)
            self._dropped, self.lacked = sent, 0
            self._forget_told(None)

    @property
    def durable_number(self) -> int:
        """Of the latest point that is durable on the target; 0: none is."""
        return self.durable.number if self.durable is not None else 0

    # -- one point

    def make(self, line: Line, turn: Turn | None = None) -> bool:
        """Make a point of what changed, unless nothing did (False). `turn`: together with other volumes; then there is
        one unless nothing changed on any, and it may be empty.

        Raises `PutOff`, `PointRefused`: call it again after a while; `MirrorAgain`; `CannotFreeze`; `Disconnected`;
        OSError when the source's disk fails; `VolumeError`."""
        try:
            made = self._make(line) if turn is None else self._make_together(line, turn)
        except (PutOff, NotFrozen, FreezeLost) as e:
            self.put_off(e)
            self._begin_anew(line)
            raise
        finally:
            self.unsent_bytes = self._unsent()
        self.figures.put_off_in_a_row, self.figures.why = 0, ""
        return made

    def _make_together(self, line: Line, turn: Turn) -> bool:
        """As `make`; whatever keeps this volume from a point keeps the whole group from it, and is told there."""
        try:
            return self._make(line, turn)
        except StorageMirrorError as e:
            why = turn.cannot(e)
            if why is e:
                raise
            raise why from e
        except OSError as e:
            turn.cannot(VolumeError(f"reading the source failed: {e}"))
            raise

    def _make(self, line: Line, turn: Turn | None = None) -> bool:
        self.hear(line, 0.0)
        if turn is not None:
            self._await_durable(line)
        self._passes.look(self.figures, self._at_ns)
        if turn is None:
            if not self._changed:
                return self._nothing()
            opened = self._passed(line)
            self._passes.look(self.figures, self._at_ns)
            self._standstill.expect(self.limits)
        else:
            if not self._all_ready(line, turn):
                return self._nothing()
            opened = self._open(line)
        stood = self._standstill.freeze(self.limits, opened.teller.frozen, turn, opened.lacks)
        self.figures.interval, self._since = self.since_seconds, self._clock.monotonic()
        self._end(opened, stood)
        return True

    @property
    def _changed(self) -> bool:
        return bool(self._must or self._survey.due or self._catalogue.changed)

    def _nothing(self) -> bool:
        self.figures.empty += 1
        self._since = self._clock.monotonic()
        if self._sent is None:
            self._see_through(self._passes.through_ns)
        return False

    def _all_ready(self, line: Line, turn: Turn) -> bool:
        """Make passes until every volume of the group is ready to be frozen; False: nothing has changed anywhere."""
        end, go = self._clock.monotonic() + PATIENCE_SECONDS, Go.WAIT
        while go is Go.WAIT:
            if self._clock.monotonic() >= end:
                raise turn.give_up(f"the other volumes of the group were not ready within {PATIENCE_SECONDS:g} s")
            turn.check()
            self._standstill.check()
            if changed := self._changed:
                self._passed(line)
                turn.check()
                self._passes.look(self.figures, self._at_ns)
                self._standstill.expect(self.limits)
            else:
                self._await_durable(line)
            go = turn.ready(AGAIN_SECONDS, changed=changed)
            if go is Go.WAIT:
                go = turn.unready()
                if go is Go.WAIT:
                    self._passes.look(self.figures, self._at_ns)
        return go is Go.FREEZE

    def _passed(self, line: Line) -> Opened:
        """Live passes, until little is left to be told. Raises as `make`."""
        opened = self._open(line)
        self.unsent_bytes = self._unsent()  # the disk, and the target, may keep us waiting from here on
        self._passes.run(opened, self._reader, self.figures, self._at_ns)
        if self._passes.sync_seconds > self.limits.max_stall:
            raise PutOff(f"syncfs took {self._passes.sync_seconds:.3f} s", reason="SyncTooSlow")
        self._await_durable(line)
        return opened

    def _await_durable(self, line: Line) -> None:
        """A point is ended only once the one before is durable; `PutOff`."""
        self.hear(line, self.limits.max_stall)
        sent = self._sent
        if sent is not None and not sent.there:
            raise PutOff("the target has not made the point before durable yet", reason="TargetBehind")
        if sent is not None:
            raise PutOff("it is not known yet whether all volumes have the point before", reason="TargetBehind")

    def hear(self, line: Line, seconds: float) -> None:
        """What the target said of points; waits so long for something, where a point is on its way."""
        end = self._clock.monotonic() + seconds
        while True:
            left = max(0.0, end - self._clock.monotonic()) if self.waits else 0.0
            answers = line.answers(left)
            for answer in answers:
                self._take(answer)
            if not answers or not self.waits:
                return

    def _take(self, answer: m.PointDurable | m.PointApplied | m.PointRefused) -> None:
        sent = self._sent
        match answer:
            case m.PointDurable() if sent is not None and answer.digest == sent.digest:
                self._is_there(sent)
            case m.PointRefused():
                if answer.reason is m.FailureReason.CONFLICT:
                    raise MirrorAgain(answer.message)
                opened, self._opened = self._opened, None
                if opened is not None:
                    opened.teller.drop()
                if sent is not None:
                    self._undo(sent)
                self._forget_told(opened)
                raise PointRefused(answer.message, reason=f"Target{answer.reason.value}")

    def _unsent(self) -> int:
        size = self._passes.expected_bytes()
        size += self._opened.bytes if self._opened is not None else 0
        return size + (self._sent.bytes if self._sent is not None else 0)

    def _is_there(self, sent: Sent) -> None:
        """The target has it. One of a group counts once it is released."""
        if sent.moment is None:
            self._became_durable(sent)
            return
        if sent.kept is not None:
            sent.kept.clear()
        self._sent = replace(sent, kept=None, there=True)

    def _became_durable(self, sent: Sent) -> None:
        self._drop_sent(sent)
        self.durable = Durable(sent.number, sent.at_ns, sent.moment)
        self._see_through(sent.at_ns)

    def _see_through(self, through_ns: int) -> None:
        self.through_ns = onward(self.through_ns, through_ns, self._clock)

    def _drop_sent(self, sent: Sent) -> None:
        self._sent = None
        if sent.kept is not None:
            sent.kept.clear()

    def _undo(self, sent: Sent) -> None:
        """The target has not got it: all of it is read and told again, from its base."""
        self._drop_sent(sent)
        self.lacked = sent.moment.group if sent.moment is not None else 0
        self._digest = sent.before
        self._must = self._must or sent.before == MIRROR
        self._catalogue.go_back(sent.since)

    def _forget_told(self, opened: Opened | None) -> None:
        """Nothing has come of what was told since the base."""
        if opened is None and not self._catalogue.changed:
            return
        for known in {*self._catalogue.untell(), *self._catalogue.since.moved, *self._catalogue.since.listed}:
            self._survey.make_due(known)
        self._survey.forget_gone()

    def _open(self, line: Line) -> Opened:
        if self._opened is None:
            self._number += 1
            teller = KeepingTeller(line.begin(self._number, self._digest), self.queue, self._digest)
            self._opened = Opened(self._number, teller, self._catalogue, line.report)
        return self._opened

    def _end(self, opened: Opened, stood: Stood) -> None:
        at_ns, moment = stood.at_ns, stood.moment
        opened.teller.thawed()
        for read in stood.reads:
            opened.take(read)
            self._survey.told(read.known, read.ctime_ns)
        try:
            digest = opened.finish(self._reader, at_ns, moment)
        except Changed as e:
            opened.teller.flush()
            raise PutOff(e.message, reason=e.reason) from e
        self._passes.narrowing.standing.clear()
        kept, since = opened.teller.kept(), self._catalogue.rebase()
        sent = Sent(opened.number, self._digest, digest, at_ns, moment, since, opened.bytes, kept)
        self._opened, self._sent = None, sent
        self._digest, self._at_ns, self._must = digest, at_ns, False
        self.figures.made += 1
        digest = opened.teller.send()
        self._digest, self._sent = digest, replace(sent, digest=digest)

    def put_off(self, why: StorageMirrorError) -> None:
        """Count that there was no point although its time had come."""
        self.figures.put_off[why.reason] += 1
        self.figures.put_off_in_a_row += 1
        self.figures.why = f"{why.reason}: {why.message}"
        if isinstance(why, FreezeLost):
            self.figures.lost += 1
