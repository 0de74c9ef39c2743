"""Events for people, on a pair, a Failover or a Restore. One that says the same again is counted, not repeated."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from storagemirror.api.failover import Failover
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.model import API_VERSION
from storagemirror.api.reasons import advised
from storagemirror.api.restore import Restore
from storagemirror.clock import Clock, rfc3339
from storagemirror.errors import StorageMirrorError
from storagemirror.kube import paths
from storagemirror.kube.client import MERGE, Api
from storagemirror.kube.faults import Conflict
from storagemirror.plan.decisions import Note

log = logging.getLogger(__name__)

About = MirrorPair | Failover | Restore
COMPONENT = "storagemirror"
MAX_MESSAGE = 1024
"""The API's limit."""


class Events:
    """Writes events. Never fails a pass: what cannot be said is logged."""

    def __init__(self, api: Api, clock: Clock) -> None:
        self._api = api
        self._clock = clock

    def say(self, about: About, note: Note) -> None:
        """Make the event, or count it once more."""
        meta = about.metadata
        log.info("%s/%s: %s: %s", meta.namespace, meta.name, note.reason, note.message)
        try:
            self._say(about, note)
        except StorageMirrorError as e:
            log.warning("%s/%s: event %s not written: %s", meta.namespace, meta.name, note.reason, e.message)

    def _say(self, about: About, note: Note) -> None:
        meta = about.metadata
        now = _seconds(self._clock.now_ns())
        name = event_name(about, note)
        try:
            self._api.create(paths.EVENTS, event(about, note, name=name, now=now))
        except Conflict:
            where = paths.path(paths.EVENTS, meta.namespace, name)
            there = self._api.get(dict[str, Any], paths.EVENTS, meta.namespace, name)
            again = {"count": int(there.get("count") or 1) + 1, "lastTimestamp": now}
            self._api.request("PATCH", where, body=again, kind=MERGE)


def event_name(about: About, note: Note) -> str:
    """The same for what says the same of the same pair."""
    digest = hashlib.sha256(f"{about.metadata.uid}/{note.type}/{note.reason}/{note.message}".encode()).hexdigest()
    return f"{about.metadata.name}.{digest[:16]}"


def event(about: About, note: Note, *, name: str, now: str) -> dict[str, Any]:
    """As core/v1, which `kubectl describe` shows under the object."""
    meta = about.metadata
    text = advised(note.message, note.reason) if note.type == "Warning" else note.message
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": meta.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": type(about).__name__,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
        },
        "type": note.type.value,
        "reason": str(note.reason),
        "message": text[:MAX_MESSAGE],
        "count": 1,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
    }


def _seconds(ns: int) -> str:
    return rfc3339(ns)[:19] + "Z"
