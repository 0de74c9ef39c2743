"""Ends of pods that the watch told of: an object in which every container has terminated.

The object may be gone a moment later; what was read of it stays a proof. Kept in memory, since the pass that follows
takes the pod off the pair's writers, and that is stored. What a restart misses is proven otherwise, or stays unproven.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

MOST = 10_000


class Endings:
    """UIDs of pods that have ended. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._uids: OrderedDict[str, None] = OrderedDict()

    def note(self, uid: str) -> None:
        """An object of this UID was read as ended."""
        with self._lock:
            self._uids[uid] = None
            self._uids.move_to_end(uid)
            while len(self._uids) > MOST:
                self._uids.popitem(last=False)

    def known(self) -> frozenset[str]:
        """All that were noted (the latest ten thousand)."""
        with self._lock:
            return frozenset(self._uids)
