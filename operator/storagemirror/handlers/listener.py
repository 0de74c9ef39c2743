"""Hears the agents: one list of all Leases every two seconds (watched through kopf they would cost 12 % of a core)."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from storagemirror.clock import Clock
from storagemirror.contract import Phase, Report, Role
from storagemirror.errors import StorageMirrorError
from storagemirror.handlers.queue import WorkQueue
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.gather import Key
from storagemirror.kube.heartbeats import LISTEN_SECONDS, Heartbeats, report_of
from storagemirror.plan.lifecycle import DEAF_SECONDS, SILENT_SECONDS
from storagemirror.plan.objects import Lease
from storagemirror.plan.publish import FLOWING_SAMPLE, MIRRORING_SAMPLE, QUIET_SAMPLE
from storagemirror.resources import labels

log = logging.getLogger(__name__)


@dataclass
class _Told:
    """What of an agent has led to a look last."""

    news: tuple[object, ...]
    sent: int
    looked_at: float


class Listener:
    """Turns what agents say into keys: at once for news, now and then for a fresh sample."""

    def __init__(self, api: Api, heartbeats: Heartbeats, queue: WorkQueue, clock: Clock) -> None:
        self._api = api
        self._heartbeats = heartbeats
        self._queue = queue
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def listen(self, stop: threading.Event, *, tried: Callable[[], None] = lambda: None) -> None:
        """Until `stop`. `tried` is called at each attempt (for liveness)."""
        while not stop.wait(LISTEN_SECONDS):
            tried()
            try:
                self.once()
            except StorageMirrorError as e:
                log.warning("the agents cannot be heard: %s", e.message)

    def once(self) -> None:
        """List all Leases of agents, and put those pairs into the queue that are worth a look."""
        leases = self._api.list(Lease, paths.LEASES, labels=labels.AGENT_SELECTOR)
        self._heartbeats.listened(leases)
        now = self._clock.monotonic()
        for lease in leases:
            self._one(lease, now)
        there = {lease.metadata.uid for lease in leases}
        self._told = {uid: told for uid, told in self._told.items() if uid in there}

    def _one(self, lease: Lease, now: float) -> None:
        owners = [o for o in lease.metadata.owner_references if o.kind == "MirrorPair"]
        if not owners:
            return
        heard = self._heartbeats.heard(lease)
        silent = heard.silent_for >= SILENT_SECONDS, heard.silent_for >= DEAF_SECONDS
        report = report_of(lease)
        follows = lease.metadata.labels.get(labels.ROLE) == Role.SOURCE.value.lower()
        news, sent = (*silent, *_news(report)), report.bytes_sent if report is not None else 0
        last = self._told.get(lease.metadata.uid)
        if (
            last is not None
            and last.news == news
            and (
                # The source's figures are the pair's; one look takes in both agents.
                not follows or now - last.looked_at < _sample(report, sent != last.sent)
            )
        ):
            return
        self._told[lease.metadata.uid] = _Told(news, sent, now)
        if last is not None or report is not None:
            self._queue.add(Key(lease.metadata.namespace, owners[0].name))


def _news(report: Report | None) -> tuple[object, ...]:
    """What is looked at as soon as it changes."""
    if report is None:
        return ()
    kept = tuple((n.kind, n.count) for n in report.not_kept)
    return (
        report.instance,
        report.epoch,
        report.phase,
        report.peer_connected,
        report.problem,
        report.mirrored_at,
        report.capture,
        report.lag_seconds is None,
        report.peer.state if report.peer is not None else None,
        report.proof,
        report.drifted,
        report.missed,
        kept,
        tuple((left.kind, left.count) for left in report.left_alone),
    )


def _sample(report: Report | None, flowing: bool) -> float:
    """Seconds between two looks that only bring fresh figures (`plan.publish` decides whether to write them)."""
    if report is not None and report.phase is Phase.MIRRORING:
        return MIRRORING_SAMPLE
    return FLOWING_SAMPLE if flowing else QUIET_SAMPLE
