"""Which pairs care about a claim: from an event of a pod or a claim to the keys of pairs.

Filled by passes, which read live; an entry too many costs a pass, one too few is found by the next resync.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from storagemirror.kube.gather import Key


class Interest:
    """Claims of pairs. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claims: dict[Key, frozenset[str]] = {}
        self._keys: dict[tuple[str, str], set[Key]] = {}
        self._named: dict[str, Key] = {}
        self._nodes: dict[Key, frozenset[str]] = {}

    def request(self, uid: str, key: Key | None) -> None:
        """A Failover or Restore of this UID names the pair `key` (None: it is gone)."""
        with self._lock:
            if key is None:
                self._named.pop(uid, None)
            else:
                self._named[uid] = key

    def note_nodes(self, key: Key, nodes: frozenset[str]) -> None:
        """The writers of the pair `key` are on just these nodes."""
        with self._lock:
            if nodes:
                self._nodes[key] = nodes
            else:
                self._nodes.pop(key, None)

    def on_node(self, name: str) -> set[Key]:
        """Pairs with a writer on that node."""
        with self._lock:
            return {key for key, nodes in self._nodes.items() if name in nodes}

    def named(self, key: Key) -> bool:
        """Whether a Failover or Restore names this pair."""
        with self._lock:
            return key in self._named.values()

    def note(self, key: Key, claims: frozenset[str]) -> None:
        """The pair `key` has just these claims (none: it is gone)."""
        with self._lock:
            before = self._claims.get(key, frozenset())
            if before == claims:
                return
            for name in before - claims:
                keys = self._keys[key.namespace, name]
                keys.discard(key)
                if not keys:
                    del self._keys[key.namespace, name]
            for name in claims - before:
                self._keys.setdefault((key.namespace, name), set()).add(key)
            if claims:
                self._claims[key] = claims
            else:
                self._claims.pop(key, None)

    def of(self, namespace: str, claims: Iterable[str]) -> set[Key]:
        """Pairs that have any of `claims`."""
        with self._lock:
            return {key for name in claims for key in self._keys.get((namespace, name), ())}

    def keys(self) -> set[Key]:
        """All pairs that are known."""
        with self._lock:
            return set(self._claims)
