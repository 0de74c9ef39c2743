"""What full comparisons find that was changed on the target, and not by us, and what was changed on the source and not
named (`storagemirror.sync.drift`).

A finding is told only once the watch has been asked what happened on the source during the comparison: a directory that
was moved then has old change times in it. Nothing is said of the first comparison of a connection, nor where change
times are not to be trusted: after a clock was set, without watches, on network file systems.
"""

from __future__ import annotations

import logging

from storagemirror.agent.named import Named
from storagemirror.agent.view import View
from storagemirror.clock import Clock, ahead_ns, rfc3339
from storagemirror.contract import Drifted, Missed
from storagemirror.entry import brief
from storagemirror.sync.changes import Drained
from storagemirror.sync.requests import MirrorResult

log = logging.getLogger("storagemirror.agent")

FIRST_NAMES = 16
CLOCK_NS = 1_000_000_000
"""A clock that has gone so much faster or slower than time itself was set."""


class Drifting:
    """Of one connection. For the thread that follows the changes."""

    def __init__(self, view: View, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._settled: tuple[int, int] | None = None
        """When the last full comparison began whose end is durable: by the wall, and how far the wall was ahead of
        the monotonic clock then. Nanoseconds."""
        self._compared: tuple[int, int] | None = None
        """The same of one that is not durable yet, and for which no mark is begun."""
        self._marking: tuple[int, int] | None = None
        """The same of one whose mark is open."""
        self._found: tuple[MirrorResult, Drained] | None = None
        """What is not told yet, and what the watch had told before that was not sent yet."""
        self._judging = False
        self._named, self._named_before = Named(), Named()
        """What was named since the latest comparison began, and since the one before it."""

    def since(self, *, trusted: bool) -> int | None:
        """For the next comparison; None: it cannot tell. `trusted`: change times are, and changes are named."""
        self._judging = trusted and self._settled is not None and self._clock_stood()
        return self._settled[0] if self._judging and self._settled is not None else None

    def compared(self, result: MirrorResult, unsent: Drained, *, told: bool = False) -> None:
        """A full comparison has ended. `unsent`: what the watch had told before, and is not sent yet. `told`: the
        target has told meanwhile what was changed there."""
        self._judging = self._judging and not told
        self._named, self._named_before = Named(), self._named
        self._compared = result.started_ns, ahead_ns(self._clock)
        self._found = (result, unsent) if self._judging else None

    def drained(self, changes: Drained) -> None:
        """What the watch has told since it ended; before anything else is done about it."""
        self._named.note(changes)
        found, self._found = self._found, None
        if found is None:
            return
        result, unsent = found
        named = Named()
        named.note(unsent)
        named.note(changes)
        if named.everything or not self._clock_stood():
            return
        paths = [path for path in result.drifted_first if not named.has(path)]
        count = result.drifted - (len(result.drifted_first) - len(paths))
        told = Drifted()
        if count > 0:
            first = tuple(map(brief, paths[:FIRST_NAMES]))
            told = Drifted(at=rfc3339(result.ended_ns), count=count, first=first)
            log.warning(
                "%d entries of the target were changed there, not by us, and were made equal again; the first: %s",
                *(count, ", ".join(told.first[:3])),
            )
        self._view.see(drifted=told, missed=self._missed(result, named))

    def _missed(self, result: MirrorResult, named: Named) -> Missed:
        """What the source had changed without a word."""
        if self._named_before.everything:
            return Missed()
        paths = [path for path in result.late_first if not (named.has(path) or self._named_before.has(path))]
        if not paths:
            return Missed()
        first = tuple(map(brief, paths[:FIRST_NAMES]))
        log.warning(
            "%d files had been changed without a word, and were sent by a full comparison; the first: %s",
            *(len(paths), ", ".join(first[:3])),
        )
        return Missed(at=rfc3339(result.ended_ns), count=len(paths), first=first)

    def marking(self) -> None:
        """A mark is begun for what was sent up to now; one at a time."""
        self._marking, self._compared = self._compared, None

    def marked(self, *, whole: bool) -> None:
        """What was sent before it was begun is durable; `whole`: nothing of it failed."""
        if self._marking is not None:
            self._settled = self._marking if whole else None
            self._marking = None

    def _clock_stood(self) -> bool:
        return self._settled is not None and abs(ahead_ns(self._clock) - self._settled[1]) < CLOCK_NS
