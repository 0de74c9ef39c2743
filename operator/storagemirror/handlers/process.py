"""The operator's process: take the lead, then watch, listen, and run passes until told to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType

import kopf
import msgspec

from storagemirror.clock import Clock
from storagemirror.errors import Passing, StorageMirrorError, Superseded
from storagemirror.handlers.health import Pulse, serve_health
from storagemirror.handlers.interest import Interest
from storagemirror.handlers.listener import Listener
from storagemirror.handlers.metrics import Metrics, serve_metrics
from storagemirror.handlers.queue import WorkQueue
from storagemirror.handlers.watches import Watches, register
from storagemirror.kube import paths
from storagemirror.kube.authority import CertificateAuthority
from storagemirror.kube.client import Api, connect
from storagemirror.kube.credentials import Credentials
from storagemirror.kube.election import LEASE_SECONDS, Election
from storagemirror.kube.endings import Endings
from storagemirror.kube.events import Events
from storagemirror.kube.execute import Executor
from storagemirror.kube.faults import Missing
from storagemirror.kube.gate import Gate
from storagemirror.kube.gather import Key, Sources, claim_names
from storagemirror.kube.heartbeats import Heartbeats
from storagemirror.kube.passes import Reconciler
from storagemirror.kube.reach import reach
from storagemirror.kube.release import release_orphans
from storagemirror.kube.throttle import Throttle
from storagemirror.plan.objects import PartialObject, RequestNames
from storagemirror.resources.pod import Image

log = logging.getLogger(__name__)

LEASE_NAME = "storagemirror-operator"
PER_SECOND, BURST = 300.0, 600
WORKERS = 2
BAD_INPUT_AGAIN = 60.0


@dataclass(frozen=True)
class Options:
    """What the chart sets."""

    namespace: str
    identity: str
    image: Image
    gate: Gate
    health_port: int = 8080
    metrics_port: int = 8081
    """0: none are served."""
    resync_seconds: float = 60.0
    lease_seconds: int = LEASE_SECONDS


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


class Operator:
    """The parts, put together."""

    def __init__(self, options: Options, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._stop = threading.Event()
        self._pulse = Pulse(clock)
        self._api = Api(connect(), Throttle(clock, per_second=PER_SECOND, burst=BURST))
        # Of its own connections and turns: the lead must not wait behind the work.
        lead = Api(connect(), Throttle(clock, per_second=5.0, burst=10))
        identity = f"{options.identity}_{uuid.uuid4()}"
        self._election = Election(
            lead,
            clock,
            namespace=options.namespace,
            name=LEASE_NAME,
            identity=identity,
            seconds=options.lease_seconds,
        )
        self._queue = WorkQueue(clock)
        self._interest = Interest()
        self._heartbeats = Heartbeats(clock)
        self._listener = Listener(self._api, self._heartbeats, self._queue, clock)
        authority = CertificateAuthority(self._api, options.namespace, clock)
        self._endings = Endings()
        sources = Sources(
            self._api,
            self._heartbeats,
            options.image,
            authority.authority,
            clock,
            partial(reach, clock),
            Credentials(clock),
            options.gate,
            self._endings,
            self._interest.named,
        )
        executor = Executor(self._api, authority)
        self._reconciler = Reconciler(
            sources, executor, Events(self._api, clock), clock, still_leading=self._election.leading
        )
        self._passed_at: dict[Key, float] = {}
        self._metrics = Metrics(clock, self._election.leading)

    def run(self) -> None:
        """Until SIGTERM. Ends the process where another operator has taken the lead."""
        health = serve_health(self._pulse, self._options.health_port)
        port = self._options.metrics_port
        metrics = serve_metrics(self._metrics, port) if port else None
        # Until kopf listens for it: the first process of a container ignores a signal that it does not handle.
        signal.signal(signal.SIGTERM, _leave)
        try:
            self._election.acquire(tried=lambda: self._pulse.beat("election"))
            self._await_kind()
        except SystemExit:
            log.info("told to stop while waiting")
            self._election.release()
            raise
        threads = [
            self._thread("lead", self._keep_lead),
            self._thread("listener", self._listen),
            self._thread("resync", self._resync),
            *(self._thread(f"worker-{i}", self._worker(f"worker-{i}")) for i in range(WORKERS)),
        ]
        registry = kopf.OperatorRegistry()
        # An event or a resync: in a cluster where nothing happens there are no events for hours.
        watches = Watches(self._queue, self._interest, self._endings, heard=lambda: self._pulse.beat("resync"))
        register(registry, watches)
        try:
            kopf.run(registry=registry, standalone=True, clusterwide=True)
        finally:
            self._stop.set()
            self._queue.close()
            for thread in threads:
                thread.join(timeout=5.0)
            self._election.release()
            health.shutdown()
            if metrics is not None:
                metrics.shutdown()

    def _await_kind(self) -> None:
        """kopf watches only what is served when it starts: wait for the CustomResourceDefinition."""
        while True:
            self._pulse.beat("election")
            try:
                for kind in (paths.PAIRS, paths.FAILOVERS, paths.RESTORES):
                    self._api.list(PartialObject, kind)
            except Missing:
                log.warning("our kinds are not served: install the CRDs (`storagemirror crds | kubectl apply -f -`)")
            except StorageMirrorError as e:
                log.warning("the pairs cannot be listed: %s", e.message)
            else:
                return
            self._clock.sleep(2.0)
            self._election.acquire()

    def _thread(self, name: str, run: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                run()
            except BaseException:
                # Half an operator is worse than none: the kubelet starts a whole one.
                log.exception("%s ended; the process ends", name)
                os._exit(1)

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _keep_lead(self) -> None:
        try:
            self._election.keep(self._stop, tried=lambda: self._pulse.beat("election"))
        except Superseded as e:
            log.error("%s", e.message)
            os._exit(1)

    def _listen(self) -> None:
        self._listener.listen(self._stop, tried=lambda: self._pulse.beat("listener"))

    def _resync(self) -> None:
        """List all pairs: what a watch missed is found here."""
        wait = 0.0
        while not self._stop.wait(wait):
            wait = self._options.resync_seconds
            self._pulse.beat("resync")
            try:
                pairs = self._api.list(PartialObject, paths.PAIRS)
            except StorageMirrorError as e:
                log.warning("the pairs cannot be listed: %s", e.message)
                wait = 2.0
                continue
            there = {Key(p.metadata.namespace, p.metadata.name) for p in pairs}
            self._requests()
            self._orphans()
            now = self._clock.monotonic()
            for key in there | self._interest.keys():
                if now - self._passed_at.get(key, -self._options.resync_seconds) >= self._options.resync_seconds:
                    self._queue.add(key)

    def _orphans(self) -> None:
        """A pair may have gone while no operator ran: pods that were held for it are let go of."""
        try:
            release_orphans(self._api)
        except StorageMirrorError as e:
            log.warning("pods of pairs that are gone cannot be let go of: %s", e.message)

    def _requests(self) -> None:
        """Which pairs Failovers and Restores name: what the watch missed is found here."""
        try:
            found = [r for kind in (paths.FAILOVERS, paths.RESTORES) for r in self._api.list(RequestNames, kind)]
        except StorageMirrorError as e:
            log.warning("the Failovers and Restores cannot be listed: %s", e.message)
            return
        for one in found:
            key = Key(one.metadata.namespace, one.spec.pair_name)
            self._interest.request(one.metadata.uid, key)
            if not one.status.ended_at:
                self._queue.add(key)

    def _worker(self, name: str) -> Callable[[], None]:
        def work() -> None:
            while not self._stop.is_set():
                self._pulse.beat(name)
                key = self._queue.take(timeout=5.0)
                if key is not None:
                    self._pass(key)

        return work

    def _pass(self, key: Key) -> None:
        """One pass; whatever happens, the key is given back."""
        if not self._election.leading():
            self._queue.retry(key)
            return
        try:
            passed = self._reconciler.run(key)
        except Passing as e:
            log.info("%s/%s: looked at again soon: %s", key.namespace, key.name, e.message)
            self._queue.retry(key)
        except msgspec.MsgspecError as e:
            # An object of another shape than we know: not ours to wait for with everything else.
            log.error("%s/%s: not understood: %s", key.namespace, key.name, e)
            self._queue.retry(key)
        except StorageMirrorError as e:
            log.error("%s/%s: %s", key.namespace, key.name, e)
            self._queue.done(key, BAD_INPUT_AGAIN)
        except Exception:
            log.exception("%s/%s: a fault of the operator's own", key.namespace, key.name)
            self._queue.retry(key)
        else:
            if passed.pair is None:
                self._interest.note(key, frozenset())
                self._interest.note_nodes(key, frozenset())
                self._passed_at.pop(key, None)
                self._metrics.forget(key)
            else:
                self._interest.note(key, claim_names(passed.pair))
                self._interest.note_nodes(key, frozenset(w.node for w in passed.pair.status.writers))
                self._passed_at[key] = self._clock.monotonic()
                if passed.status is not None and passed.volumes:
                    self._metrics.see(key, passed.status, passed.volumes)
            self._queue.done(key, passed.again)
