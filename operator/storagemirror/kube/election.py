"""One leader: whoever holds a Lease may act.

Acquired, renewed and given back by compare-and-swap. Whether another holder's Lease has run out is judged by how long
*we* have seen it unchanged, never by its clock. While the API server does not answer, the leader stops acting before
its Lease could be taken, stays alive, and goes on when it finds the Lease still its own; it ends only when it finds
another's name there. Status and order writes are compare-and-swap besides, so that two leaders for a moment do no harm.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from storagemirror.clock import Clock, rfc3339
from storagemirror.errors import StorageMirrorError, Superseded
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.faults import Missing

log = logging.getLogger(__name__)

LEASE_SECONDS = 8
"""How long nobody leads when a leader has died: part of how long a failover takes with the leader on the dead node."""
RETRY_SECONDS = 1.0
SAFETY = 0.25
"""The leader stops acting when this part of its Lease is left; it renews when as much is gone."""


@dataclass
class _Seen:
    mark: tuple[str, str]
    since: float


class Election:
    """A Lease that says who leads. `identity` must differ between two lives of one pod as well."""

    def __init__(
        self, api: Api, clock: Clock, *, namespace: str, name: str, identity: str, seconds: int = LEASE_SECONDS
    ) -> None:
        self._api = api
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._seconds = seconds
        self._seen: _Seen | None = None
        self._renewed_at: float | None = None
        self._lock = threading.Lock()

    def leading(self) -> bool:
        """Whether we may act: the Lease is ours for some seconds more, whatever others do."""
        with self._lock:
            renewed = self._renewed_at
        return renewed is not None and self._clock.monotonic() - renewed < self._seconds * (1 - SAFETY)

    def acquire(self, *, tried: Callable[[], None] = lambda: None) -> None:
        """Return when we lead. `tried` is called at each attempt (for liveness)."""
        said = False
        while True:
            tried()
            try:
                if self.step():
                    log.info("leading: Lease %s/%s is held by %s", self._namespace, self._name, self._identity)
                    return
                if not said:
                    log.info("waiting: Lease %s/%s is held by another", self._namespace, self._name)
                    said = True
            except StorageMirrorError as e:
                log.warning("cannot ask for the lead: %s", e.message)
            self._clock.sleep(RETRY_SECONDS)

    def keep(self, stop: threading.Event, *, tried: Callable[[], None] = lambda: None) -> None:
        """Renew until `stop`. Raises `Superseded` when another leads. `tried` is called at each attempt."""
        while not stop.wait(self._seconds * SAFETY if self.leading() else RETRY_SECONDS):
            tried()
            try:
                if not self.step():
                    raise Superseded(f"another operator leads: Lease {self._namespace}/{self._name}")
            except Superseded:
                raise
            except StorageMirrorError as e:
                log.warning("the lead is not renewed: %s", e.message)

    def release(self) -> None:
        """Give the Lease back, so that another need not wait it out."""
        with self._lock:
            renewed, self._renewed_at = self._renewed_at, None
        if renewed is None:
            return
        try:
            lease = self._read()
            if lease["spec"].get("holderIdentity") == self._identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                self._api.replace(paths.LEASES, {**lease, "spec": spec})
        except StorageMirrorError as e:
            log.warning("the lead is not given back, and runs out by itself: %s", e.message)

    def step(self) -> bool:
        """Acquire or renew once; False when another holds the Lease, or was faster."""
        started = self._clock.monotonic()
        try:
            lease = self._read()
        except Missing:
            self._api.create(paths.LEASES, self._lease(None))
            return self._held(started)
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._run_out(holder, spec):
            return False
        self._api.replace(paths.LEASES, self._lease(lease))
        return self._held(started)

    def _read(self) -> dict[str, Any]:
        return self._api.get(dict[str, Any], paths.LEASES, self._namespace, self._name)

    def _held(self, since: float) -> bool:
        """Counted from before the request: the answer may have taken long."""
        with self._lock:
            self._renewed_at = since
        return True

    def _run_out(self, holder: str, spec: dict[str, Any]) -> bool:
        now = self._clock.monotonic()
        mark = (holder, str(spec.get("renewTime")))
        if self._seen is None or self._seen.mark != mark:
            self._seen = _Seen(mark, now)
        return now - self._seen.since > float(spec.get("leaseDurationSeconds") or self._seconds)

    def _lease(self, there: dict[str, Any] | None) -> dict[str, Any]:
        now = rfc3339(self._clock.now_ns())
        spec = dict((there or {}).get("spec") or {})
        if spec.get("holderIdentity") != self._identity:
            transitions = int(spec.get("leaseTransitions") or 0) + (1 if there is not None else 0)
            spec |= {"acquireTime": now, "leaseTransitions": transitions}
        spec |= {"holderIdentity": self._identity, "leaseDurationSeconds": self._seconds, "renewTime": now}
        metadata = (there or {}).get("metadata") or {"name": self._name, "namespace": self._namespace}
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}
