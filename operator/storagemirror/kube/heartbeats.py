"""For how long each agent has been silent, by our own clock.

A Lease carries the agent's clock, which may be off; so what counts is how long ago *we* last saw it change. Time during
which we could not listen does not count: after an outage of the API server every agent gets its full time again. After
a restart of the operator, too; an agent that died meanwhile is missed a few seconds later.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from storagemirror.clock import Clock
from storagemirror.contract import REPORT_ANNOTATION, Report, decode
from storagemirror.errors import BadInput
from storagemirror.plan.objects import Lease
from storagemirror.plan.observed import Heard

LISTEN_SECONDS = 2.0
"""How often all Leases are listed."""
FORGET_SECONDS = 600.0
GAP_SECONDS = 30.0
"""Without a list for so long, pods may have come and gone unseen."""


@dataclass
class _Last:
    mark: tuple[str | None, str | None]
    changed_at: float
    seen_at: float


class Heartbeats:
    """What was heard of every agent, and when. Safe for threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, _Last] = {}
        self._listened = 0.0
        self._listened_at = clock.monotonic()
        self._attentive_since: datetime | None = None

    def listened(self, leases: Iterable[Lease]) -> None:
        """All Leases were listed: the time since the last list counts, as far as it was no outage."""
        with self._lock:
            now = self._clock.monotonic()
            if self._attentive_since is None or now - self._listened_at > GAP_SECONDS:
                self._attentive_since = self._moment()
            self._listened += min(now - self._listened_at, 2 * LISTEN_SECONDS)
            self._listened_at = now
            for lease in leases:
                self._note(lease)
            horizon = self._listened - FORGET_SECONDS
            self._last = {uid: last for uid, last in self._last.items() if last.seen_at >= horizon}

    def attentive_since(self) -> datetime:
        """Since when the API server has answered us without a long gap (whole seconds); now, before it first did."""
        with self._lock:
            return self._attentive_since or self._moment()

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ns() // 1_000_000_000, UTC)

    def heard(self, lease: Lease) -> Heard:
        """What this Lease, just read, says."""
        with self._lock:
            last = self._note(lease)
            silent = self._listened - last.changed_at
        return Heard(report=report_of(lease), renew_time=lease.spec.renew_time, silent_for=silent)

    def _note(self, lease: Lease) -> _Last:
        mark = (lease.spec.renew_time, lease.metadata.annotations.get(REPORT_ANNOTATION))
        last = self._last.get(lease.metadata.uid)
        if last is None or last.mark != mark:
            last = self._last[lease.metadata.uid] = _Last(mark, self._listened, self._listened)
        last.seen_at = self._listened
        return last


def report_of(lease: Lease) -> Report | None:
    """The report in a Lease; None where there is none yet, or none that can be read."""
    text = lease.metadata.annotations.get(REPORT_ANNOTATION)
    if not text:
        return None
    try:
        return decode(Report, text)
    except BadInput:
        return None
