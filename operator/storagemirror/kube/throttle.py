"""How fast the operator may ask: a token bucket."""

from __future__ import annotations

import threading

from storagemirror.clock import Clock


class Throttle:
    """At most `burst` calls at once, `per_second` in the long run; callers wait their turn."""

    def __init__(self, clock: Clock, *, per_second: float, burst: int) -> None:
        self._clock = clock
        self._rate = per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._filled_at = clock.monotonic()
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when one more call is allowed."""
        with self._lock:
            now = self._clock.monotonic()
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
            self._filled_at = now
            self._tokens -= 1.0
            delay = -self._tokens / self._rate
        if delay > 0:
            self._clock.sleep(delay)
