"""The moment at which a volume stands still: freeze, look, read into memory, thaw. Nothing is sent meanwhile."""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.clock import Clock
from storagemirror.errors import Changed, Passing
from storagemirror.sync.freezing import Freezer, Frozen
from storagemirror.sync.pointmaker.catalogue import Catalogue
from storagemirror.sync.pointmaker.figures import Figures, Stall
from storagemirror.sync.pointmaker.passing import Passes
from storagemirror.sync.pointmaker.surveying import Survey
from storagemirror.sync.pointmaker.telling import Read, Reader, Sheet

MARGIN_SECONDS = 0.01
"""Left for the thaw."""
FROZEN_BYTES = 64 << 20
"""Of content that changed, held in memory between freeze and end; more puts the point off."""


class PutOff(Passing):
    """No point this time. `reason`: `SyncTooSlow`, `TooMuchToRead`, `TargetBehind`, `Changed`, or as `NotFrozen` and
    `FreezeLost` say."""

    reason = "PutOff"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the pair."""

    max_stall: float = 0.2
    """Seconds that a write of the application may wait at most: a point that would take longer is put off."""
    look_seconds: float = 0.02
    """Of these, looking at the ctimes of all objects may take so many; where it takes longer (many thousands of them),
    only what is hinted is looked at while frozen."""


class Standstill:
    """Of one source."""

    def __init__(self, freezer: Freezer, clock: Clock, figures: Figures) -> None:
        self._freezer = freezer
        self._clock = clock
        self._figures = figures
        self._freeze_seconds = 0.03
        """What FIFREEZE takes, about."""
        self._read_rate = 1e9
        """Bytes a second that are read and compared while frozen, about."""

    def watch(self, catalogue: Catalogue, survey: Survey, passes: Passes, reader: Reader) -> None:
        """What is looked at and read from now on."""
        self._catalogue = catalogue
        self._survey = survey
        self._passes = passes
        self._reader = reader

    def expect(self, limits: Limits) -> None:
        """Put the point off where it is known before that reading would take too long."""
        size = self._passes.expected_bytes()
        room = limits.max_stall - self._freeze_seconds - MARGIN_SECONDS
        if size / self._read_rate > room:
            self._read_rate *= 1.05  # it may have been measured at a bad moment
            raise PutOff(
                f"{size:,} bytes change all the time, and may take {size / self._read_rate:.3f} s to read",
                reason="TooMuchToRead",
            )

    def freeze(self, limits: Limits) -> tuple[list[tuple[Sheet, Read]], int]:
        """Freeze, look, read, thaw: what was read, and the moment that it is of."""
        try:
            with self._freezer.freeze(limits.max_stall) as frozen:
                at_ns = self._clock.now_ns()
                self._freeze_seconds += (frozen.freeze_seconds - self._freeze_seconds) / 4
                pace = _Pace(frozen)
                self._look(pace, limits)
                sheets = self._read(pace)
                frozen.thaw()
        except BaseException:
            # What was looked at when it stood still, or seemed to, is looked at again.
            self._survey.distrust()
            raise
        self._figures.stalls.append(Stall(frozen.freeze_seconds, frozen.stall_seconds))
        return sheets, at_ns

    def _read(self, pace: _Pace) -> list[tuple[Sheet, Read]]:
        sheets: list[tuple[Sheet, Read]] = []
        began = self._clock.monotonic()
        held = looked = 0
        for known, due in list(self._survey.due.items()):
            pace.look()
            sheet = Sheet()
            try:
                read = self._reader.read(known, due, sheet, pace.read)
            except OSError:
                continue  # a pass reports it
            if read is None:
                raise PutOff("an object was not where it is said to be", reason=Changed.reason)
            sheets.append((sheet, read))
            looked += read.looked
            held += sheet.size
            if held > FROZEN_BYTES:
                raise PutOff(f"{held:,} bytes changed since the last pass", reason="TooMuchToRead")
        took = self._clock.monotonic() - began
        self._figures.frozen_bytes += looked
        if looked > 1 << 20:
            self._read_rate += (looked / max(took, 1e-6) - self._read_rate) / 2
        return sheets

    def _look(self, pace: _Pace, limits: Limits) -> None:
        survey, passes = self._survey, self._passes
        for known, due in passes.direct.items():
            survey.add_pages(known, due.ranges)
        for known in passes.silent:
            survey.again(known)
        survey.pace = pace.look
        try:
            everywhere = passes.everywhere.seconds <= limits.look_seconds and not self._passes.names_pages
            survey.look_frozen(passes.hints(), everywhere=everywhere)
            self._catalogue.sweep()
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
