"""Accounts, roles, bindings and certificates of a pair's agents, as they were read at most a minute ago.

Nobody but the operator writes them, and reading them live in each pass was nearly half of its requests. A pass that did
anything forgets those of its pair; so does one that failed. What somebody else deletes is put back within a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from storagemirror.clock import Clock

FRESH_SECONDS = 60.0

T = TypeVar("T")


class Credentials:
    """What was read, by the pair's UID and by what it is. Safe for threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._read: dict[str, tuple[float, dict[str, Any]]] = {}

    def read(self, uid: str, what: str, read: Callable[[], T]) -> T:
        """What `read` brings, or brought at most a minute ago. What it raises is not kept."""
        now = self._clock.monotonic()
        with self._lock:
            known: Mapping[str, Any] = {}
            if uid in self._read and now - self._read[uid][0] < FRESH_SECONDS:
                known = self._read[uid][1]
            if what in known:
                found: T = known[what]
                return found
        found = read()
        with self._lock:
            since, kept = self._read.get(uid, (now, {}))
            if now - since >= FRESH_SECONDS:
                # All of a pair are read anew together; what is left of pairs that are gone goes as well.
                self._read = {u: r for u, r in self._read.items() if now - r[0] < 10 * FRESH_SECONDS}
                since, kept = now, {}
            kept[what] = found
            self._read[uid] = since, kept
        return found

    def forget(self, uid: str) -> None:
        """Something was done, or refused: read them live next time."""
        with self._lock:
            self._read.pop(uid, None)
