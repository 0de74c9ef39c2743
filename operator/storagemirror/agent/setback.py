"""A wall clock that is set back while an agent runs.

What was done up to a moment is told by the source's wall clock, and so is when a file was changed. After the clock was
set back by an hour a moment of before lies in the future: for an hour everything would seem to be on the copy, and a
file that is written would look older than the last look at it.
"""

from __future__ import annotations

from storagemirror.clock import Clock, ahead_ns

LEAST_SECONDS = 0.1
"""A clock that is only slowed down goes back by less between two looks."""


class SetBack:
    """Compares the wall clock with the one that never goes back."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ns = ahead_ns(clock)

    def seconds(self) -> float:
        """By how much it was set back since the last call; 0.0 where it was not."""
        before, self._ahead_ns = self._ahead_ns, ahead_ns(self._clock)
        back = (before - self._ahead_ns) / 1e9
        return back if back >= LEAST_SECONDS else 0.0
