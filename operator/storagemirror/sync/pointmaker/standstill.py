"""The moment at which a volume stands still: freeze, look, read, thaw. What is read goes into
the queue; nothing is sent meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storagemirror.clock import Clock
from storagemirror.entry import TimeNs
from storagemirror.errors import Changed, Passing
from storagemirror.sync.freezing import Freezer, Frozen
from storagemirror.sync.pointmaker.figures import Figures, Stall
from storagemirror.sync.pointmaker.keeping import Aside
from storagemirror.sync.pointmaker.passing import Passes
from storagemirror.sync.pointmaker.queue import QueueFull
from storagemirror.sync.pointmaker.surveying import Survey
from storagemirror.sync.pointmaker.telling import Read, Reader
from storagemirror.sync.pointmaker.turn import Moment, Turn

MARGIN_SECONDS = 0.01
"""Left for the thaw."""
WAITING_SHARE = 0.6
"""Of the longest stall: by then all volumes of a group must stand still. The rest is for looking and reading."""
HELD_SECONDS = 2.0
"""Beyond the longest stall: for so long it is waited for the word that all had stood still. Nothing is frozen then."""


class PutOff(Passing):
    """No point this time. `reason`: `SyncTooSlow`, `TooMuchToRead`, `QueueFull`, `TargetBehind`, `Changed`,
    `GroupNotReady`, `GroupVoid`, or as `NotFrozen` and `FreezeLost` say."""

    reason = "PutOff"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the pair."""

    max_stall: float = 0.2
    """Seconds that a write of the application may wait at most: a point that would take longer is put off."""
    look_seconds: float = 0.02
    """Of these, looking at the ctimes of all objects may take so many; where it takes longer (many thousands of them),
    only what is hinted is looked at while frozen."""


@dataclass(frozen=True, slots=True)
class Stood:
    """What was read while the volume stood still."""

    reads: list[Read]
    at_ns: TimeNs
    """The moment that it is of, on the source's clock."""
    moment: Moment | None = None
    """That of all volumes of the group; None: it is of this volume alone."""


class Standstill:
    """Of one source."""

    def __init__(self, freezer: Freezer, clock: Clock, figures: Figures) -> None:
        self._freezer = freezer
        self._clock = clock
        self._figures = figures
        self._freeze_seconds = 0.03
        """What FIFREEZE takes, about; in a group, until all stand still."""
        self._read_rate = 1e9
        """Bytes a second that are read and compared while frozen, about."""

    def watch(self, survey: Survey, passes: Passes, reader: Reader) -> None:
        """What is looked at and read from now on."""
        self._survey = survey
        self._passes = passes
        self._reader = reader

    def check(self) -> None:
        """Whether the volume can be frozen: others are not frozen for nothing. `NotFrozen`, `CannotFreeze`."""
        self._freezer.check()

    def expect(self, limits: Limits) -> None:
        """Put the point off where it is known before that reading would take too long."""
        size = self._passes.expected_bytes()
        freezing = self._freeze_seconds
        room = limits.max_stall - freezing - MARGIN_SECONDS
        if size / self._read_rate > room:
            # Both may have been measured at a bad moment, and are measured again by freezing alone.
            self._read_rate *= 1.05
            self._freeze_seconds *= 0.95
            if room <= 0:
                raise PutOff(f"until it is frozen, about {freezing:.3f} s pass", reason="FreezeTooSlow")
            raise PutOff(
                f"{size:,} bytes change all the time, and may take {size / self._read_rate:.3f} s to read",
                reason="TooMuchToRead",
            )

    def freeze(self, limits: Limits, aside: Aside, turn: Turn | None, lacks: Callable[[list[Read]], str]) -> Stood:
        """Freeze, look, read to `aside`, thaw. `turn`: of a group; then nothing is read before all of it stand still,
        and what was read counts once all had. `lacks`: what is missing for a point, if anything."""
        moment = None
        try:
            with self._freezer.freeze(limits.max_stall) as frozen:
                if turn is not None:
                    moment = turn.frozen(frozen.left() - (1 - WAITING_SHARE) * limits.max_stall)
                at_ns = self._clock.now_ns()
                waited = frozen.freeze_seconds if turn is None else limits.max_stall - frozen.left()
                self._freeze_seconds += (waited - self._freeze_seconds) / 4
                pace = _Pace(frozen)
                self._look(pace, limits)
                found = self._read(pace, aside)
                if self._passes.doubt_pages(self._figures):
                    raise PutOff("a change was not named by the kernel's trace", reason="TraceBroken")
                frozen.thaw()
            if turn is not None:
                if missing := lacks(found):
                    raise PutOff(missing, reason=Changed.reason)
                turn.held(limits.max_stall + HELD_SECONDS)
        except BaseException:
            # What was looked at when it stood still, or seemed to, is looked at again.
            self._survey.distrust()
            aside.tape.clear()
            raise
        self._figures.stalls.append(Stall(frozen.freeze_seconds, frozen.stall_seconds))
        return Stood(found, at_ns, moment)

    def _read(self, pace: _Pace, aside: Aside) -> list[Read]:
        found: list[Read] = []
        began = self._clock.monotonic()
        for known, due in list(self._survey.due.items()):
            pace.look()
            before = aside.tape.mark()
            try:
                read = self._reader.read(known, due, aside, pace.read)
            except OSError:
                aside.tape.cut(before)
                continue  # a pass reports it
            except QueueFull as e:
                text = f"what changed since the last pass does not fit into the queue: {e.message}"
                raise PutOff(text, reason=QueueFull.reason) from e
            if read is None:
                raise PutOff("an object was not where it is said to be", reason=Changed.reason)
            found.append(read)
        looked = sum(read.looked for read in found)
        took = self._clock.monotonic() - began
        self._figures.frozen_bytes += looked
        if looked > 1 << 20:
            self._read_rate += (looked / max(took, 1e-6) - self._read_rate) / 2
        return found

    def _look(self, pace: _Pace, limits: Limits) -> None:
        survey, passes = self._survey, self._passes
        for known in passes.silent:
            survey.again(known)
        survey.pace = pace.look
        try:
            hints = passes.narrowing.drain(frozen=True)
            survey.look_frozen(hints, everywhere=passes.everywhere.seconds <= limits.look_seconds)
            survey.forget_gone()
        finally:
            survey.pace = lambda: None


class _Pace:
    """Ends what goes on while the volume is frozen in time."""

    def __init__(self, frozen: Frozen) -> None:
        self._frozen = frozen

    def look(self) -> None:
        """Before a directory, or some hundred entries."""
        if self._frozen.left() < MARGIN_SECONDS:
            raise PutOff("looking and reading took as long as writes may wait", reason="TooMuchToRead")

    def read(self, size: int) -> None:
        """Before so many bytes."""
        self.look()
