"""Holding a rate: a token bucket that whoever sends, or reads, waits for.

Each take moves the moment `_due` up to which the rate is used up. Who comes before it waits; who comes late finds at
most `BURST_SECONDS` of unused rate. So what is taken in any span of time is at most rate × (span + burst), and where
there is always something to take, it is as much.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from storagemirror.clock import Clock

BURST_SECONDS = 0.25
LOOK_SECONDS = 1.0
"""How often the limit is asked for: a window begins and ends so late at most."""
_PART_SECONDS, _LEAST_PART = 0.05, 256


class Pacer:
    """For any number of threads: they share the rate."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._limit: Callable[[], int | None] = lambda: None
        self._rate: int | None = None
        self._looked = -LOOK_SECONDS
        self._due = 0.0
        self._lifted = False

    def govern(self, limit: Callable[[], int | None]) -> None:
        """From now on so many bytes a second, as `limit` says; None is no limit. Who waits takes it up at once."""
        with self._changed:
            self._limit = limit
            self._look(self._clock.monotonic())
            self._changed.notify_all()

    def lift(self) -> None:
        """No limit any more, whatever is said: the connection is about to end."""
        with self._changed:
            self._lifted, self._rate = True, None
            self._changed.notify_all()

    def rate(self) -> int | None:
        """Bytes a second, now; None: no limit."""
        with self._changed:
            self._current()
            return self._rate

    def take(self, count: int, *, wait: bool = True) -> None:
        """Return when the last of `count` bytes may go. Without `wait` they go at once, and what follows waits for
        them too."""
        with self._changed:
            while count > 0:
                now = self._current()
                while wait and self._rate is not None and self._due > now:
                    self._changed.wait(min(self._due - now, LOOK_SECONDS))
                    now = self._current()
                if self._rate is None:
                    return
                # A part at a time: a limit that changes holds for the rest.
                part = min(count, max(_LEAST_PART, int(self._rate * _PART_SECONDS))) if wait else count
                self._due = max(self._due, now - BURST_SECONDS) + part / self._rate
                count -= part

    def _current(self) -> float:
        now = self._clock.monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._look(now)
        return now

    def _look(self, now: float) -> None:
        self._looked = now
        rate = None if self._lifted else self._limit()
        if rate != self._rate:
            # What is owed under another limit is not paid under this one.
            self._rate, self._due = rate, now
