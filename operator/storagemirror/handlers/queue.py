"""The queue of pairs to look at: each key at most once, one thread a key, with delays and retries."""

from __future__ import annotations

import heapq
import itertools
import threading

from storagemirror.clock import Clock
from storagemirror.kube.gather import Key

FIRST_RETRY = 0.25
LAST_RETRY = 5.0


class WorkQueue:
    """Keys to look at. Safe for threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._busy: set[Key] = set()
        self._retries: dict[Key, int] = {}
        self._closed = False

    def add(self, key: Key, after: float = 0.0) -> None:
        """Look at `key` in `after` seconds, or sooner where that was wanted already. While a thread has it, it waits
        until that thread is done."""
        with self._changed:
            due = self._clock.monotonic() + after
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            heapq.heappush(self._heap, (due, next(self._order), key))
            self._changed.notify()

    def take(self, timeout: float) -> Key | None:
        """The next key that is due and that no thread has; None after `timeout` seconds, or when closed."""
        end = self._clock.monotonic() + timeout
        with self._changed:
            while not self._closed:
                now = self._clock.monotonic()
                key, wait = self._next(now)
                if key is not None:
                    self._busy.add(key)
                    return key
                left = end - now
                if left <= 0:
                    return None
                self._changed.wait(min(left, wait))
            return None

    def _next(self, now: float) -> tuple[Key | None, float]:
        """A key that can be taken, or how long until there may be one."""
        put_off: list[tuple[float, int, Key]] = []
        found: Key | None = None
        while self._heap and self._heap[0][0] <= now and found is None:
            entry = heapq.heappop(self._heap)
            due, _, key = entry
            if self._due.get(key) != due:
                continue  # it was wanted sooner, and has been taken since
            if key in self._busy:
                put_off.append(entry)
                continue
            del self._due[key]
            found = key
        for entry in put_off:
            heapq.heappush(self._heap, entry)
        later = [due for due, _, key in self._heap[:1] if due > now]
        return found, (later[0] - now if later else 3600.0)

    def done(self, key: Key, again: float | None = None) -> None:
        """The pass came to its end; look again in `again` seconds."""
        with self._changed:
            self._busy.discard(key)
            self._retries.pop(key, None)
            self._changed.notify()
        if again is not None:
            self.add(key, again)

    def retry(self, key: Key) -> None:
        """The pass was cut short: look again soon, later each time."""
        with self._changed:
            self._busy.discard(key)
            count = self._retries.get(key, 0)
            self._retries[key] = count + 1
            self._changed.notify()
        self.add(key, min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(count, 10)))

    def close(self) -> None:
        """Nobody gets a key any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __len__(self) -> int:
        with self._changed:
            return len(self._due)
