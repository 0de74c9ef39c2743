"""The process of an agent: its threads, its signals, its end.

Everything it must know after a crash lies on the volumes and in its order, so it may be killed at any moment.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import Protocol

from storagemirror import __version__
from storagemirror.agent.api import ApiClient
from storagemirror.agent.context import Context
from storagemirror.agent.freezing import watch_guard
from storagemirror.agent.heartbeat import Heartbeat
from storagemirror.agent.orders import Orders
from storagemirror.agent.priority import yield_to_others
from storagemirror.agent.settings import Settings
from storagemirror.agent.source import SourceAgent
from storagemirror.agent.target import TargetAgent
from storagemirror.agent.tls import Tls
from storagemirror.agent.view import View, problem_of
from storagemirror.clock import SystemClock
from storagemirror.contract import Phase, Role
from storagemirror.errors import StorageMirrorError, Superseded
from storagemirror.sync.guardwords import SOCKET_NAME

log = logging.getLogger("storagemirror.agent")

END_SECONDS, GOODBYE_SECONDS = 1.5, 1.0
"""How long the work may take to end, its last changes included, and how long those may take."""


class _Agent(Protocol):
    def run(self) -> None: ...
    def reconsider(self) -> None: ...
    def cut(self) -> None: ...


class Process:
    """One agent. `run` returns the exit status: 0 for an end that was asked for, 1 for a fault of ours."""

    def __init__(self, settings: Settings) -> None:
        clock = SystemClock()
        orders = Orders(ApiClient(settings.api), settings.namespace, settings.order, settings.role)
        view = View(settings.instance, settings.pod_uid, clock)
        self._context = Context(settings, view, orders, Tls(settings.tls), clock)
        self._agent: _Agent = (SourceAgent if settings.role is Role.SOURCE else TargetAgent)(self._context)
        orders.on_change = self._agent.reconsider
        path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace}/leases/{settings.lease}"
        # The last word must not wait for an API server that is away.
        self._heart = Heartbeat(ApiClient(settings.api), path, settings.pod_name or settings.lease, view, clock)
        self._heart.on_recovered = orders.refresh
        self._last_word = Heartbeat(ApiClient(settings.api, END_SECONDS / 3), path, settings.pod_name, view, clock)
        self._ended = threading.Event()
        self._status = 0

    def run(self) -> int:
        """Work until the order or a signal ends it."""
        settings = self._context.settings
        log.info(
            "storagemirror %s, %s agent %d, pod %s", __version__, settings.role, settings.instance, settings.pod_name
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if settings.role is Role.SOURCE:
            yield_to_others()
        threads = [
            threading.Thread(target=self._guard, args=(work,), name=name, daemon=True)
            for name, work in (
                ("agent", self._agent.run),
                ("orders", self._context.orders.follow),
                ("heartbeat", lambda: self._heart.beat(self._context.stop)),
                ("freezing", self._watch_guard),
            )
            if name != "freezing" or settings.guard is not None
        ]
        for thread in threads:
            thread.start()
        # Not Event.wait() without a limit: signals are handled between its slices on every platform.
        while not self._ended.wait(3600):
            continue
        self._end(threads)
        return self._status

    def _watch_guard(self) -> None:
        context = self._context
        socket = os.path.join(context.settings.guard or "", SOCKET_NAME)
        watch_guard(socket, context.view, context.stop)

    def _stop(self, number: int, frame: object) -> None:
        log.info("%s: ending", signal.Signals(number).name)
        self._ended.set()

    def _guard(self, work: _Work) -> None:
        """A thread must not end unnoticed: that of the agent ends the process, and a fault in any does."""
        try:
            work()
        except Superseded as e:
            log.info("ending: %s", e.message)
            self._context.view.see(problem=problem_of(e))
        except StorageMirrorError as e:
            log.error("%s: %s%s", e.reason, e.message, f" ({e.hint})" if e.hint else "")
            self._context.view.trouble(e, Phase.FAILED)
            self._status = 1
        except Exception:
            log.exception("a fault in storagemirror itself; starting anew")
            self._status = 1
        self._ended.set()

    def _end(self, threads: list[threading.Thread]) -> None:
        context, deadline = self._context, time.monotonic() + END_SECONDS
        context.stop.set()
        context.orders.close()
        context.view.wake()
        self._agent.reconsider()
        threads[0].join(GOODBYE_SECONDS)
        self._agent.cut()
        for thread in threads:
            thread.join(max(0.05, deadline - time.monotonic()))
        if not self._status:
            context.view.see(phase=Phase.STOPPED, peer_connected=False)
        last = threading.Thread(target=self._last_word.renew, daemon=True)
        last.start()
        last.join(END_SECONDS / 3)


class _Work(Protocol):
    def __call__(self) -> object: ...


def set_up_log() -> None:
    """One line for each thing, to stderr: time (UTC), level, what."""
    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")
    form.converter = time.gmtime
    handler.setFormatter(form)
    root = logging.getLogger("storagemirror")
    root.addHandler(handler)
    root.setLevel(os.environ.get("STORAGEMIRROR_LOG", "INFO").upper())
