"""The order of this agent: read from the API and watched, kept while the API is away.

The order is never mounted as a file: the kubelet takes up to a minute and a half to bring a change. An API server that
is away changes nothing: the last order stands.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec

from storagemirror.agent.api import ApiClient, WatchExpired
from storagemirror.contract import ORDER_KEY, Order, Role, decode
from storagemirror.errors import ApiUnavailable, BadInput, Permanent, StorageMirrorError

log = logging.getLogger("storagemirror.agent")

SOON, LATE = 1.0, 15.0
"""Seconds: first and longest wait before the API is asked again."""


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    resource_version: str = ""


class _ConfigMap(msgspec.Struct, frozen=True):
    """What of a ConfigMap carries the order."""

    metadata: _Metadata
    data: dict[str, str] = {}


class Orders:
    """Runs in a thread of its own, `follow`; `current` and `wait` are for the others."""

    def __init__(self, api: ApiClient, namespace: str, name: str, role: Role) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._name = name
        self._role = role
        self._changed = threading.Condition()
        self._order: Order | None = None
        self._problem: StorageMirrorError | None = None
        self._closing = False
        self.on_change: Callable[[], None] = _nothing
        """Called by `follow` after each new order."""

    def current(self) -> Order | None:
        """The latest order; None before the first."""
        with self._changed:
            return self._order

    def problem(self) -> StorageMirrorError | None:
        """Why the latest look for an order gave none; None when it did."""
        with self._changed:
            return self._problem

    def wait(self, known: Order | None, timeout: float) -> Order | None:
        """The latest order, as soon as it is another than `known`, at most `timeout` seconds later."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._order != known, timeout)
            return self._order

    def close(self) -> None:
        """End `follow` and every `wait`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._api.interrupt()

    def refresh(self) -> None:
        """Begin the watch again: after an outage, one that died in silence is not waited for."""
        self._api.interrupt()

    def follow(self) -> None:
        """Read and watch until closed."""
        delay = SOON
        while not self._closing:
            try:
                version = self._read()
                delay = SOON
                self._watch(version)
            except WatchExpired:
                continue
            except (ApiUnavailable, Permanent) as e:
                if self._closing:
                    return
                self._failed(e)
                with self._changed:
                    self._changed.wait_for(lambda: self._closing, delay)
                delay = min(delay * 2, LATE)

    def _read(self) -> str:
        """Get the order; returns the resource version to watch from."""
        return self._take(self._api.get(f"{self._path}/{self._name}"))

    def _watch(self, version: str) -> None:
        query = {"fieldSelector": f"metadata.name={self._name}", "resourceVersion": version}
        for event in self._api.watch(self._path, query):
            # A deleted order says nothing new: the pod goes the same way, and until then the last order stands.
            if event.type in ("ADDED", "MODIFIED"):
                self._take(bytes(event.object))

    def _take(self, text: bytes) -> str:
        try:
            found = msgspec.json.decode(text, type=_ConfigMap)
        except msgspec.MsgspecError as e:
            raise ApiUnavailable(f"expected a ConfigMap from the API server: {e}") from e
        try:
            order = self._checked(found.data)
        except BadInput as e:
            self._failed(e)
            return found.metadata.resource_version
        self._accept(order)
        return found.metadata.resource_version

    def _accept(self, order: Order) -> None:
        with self._changed:
            self._problem = None
            if order == self._order:
                return
            self._order = order
            self._changed.notify_all()
        log.info("order %d: %s, epoch %d, instance %d", order.revision, order.action, order.epoch, order.instance)
        self.on_change()

    def _checked(self, data: dict[str, str]) -> Order:
        if ORDER_KEY not in data:
            raise BadInput(f"expected the key {ORDER_KEY} in the ConfigMap {self._name}", reason="OrderInvalid")
        try:
            order = decode(Order, data[ORDER_KEY])
        except BadInput as e:
            raise BadInput(e.message, reason="OrderInvalid", hint="operator and agent may be too far apart") from e
        if order.role is not self._role:
            raise BadInput(f"this agent is a {self._role}, the order is for a {order.role}", reason="OrderInvalid")
        return order

    def _failed(self, error: StorageMirrorError) -> None:
        with self._changed:
            new = self._problem is None or self._problem.message != error.message
            self._problem = error
            self._changed.notify_all()
        if new:
            log.warning("no new order: %s%s", error.message, f" ({error.hint})" if error.hint else "")


def _nothing() -> None:
    """Nobody listens."""
