"""`compare: Checksum`: after a full comparison by size and time, every file by its content.

In slices, beside the changes that go on, as a proof (`storagemirror.agent.prove`), but for ever: what differs is sent,
and nothing is told of but the log. It reads both volumes whole, so it begins again with a full comparison only when
nineteen times as long has passed as it took.
"""

from __future__ import annotations

import logging

from storagemirror.agent.prove import ProvableSession, Volume
from storagemirror.clock import Clock
from storagemirror.entry import printable
from storagemirror.sync.proving import Proving, Run, Want, files_of

log = logging.getLogger("storagemirror.agent")

REST = 19
"""A twentieth of the time goes into it, at most."""


class Checker:
    """Of one connection; for the thread that follows the changes."""

    def __init__(self, session: ProvableSession, volume: Volume, clock: Clock) -> None:
        self._session = session
        self._volume = volume
        self._clock = clock
        self._run: Run | None = None
        self._not_before = 0.0

    def begin(self) -> None:
        """Everything was compared by size and time: look into the files, unless that goes on, or was just done."""
        if self._run is None and self._session.can_prove and self._clock.monotonic() >= self._not_before:
            self._run = self._check()

    def drop(self) -> None:
        """A proof needs the target's sums: give up until the next full comparison."""
        self._run = None

    def advance(self) -> Want | None:
        """A slice of work, and what is wanted before the next; None where nothing is to be done."""
        if self._run is None:
            return None
        try:
            return next(self._run)
        except StopIteration:
            self._run = None
            return Want.GO_ON

    def _check(self) -> Run:
        began = self._clock.monotonic()
        session, volume = self._session, self._volume
        session.asking.begin()
        proving = Proving(session, lambda path, found: False, to_the_end=True)
        yield from proving.run(files_of(volume.tree, lambda path, found: True, volume.selection))
        took = self._clock.monotonic() - began
        self._not_before = began + (1 + REST) * took
        log.info(
            "compared by content in %.1f s: %d files, %d bytes; %d differed although nothing showed it, and were sent",
            *(took, proving.total.files, proving.content_bytes, proving.differing),
        )
        if proving.left:
            first = printable(proving.left[0])
            log.warning("%d files changed each time they were compared; the first: %s", len(proving.left), first)
