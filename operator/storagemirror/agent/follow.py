"""One connection of a source: mirror, then send each change as it comes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from storagemirror.agent.drifting import Drifting
from storagemirror.agent.setback import SetBack
from storagemirror.agent.view import View
from storagemirror.clock import Clock, onward
from storagemirror.contract import Capture, CompareBy, Phase, Problem
from storagemirror.errors import VolumeFull
from storagemirror.fs.identity import NETWORK_FILE_SYSTEMS, Facts
from storagemirror.sync.changes import Drained
from storagemirror.sync.left import LeftAlone
from storagemirror.sync.proving import Want
from storagemirror.sync.requests import Changes, MirrorOptions, MirrorResult

log = logging.getLogger("storagemirror.agent")

IDLE_SECONDS = 1.0
"""With nothing to send, the target is told so often up to when nothing has happened."""
MARK_SECONDS = 0.5
"""While there is something to send, at least so long between two marks: each costs the target an fsync of all."""
OPEN_NAMES = 10_000
"""While the target syncs, changes are sent on until so many are not settled; more wait in the watch, up to a limit."""
DISTURBED_SECONDS, DISTURBED_SHARE = 5.0, 4
"""Where somebody else changes the target again and again: so long, and so many times what it took, until the comparison
after one that mended that. The first one is made at once."""
MUCH_READ = 16 << 20
REST_SHARE, LONGEST_REST = 2.0, 0.3
"""Where large files are written all the time they would be read all the time. After so many bytes of them were looked
at in one go, and more had changed meanwhile, changes wait for so many times what that took, seconds at most."""
LATE_SHARE = 0.1
"""A change is late that was not named within so much of the time between two full comparisons."""
RETRY_SECONDS = 30.0
"""Entries that the target could not write are tried again after so long, by a full comparison."""
NETWORK_SECONDS = 60.0
"""Between full comparisons on network file systems: inotify tells nothing of what other nodes do there."""
SLICE_SECONDS, LONGEST_SLICE = 0.1, 0.5
"""A proof works so long at a time, then changes have their turn; longer where these took longer."""
ANSWER_SECONDS = 0.02
"""With nothing to do but to wait for the target's answer to it."""


NOTHING = Drained()


class Sends(Protocol):
    """What is needed of a `SourceSession`."""

    def mirror(self, options: MirrorOptions) -> MirrorResult: ...
    def apply(self, changes: Changes) -> None: ...
    def begin_mark(self, through_ns: int) -> None: ...
    def marked(self, seconds: float | None) -> bool: ...
    @property
    def disturbed(self) -> int: ...
    @property
    def compared_bytes(self) -> int: ...
    @property
    def left(self) -> tuple[LeftAlone, ...]: ...


class Reads(Protocol):
    """What is needed of a `SourceVolume`."""

    def check_identity(self) -> None: ...
    def facts(self) -> Facts: ...


class Sees(Protocol):
    """What is needed of a `TreeWatch`."""

    @property
    def capture(self) -> Capture: ...
    @property
    def reason(self) -> str: ...


class Collects(Protocol):
    """What is needed of `Unsettled`."""

    @property
    def names(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    def drain(self, timeout: float) -> Drained: ...
    def marking(self) -> None: ...
    def settled(self) -> None: ...


class Proves(Protocol):
    """What is needed of a `Prover`."""

    @property
    def problem(self) -> Problem | None: ...
    def note(self, changes: Drained) -> None: ...
    def advance(self) -> Want | None: ...


class Queues(Protocol):
    """What is needed of `Queueing`."""

    @property
    def overflows(self) -> int: ...
    @property
    def overflowed(self) -> bool: ...
    def covered(self, overflows: int) -> None: ...


class Checks(Protocol):
    """What is needed of a `Checker`."""

    def begin(self) -> None: ...
    def drop(self) -> None: ...
    def advance(self) -> Want | None: ...


class Rescans(Protocol):
    """What is needed of a `Rescan`."""

    def compared(self, started_ns: int) -> None: ...
    def drained(self, changes: Drained) -> None: ...
    def advance(self) -> None: ...


@dataclass(frozen=True)
class Ends:
    """What one connection works with."""

    session: Sends
    volume: Reads
    watch: Sees
    unsettled: Collects
    prover: Proves
    checker: Checks
    queueing: Queues
    rescan: Rescans
    """Finds what was written without an event."""
    remirror: Callable[[], CompareBy | None] = lambda: None
    """How files are judged after names were dropped, as the order says it."""


class Following:
    """From the first mirror of a connection to its end."""

    def __init__(
        self,
        ends: Ends,
        view: View,
        clock: Clock,
        compare_seconds: float,
        compare: CompareBy = CompareBy.SIZE_AND_TIME,
    ) -> None:
        """`compare_seconds`: at least so long between two full comparisons while changes are watched."""
        self._by_content = compare is CompareBy.CHECKSUM
        # By content in slices, so that changes need not wait for it.
        self._by = CompareBy.SIZE_AND_TIME if self._by_content else compare
        self._drifting = Drifting(view, clock)
        self._checker = ends.checker
        self._session, self._volume = ends.session, ends.volume
        self._queueing, self._remirror = ends.queueing, ends.remirror
        self._watch, self._unsettled = ends.watch, ends.unsettled
        self._prover = ends.prover
        self._rescan = ends.rescan
        self._view = view
        self._clock = clock
        self._set_back = SetBack(clock)
        self._compare_seconds = compare_seconds
        self._compare_due = 0.0
        self._mended = 0
        """What `disturbed` was when the last full comparison began."""
        self._mend_due = 0.0
        self._follows = False
        """Changes follow as they come: no points are made."""
        self._once = False
        """A run: what is due, and nothing between."""
        self._whole_ns = 0
        self._marked = 0.0
        self._marking: int | None = None
        """Up to when all is durable once the target has answered; None: it is not asked."""
        self._dirty = False
        self._step_took = 0.0

    def run(self, wanted: Callable[[], bool]) -> None:
        """Mirror, then follow, as long as the connection is `wanted`. Raises what ends it."""
        self.settle_down(follows=True)
        log.info("everything is compared and on the target; changes follow")
        while wanted():
            most = self._prove()
            if most is None and self._watch.capture is Capture.WATCH:
                self._rescan.advance()
            due = ANSWER_SECONDS if self._marking is not None else self._mark_due()
            self._step(max(0.0, due if most is None else min(due, most)))

    def settle_down(self, *, follows: bool = False) -> int:
        """Mirror, and send what changed meanwhile; when the mirror began, in nanoseconds since the Unix epoch.
        `follows`: no points come after that."""
        self._follows, self._once = follows, False
        self._begin()
        self._compare()
        self.settle()
        self._view.see(phase=Phase.REPLICATING, mirrored_ns=self._clock.now_ns())
        return self._whole_ns

    def once(self) -> bool:
        """A run: everything that the source holds now is compared, sent and made durable; True then. Raises as
        `run`."""
        self._follows = self._once = True
        before = self._drain(0.0)
        self._prover.note(before)
        if self._view.sight.mirrored_ns is None:
            self._begin()
        elif self._view.sight.phase is not Phase.HELD:
            self._view.see(phase=Phase.REPLICATING)
        self._compare(before)
        if before and not before.whole:
            # What kept its size and time is not found by comparing.
            self._session.apply(before)
        self.settle()
        # By content too, where that is wanted.
        while (most := self._prove()) is not None:
            self._step(most)
        self.settle()
        self._view.see(phase=Phase.REPLICATING, mirrored_ns=self._clock.now_ns())
        return True

    def settle(self) -> None:
        """Send what has changed up to now, and make it durable: the last thing before a good end."""
        self._step(0.0, settle=True)

    def _begin(self) -> None:
        """Show that a mirror runs; a hold stays shown until it is through, and that the target was full."""
        sight = self._view.sight
        self._see_capture()
        if sight.phase is Phase.HELD:
            return
        full = sight.problem is not None and sight.problem.reason == VolumeFull.reason
        self._view.see(phase=Phase.MIRRORING, problem=sight.problem if full else None)

    def _prove(self) -> float | None:
        """A slice of a proof that is ordered; how long the next step may wait then, None: as long as it likes."""
        end = self._clock.monotonic() + min(LONGEST_SLICE, max(SLICE_SECONDS, self._step_took))
        while (want := self._slice()) is Want.GO_ON and self._clock.monotonic() < end:
            pass
        match want:
            case Want.WAIT:
                return ANSWER_SECONDS
            case Want.COMPARE:
                self._step(0.0)
                self._compare()
            case Want.MARK:
                self._step(0.0, settle=True)
        return None if want is None else 0.0

    def _slice(self) -> Want | None:
        want = self._prover.advance()
        if want is None:
            return self._checker.advance()
        self._checker.drop()
        return want

    def _step(self, timeout: float, *, settle: bool = False) -> None:
        """Take what has changed, send it, and make it durable when it is time (or at once: `settle`)."""
        if self._unsettled.names > OPEN_NAMES:
            self._hear_mark(None)
        changes = self._drain(timeout)
        began = self._clock.monotonic()
        self._prover.note(changes)
        # What is missing on another file system than ours was not deleted.
        self._volume.check_identity()
        self._see_capture()
        self._look_at_the_clock()
        rest = 0.0
        if changes and not changes.whole:
            before = self._session.compared_bytes
            self._session.apply(changes)
            self._dirty = True
            self._see_left()
            if self._session.compared_bytes - before > MUCH_READ and self._unsettled.waiting and not settle:
                rest = min(REST_SHARE * (self._clock.monotonic() - began), LONGEST_REST)
        if changes.whole or self._clock.monotonic() >= self._compare_due or self._to_mend():
            self._compare(changes if changes.whole else NOTHING)
        self._hear_mark(None if settle else 0.0)
        if settle or (self._marking is None and self._mark_due() <= 0):
            self._begin_mark(max(changes.through_ns, self._whole_ns))
            # With nothing to sync the answer comes at once.
            self._hear_mark(None if settle else ANSWER_SECONDS)
        self._step_took = self._clock.monotonic() - began
        if rest > 0:
            self._clock.sleep(rest)

    def _look_at_the_clock(self) -> None:
        """What was remembered with times of a clock that was set back is of no use any more: everything is compared."""
        back = self._set_back.seconds()
        if back:
            log.warning("this node's clock was set back by %.1f s: both sides are compared", back)
            self._compare_due = self._whole_ns = 0

    def _to_mend(self) -> bool:
        """Whether somebody else has changed the target, and it is time to make it equal again."""
        return self._session.disturbed > self._mended and self._clock.monotonic() >= self._mend_due

    def _drain(self, timeout: float) -> Drained:
        changes = self._unsettled.drain(timeout)
        self._drifting.drained(changes)
        self._rescan.drained(changes)
        return changes

    def _compare(self, unsent: Drained = NOTHING) -> None:
        """A full comparison. `unsent`: what was drained, and is not sent yet."""
        self._volume.check_identity()
        self._hear_mark(None)  # what it tells of failures is of before
        start, overflows, by_content = self._clock.monotonic(), self._queueing.overflows, self._by_content
        if self._queueing.overflowed and (remirror := self._remirror()) is not None:
            by_content = remirror is CompareBy.CHECKSUM
            log.warning("more changed than could be queued: both sides are compared by %s", remirror)
        network = self._volume.facts().fs_type in NETWORK_FILE_SYSTEMS
        named = self._watch.capture is Capture.WATCH and not unsent.whole
        # What its watch has seen the target itself tells; and it takes more for changed than is.
        disturbed = self._session.disturbed
        mends, self._mended = disturbed > self._mended, disturbed
        since = self._drifting.since(trusted=named and not network and not mends)
        # What was not named until now may still be found by its ctime. In runs nothing is sent by name.
        late_ns = 0 if self._once else self._clock.now_ns() - round(LATE_SHARE * self._compare_seconds * 1e9)
        result = self._session.mirror(
            MirrorOptions(self._by, sync_source=True, settled_ns=since, late_before_ns=late_ns, follows=self._follows)
        )
        self._drifting.compared(result, unsent, told=self._session.disturbed > disturbed)
        self._rescan.compared(result.started_ns)
        self._see_left()
        if by_content:
            self._checker.begin()
        self._queueing.covered(overflows)
        self._whole_ns = result.started_ns
        self._dirty = True
        now = self._clock.monotonic()
        if mends:
            log.info("somebody else had changed the target: it was compared")
            self._mend_due = now + max(DISTURBED_SECONDS, DISTURBED_SHARE * (now - start))
        period = NETWORK_SECONDS if network else self._compare_seconds
        # It reads all names of the source: at most a twentieth of the time goes into it.
        self._compare_due = now + max(period, 20 * (now - start))
        if self._view.sight.phase is Phase.REPLICATING:
            self._view.see(mirrored_ns=self._clock.now_ns())

    def _mark_due(self) -> float:
        """In how many seconds the next mark is to be begun."""
        period = MARK_SECONDS if self._dirty else IDLE_SECONDS
        return self._marked + period - self._clock.monotonic()

    def _begin_mark(self, through_ns: int) -> None:
        self._session.begin_mark(through_ns)
        self._unsettled.marking()
        self._drifting.marking()
        self._marking = through_ns
        self._dirty = False

    def _hear_mark(self, seconds: float | None) -> None:
        """Take the answer to the mark that was begun, if there is one; wait so long for it, None: until it comes."""
        while self._marking is not None:
            if self._session.marked(seconds):
                self._settled(self._marking)
            elif seconds is not None:
                return

    def _settled(self, through_ns: int) -> None:
        self._marking = None
        self._unsettled.settled()
        self._marked = self._clock.monotonic()
        failed, first = self._view.failed_entries()
        self._drifting.marked(whole=not failed)
        if failed:
            # Not everything up to then is on the target: the time stands still until a comparison has mended it.
            self._compare_due = min(self._compare_due, self._marked + RETRY_SECONDS)
            self._view.see(problem=_entries_failed(failed, first))
            return
        through_ns = onward(self._view.sight.through_ns, through_ns, self._clock)
        self._view.see(through_ns=through_ns, problem=self._prover.problem)

    def _see_left(self) -> None:
        left = self._session.left
        if left != self._view.sight.left:
            self._view.see(left=left)

    def _see_capture(self) -> None:
        capture, why = self._watch.capture, self._watch.reason
        if (capture, why) == (self._view.sight.capture, self._view.sight.capture_why):
            return
        self._view.see(capture=capture, capture_why=why)
        if capture is Capture.SCAN:
            log.warning("changes are found by comparing the whole tree again and again: %s", why)


def _entries_failed(count: int, first: str) -> Problem:
    return Problem(
        reason="EntriesFailed",
        message=f"{count} entries could not be written on the target; the first: {first}",
        hint="they are tried again with a full comparison every 30 s",
    )
