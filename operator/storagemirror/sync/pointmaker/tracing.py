"""The kernel's trace and inotify as one `Capture`: pages from the one, names from the other.

The trace is relied on only where a comparison has shown that it names what changes (`trust.Trust`), and only from one
drain in which nothing was lost to the next. Where it cannot be had, or has gone, this is a `WatchCapture` that says
why; it is tried again every minute. The ring buffers are emptied by the trace's own thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from storagemirror import contract
from storagemirror.clock import Clock
from storagemirror.fs import trace as kernel
from storagemirror.sync.pointmaker.capturing import Hints, Ranges, WatchCapture
from storagemirror.sync.watch import TreeWatch

log = logging.getLogger("storagemirror.agent")

AGAIN_SECONDS = 60.0
"""A trace that could not be had is tried again after so long."""
SOON_SECONDS = 2.0
"""The same where only the tracer did not answer: it may be about to begin. Each time twice as long."""
PATIENCE = 3
"""A trace that has lost something so often in a row is given up for a while: comparing everything each time takes
longer than having no trace."""


class TraceCapture:
    """See `Capture`. Close it; the watch stays the caller's."""

    def __init__(self, watch: TreeWatch, opens: Callable[[], kernel.Trace], clock: Clock) -> None:
        """`opens` is `open_trace` of the volume."""
        self._names = WatchCapture(watch)
        self._opens = opens
        self._clock = clock
        self._trace: kernel.Trace | None = None
        self._again = 0.0
        self._patience = SOON_SECONDS
        self._without = ""
        """Why there is no trace."""
        self._sound = False
        """Whether all that changed between the last two drains was named, as far as the trace knows."""
        self._lost = 0
        """Drains in a row in which something was."""
        self._missed = 0
        self._open()

    @property
    def mode(self) -> contract.Capture:
        """See `Capture`."""
        return contract.Capture.TRACE if self._proven and not self._without else self._names.mode

    @property
    def reason(self) -> str:
        """See `Capture`. A word of `TraceUnavailable`, or `TraceLost`, `TraceUnproven`, `TraceBroken`; `: `; a text."""
        if self._without:
            return self._without
        if not self._proven:
            return "TraceUnproven: no file that changed was compared yet with what the trace named of it"
        return self._names.reason

    @property
    def names_pages(self) -> bool:
        """See `Capture`."""
        return self._proven and self._sound

    @property
    def names_structure(self) -> bool:
        """See `Capture`."""
        return self._trace is None or self._trace.names_structure

    @property
    def broken(self) -> bool:
        """See `Capture`."""
        return self._missed > 0

    @property
    def _proven(self) -> bool:
        return self._trace is not None and self._trace.trust.proof is kernel.Proof.PROVEN

    def compared(self, named: int, missed: int) -> None:
        """See `Capture`."""
        if self._trace is None:
            return
        self._trace.trust.compared(named, missed)
        self._missed = self._trace.trust.missed
        if self._missed:
            self._without = f"TraceBroken: {self._missed} changes were not named; not relied on any more"

    def drain(self, *, frozen: bool = False) -> Hints:
        """See `Capture`. The pages first: what they are of has its name by then."""
        hints = self._pages(frozen)
        hints.add(self._names.drain())
        return hints

    def close(self) -> None:
        """Let go of the trace."""
        trace, self._trace, self._sound = self._trace, None, False
        if trace is not None:
            trace.close()

    def _open(self) -> None:
        self._again = self._clock.monotonic() + AGAIN_SECONDS
        self._sound, self._lost = False, 0
        try:
            self._trace = self._opens()
        except kernel.TraceUnavailable as e:
            without = f"{e.reason}: {e.message}"
            if without != self._without:
                log.info("no trace of the kernel here, pages are not named: %s", without)
            self._without = without
            if e.reason == kernel.NOT_READY:
                self._again = self._clock.monotonic() + self._patience
                self._patience = min(AGAIN_SECONDS, self._patience * 2)
        else:
            self._patience = SOON_SECONDS
            log.info("the kernel's trace is running, and to be compared with what changes")
            self._without = ""

    def _pages(self, frozen: bool) -> Hints:
        fresh = False
        if not frozen:  # neither is to be done while the application waits
            if self._trace is not None and (self.broken or self._lost > PATIENCE or self._trace.gone):
                if self._trace.gone:
                    self._again = 0.0
                self.close()
            if self._trace is None and not self.broken and self._clock.monotonic() >= self._again:
                self._open()
                fresh = self._trace is not None
        if self._trace is None:
            return Hints()
        found = self._trace.drain(frozen=frozen)
        # What changed before a new trace was there, nobody has named.
        lost = found.lost or fresh
        self._sound = not lost
        if found.lost and self._lost < PATIENCE:
            log.warning("what changed is compared as a whole: the kernel's trace has lost some: %s", found.why)
        self._lost = self._lost + 1 if found.lost else 0
        if self._lost > PATIENCE and not self._without:
            self._without = f"TraceLost: {found.why}"
            self._again = self._clock.monotonic() + AGAIN_SECONDS
        return _hints(found, lost)


def _hints(found: kernel.Hints, lost: bool) -> Hints:
    standing: dict[int, Ranges | None] = {inode: list(ranges) for inode, ranges in found.direct.items()}
    standing |= dict.fromkeys(found.structural)
    pages = {inode: list(ranges) for inode, ranges in found.pages.items()}
    return Hints(pages=pages, standing=standing, whole=set(found.structural), lost=lost)
