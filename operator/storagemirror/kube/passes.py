"""One pass over one pair: gather, decide, execute, publish. The same for every trigger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.model import API_VERSION
from storagemirror.api.status import MirrorPairStatus, VolumeStatus
from storagemirror.clock import Clock
from storagemirror.errors import Changed
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.events import Events
from storagemirror.kube.execute import Executor, Outcome
from storagemirror.kube.faults import Conflict
from storagemirror.kube.gather import Key, Sources, gather
from storagemirror.kube.gather_failover import list_failovers, list_restores
from storagemirror.kube.release import release_orphans
from storagemirror.plan.asking import Request, kind_of
from storagemirror.plan.decide import decide
from storagemirror.plan.decisions import Shown
from storagemirror.plan.publish import notes, request_note
from storagemirror.plan.telling import without_pair

log = logging.getLogger(__name__)

ORPHANS_AGAIN = 10.0
"""Seconds until a Failover or Restore without its pair is looked at again."""
AFTER_ACTING = 1.0
"""Seconds until a pass that changed something looks at what came of it, in case no event tells."""


@dataclass(frozen=True)
class Passed:
    """What a pass came to. `pair` is None when there is none. `again`: seconds until the next one by itself."""

    pair: MirrorPair | None
    again: float | None = None
    wrote: bool = False
    status: MirrorPairStatus | None = None
    volumes: tuple[VolumeStatus, ...] = ()
    """As they are now: in `status` a sample stands for a while."""


class Reconciler:
    """Runs passes. Holds nothing of any pair between them; safe for threads (one pair in one thread at a time)."""

    def __init__(
        self, sources: Sources, executor: Executor, events: Events, clock: Clock, still_leading: Callable[[], bool]
    ) -> None:
        self._sources = sources
        self._executor = executor
        self._events = events
        self._clock = clock
        self._still_leading = still_leading

    def run(self, key: Key) -> Passed:
        """One pass. `Conflict` and `ApiUnavailable` mean: look again soon."""
        gathered = gather(self._sources, key)
        if gathered is None:
            return self._without_pair(key)
        observed = gathered.observed
        now = self._now()
        plan = decide(observed, now)
        if plan.actions:
            self._sources.credentials.forget(observed.pair.metadata.uid)
        outcome = self._executor.execute(plan.actions, still_leading=self._still_leading)
        if outcome.refusals or outcome.denied:
            refused = replace(observed, refusals=tuple(outcome.refusals), denied=tuple(outcome.denied))
            plan = decide(refused, now)
        wrote = self._publish(observed.pair, gathered.raw_pair, plan.status, outcome)
        told = self._show(plan.shown)
        again = plan.requeue
        if outcome.done:
            again = min(AFTER_ACTING, again if again is not None else AFTER_ACTING)
        return Passed(observed.pair, again, wrote or told or outcome.done > 0, plan.status, plan.fresh)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)

    def _without_pair(self, key: Key) -> Passed:
        """What names a pair that is not there is told so; pods that were held for it are let go of."""
        release_orphans(self._sources.api, key.namespace)
        if not self._sources.named(key):
            return Passed(None)
        failovers = list_failovers(self._sources.api, key.namespace, key.name).of_pair
        restores = list_restores(self._sources.api, key.namespace, key.name)
        found: list[Request] = [r for part in (failovers, restores) if isinstance(part, tuple) for r in part]
        waiting = [r for r in found if not r.status.ended]
        now = self._now()
        shown = tuple(Shown(r, status) for r in waiting if (status := without_pair(r, now)) != r.status)
        told = self._show(shown)
        return Passed(None, ORPHANS_AGAIN if waiting else None, told)

    def _publish(self, pair: MirrorPair, raw: Mapping[str, Any], status: MirrorPairStatus, outcome: Outcome) -> bool:
        """Write the status where it says something new, by compare-and-swap; then tell people."""
        changed = status != pair.status
        if changed:
            if not self._still_leading():
                raise Conflict("no longer the leader")
            write_status(self._sources.api, raw, status)
        for note in (*outcome.notes, *(notes(pair.status, status) if changed else ())):
            self._events.say(pair, note)
        return changed

    def _show(self, shown: tuple[Shown, ...]) -> bool:
        """Write what Failovers and Restores show, each by compare-and-swap. One that was changed is shown next time."""
        told = False
        for one in shown:
            if not self._still_leading():
                raise Conflict("no longer the leader")
            meta, kind = one.request.metadata, str(kind_of(one.request))
            manifest = {
                "apiVersion": API_VERSION,
                "kind": kind,
                "metadata": {
                    "name": meta.name,
                    "namespace": meta.namespace,
                    "uid": meta.uid,
                    "resourceVersion": meta.resource_version,
                },
                "spec": one.request.spec.dump(),
                "status": one.status.dump(),
            }
            try:
                self._sources.api.replace_status(paths.by_kind(kind), manifest)
            except Changed:
                continue
            told = True
            note = request_note(one.request.status, one.status)
            if note is not None:
                self._events.say(one.request, note)
        return told


def write_status(api: Api, raw: Mapping[str, Any], status: MirrorPairStatus) -> None:
    """The whole status of the object that was read as `raw`; `Conflict` when that is not the latest any more."""
    api.replace_status(paths.PAIRS, {**raw, "status": status.dump()})
