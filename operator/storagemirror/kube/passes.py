"""One pass over one pair: gather, decide, execute, publish. The same for every trigger."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.status import MirrorPairStatus
from storagemirror.clock import Clock
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.events import Events
from storagemirror.kube.execute import Executor, Outcome
from storagemirror.kube.faults import Conflict
from storagemirror.kube.gather import Key, Sources, gather
from storagemirror.plan.decide import decide
from storagemirror.plan.publish import notes

log = logging.getLogger(__name__)

AFTER_ACTING = 1.0
"""Seconds until a pass that changed something looks at what came of it, in case no event tells."""


@dataclass(frozen=True)
class Passed:
    """What a pass came to. `pair` is None when there is none. `again`: seconds until the next one by itself."""

    pair: MirrorPair | None
    again: float | None = None
    wrote: bool = False


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
            return Passed(None)
        observed = gathered.observed
        now = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        plan = decide(observed, now)
        outcome = self._executor.execute(plan.actions, still_leading=self._still_leading)
        if outcome.refusals:
            plan = decide(replace(observed, refusals=tuple(outcome.refusals)), now)
        wrote = self._publish(observed.pair, gathered.raw_pair, plan.status, outcome)
        again = plan.requeue
        if outcome.done:
            again = min(AFTER_ACTING, again if again is not None else AFTER_ACTING)
        return Passed(observed.pair, again, wrote or outcome.done > 0)

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


def write_status(api: Api, raw: Mapping[str, Any], status: MirrorPairStatus) -> None:
    """The whole status of the object that was read as `raw`; `Conflict` when that is not the latest any more."""
    api.replace_status(paths.PAIRS, {**raw, "status": status.dump()})
