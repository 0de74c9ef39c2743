"""The agent's Lease: proof of life, and what the agent sees.

Renewed every `HEARTBEAT_SECONDS`, each second while a mirror makes progress, and at once when something a person or
the operator should know has changed (`View.urgent`); never more than about five times a second.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from storagemirror.agent.api import ApiClient
from storagemirror.agent.view import View
from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import HEARTBEAT_SECONDS, REPORT_ANNOTATION, Phase, Report, encode
from storagemirror.errors import ApiUnavailable, Permanent

log = logging.getLogger("storagemirror.agent")

PROGRESS_SECONDS = 1.0
LEAST_SECONDS = 0.2
LEASE_DURATION = 3 * HEARTBEAT_SECONDS


class Heartbeat:
    """Runs in a thread of its own, `beat`."""

    def __init__(self, api: ApiClient, path: str, holder: str, view: View, clock: Clock) -> None:
        """`path` is the Lease's in the API; `holder` becomes its holderIdentity."""
        self._api = api
        self._path = path
        self._holder = holder
        self._view = view
        self._clock = clock
        self._failing = False
        self.on_recovered = _nothing
        """Called when the API answers again after it did not."""

    def beat(self, stop: threading.Event) -> None:
        """Renew until `stop` is set."""
        due = self._clock.monotonic()
        while not stop.is_set():
            self._view.wait_urgent(max(LEAST_SECONDS, due - self._clock.monotonic()), stop)
            if stop.is_set():
                return
            report = self.renew()
            period = PROGRESS_SECONDS if report.phase is Phase.MIRRORING else HEARTBEAT_SECONDS
            due = self._clock.monotonic() + period
            stop.wait(LEAST_SECONDS)

    def renew(self) -> Report:
        """Send heartbeat and report once; a failure is logged and tried again with the next beat."""
        report = self._view.report()
        try:
            self._api.merge(self._path, self._patch(report))
        except (ApiUnavailable, Permanent) as e:
            if not self._failing:
                log.warning("heartbeat not delivered: %s%s", e.message, f" ({e.hint})" if e.hint else "")
            self._failing = True
            return report
        if self._failing:
            log.info("heartbeat delivered again")
            self._failing = False
            self.on_recovered()
        return report

    def _patch(self, report: Report) -> dict[str, Any]:
        return {
            "metadata": {"annotations": {REPORT_ANNOTATION: encode(report)}},
            "spec": {
                "holderIdentity": self._holder,
                "leaseDurationSeconds": LEASE_DURATION,
                "renewTime": rfc3339(self._clock.now_ns()),
            },
        }


def _nothing() -> None:
    """Nobody listens."""
