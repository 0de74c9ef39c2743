"""What is watched, and what an event means: keys in the queue, nothing else.

No create, update, delete, timer or daemon handlers: they would write annotations and finalizers. kopf never retries an
event handler; these cannot fail, and what an event sets off is retried by the queue.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import kopf
import msgspec

from storagemirror.api.model import GROUP, VERSION
from storagemirror.handlers.interest import Interest
from storagemirror.handlers.queue import WorkQueue
from storagemirror.kube.endings import Endings
from storagemirror.kube.gather import Key
from storagemirror.plan.ending import has_ended
from storagemirror.plan.objects import Pod
from storagemirror.resources import labels

BACKOFFS = (0.2, 0.5, 1.0)
BACKOFF_CAP = 2.0
WATCH_SECONDS = 300
"""A watch is begun anew this often: one that died silently is missed no longer."""
PAGE = 500


def by_address(account: kopf.ConnectionInfo, environment: Mapping[str, str]) -> kopf.ConnectionInfo:
    """`account` with the API server's address in the place of its name: watches need no cluster DNS."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        return account
    return dataclasses.replace(account, server=f"https://{f'[{host}]' if ':' in host else host}:{port}")


class Endless:
    """Seconds between attempts, without end: an outage of the API server must not end the operator."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(BACKOFFS, itertools.repeat(BACKOFF_CAP))


class Watches:
    """Turns events into keys. `heard` is called at each event (for liveness)."""

    def __init__(self, queue: WorkQueue, interest: Interest, endings: Endings, heard: Callable[[], None]) -> None:
        self._queue = queue
        self._interest = interest
        self._endings = endings
        self._heard = heard
        self._generations: dict[str, tuple[Any, ...]] = {}
        self._nodes: dict[str, tuple[Any, ...]] = {}

    def pair(self, kind: str | None, meta: Mapping[str, Any]) -> None:
        """A pair's spec changed, or it came or went. Its status is our own doing."""
        self._heard()
        uid = str(meta.get("uid"))
        mark = (meta.get("generation"), meta.get("deletionTimestamp"))
        known = self._generations.get(uid) == mark
        if kind == "DELETED":
            self._generations.pop(uid, None)
        else:
            self._generations[uid] = mark
        if not known or kind == "DELETED":
            self._queue.add(Key(str(meta["namespace"]), str(meta["name"])))

    def pod(self, namespace: str, body: Mapping[str, Any]) -> None:
        """An agent's pod, or one that mounts a claim of a pair. What it says of its end is kept: the object may be gone
        before a pass can read it."""
        self._heard()
        concerned = self._interest.of(namespace, claims_of(body))
        if concerned and has_ended(read_pod(body)):
            self._endings.note(str(body["metadata"]["uid"]))
        found = concerned | owners_of(namespace, body)
        for key in found:
            self._queue.add(key)

    def request(self, kind: str | None, namespace: str, body: Mapping[str, Any]) -> None:
        """A Failover or Restore: its pair is looked at."""
        self._heard()
        key = Key(namespace, str((body.get("spec") or {}).get("pairName")))
        self._interest.request(str(body["metadata"]["uid"]), None if kind == "DELETED" else key)
        self._queue.add(key)

    def service(self, namespace: str, marks: Mapping[str, str]) -> None:
        """A Service that the operator made: somebody may have turned it."""
        self._heard()
        name = marks.get(labels.PAIR_NAME)
        if name:
            self._queue.add(Key(namespace, name))

    def node(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """A node came, went, or is called another thing than before: Ready or not, or off."""
        self._heard()
        name = str(body["metadata"]["name"])
        conditions = (body.get("status") or {}).get("conditions") or ()
        ready = tuple(c.get("status") for c in conditions if c.get("type") == "Ready")
        taints = tuple(sorted(str(t.get("key")) for t in (body.get("spec") or {}).get("taints") or ()))
        mark = None if kind == "DELETED" else (ready, taints)
        known = self._nodes.get(name)
        if mark is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = mark
        if mark != known:
            for key in self._interest.on_node(name):
                self._queue.add(key)

    def claim(self, namespace: str, name: str) -> None:
        """A claim of a pair."""
        self._heard()
        for key in self._interest.of(namespace, (name,)):
            self._queue.add(key)


def read_pod(body: Mapping[str, Any]) -> Pod:
    """What decisions read of a pod, from the event's body."""
    return msgspec.convert({key: dict(body.get(key) or {}) for key in ("metadata", "spec", "status")}, type=Pod)


def claims_of(pod: Mapping[str, Any]) -> set[str]:
    """Names of the claims that a pod mounts."""
    volumes = (pod.get("spec") or {}).get("volumes") or ()
    return {str(v["persistentVolumeClaim"]["claimName"]) for v in volumes if "persistentVolumeClaim" in v}


def owners_of(namespace: str, pod: Mapping[str, Any]) -> set[Key]:
    """The pair that an agent's pod belongs to."""
    meta = pod.get("metadata") or {}
    if labels.PAIR not in (meta.get("labels") or {}):
        return set()
    owners = meta.get("ownerReferences") or ()
    return {Key(namespace, str(o["name"])) for o in owners if o.get("kind") == "MirrorPair"}


def register(registry: kopf.OperatorRegistry, watches: Watches) -> None:
    """Put the handlers and settings into `registry`."""

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.networking.error_backoffs = Endless()
        settings.networking.connect_timeout = 5.0
        settings.networking.request_timeout = 30.0
        settings.scanning.disabled = True
        settings.posting.enabled = False
        settings.watching.server_timeout = WATCH_SECONDS
        settings.watching.client_timeout = WATCH_SECONDS + 30.0
        settings.watching.chunk_size = PAGE
        # Pods that have ended are watched too: how they ended is the proof that they write no more.
        # A worker lingers after its object, and is all that is kept of it.
        settings.queueing.idle_timeout = 1.0

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        account = kopf.login_with_service_account(**kwargs)
        return by_address(account, os.environ) if account else kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, "mirrorpairs", registry=registry)
    def on_pair(type: str | None, meta: kopf.Meta, **_: Any) -> None:  # noqa: A002 - kopf's name for it
        watches.pair(type, meta)

    @kopf.on.event(GROUP, VERSION, "failovers", registry=registry)
    @kopf.on.event(GROUP, VERSION, "restores", registry=registry)
    def on_request(type: str | None, namespace: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        watches.request(type, namespace or "", body)

    @kopf.on.event("", "v1", "pods", registry=registry)
    def on_pod(namespace: str | None, body: kopf.Body, **_: Any) -> None:
        watches.pod(namespace or "", body)

    @kopf.on.event("", "v1", "services", registry=registry, labels={labels.APP_MANAGED_BY: labels.STORAGEMIRROR})
    def on_service(namespace: str | None, labels: kopf.Labels, **_: Any) -> None:
        watches.service(namespace or "", labels)

    @kopf.on.event("", "v1", "nodes", registry=registry)
    def on_node(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        watches.node(type, body)

    @kopf.on.event("", "v1", "persistentvolumeclaims", registry=registry)
    def on_claim(namespace: str | None, name: str, **_: Any) -> None:
        watches.claim(namespace or "", name)
