"""Replication in runs (`ReplicationMode` Scheduled and Manual): what is due, and what is told of it when it has ended.

Between two runs the connection stays: each side knows at once when the other is gone, and a planned failover finds
both. The watch goes on too, so that the lag in bytes is known. Nothing but heartbeats is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from storagemirror.agent.view import View
from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import Order, Phase, ReplicationMode, RunDone

log = logging.getLogger("storagemirror.agent")

LONGEST_ERROR = 1000


class Runs:
    """Lives as long as the agent. For the thread that follows the changes."""

    def __init__(self, ordered: Callable[[], Order | None], view: View, clock: Clock) -> None:
        """`ordered` gives the latest order."""
        self._ordered = ordered
        self._view = view
        self._clock = clock

    def wanted(self) -> bool:
        """Whether the order says to replicate in runs. A proof and a verification are about what the source is now:
        while one is to be done changes follow as they happen."""
        order = self._ordered()
        if order is None or order.replication.mode is ReplicationMode.CONTINUOUS or order.prove is not None:
            return False
        seen = self._view.sight.verification
        return order.verify is None or (seen is not None and seen.run == order.verify.run)

    def due(self) -> str | None:
        """The run to do now, by its name."""
        order = self._ordered()
        run = order.replication.run if order is not None else None
        done = self._view.sight.run
        return None if done is not None and done.run == run else run

    def rest(self, *, first: bool) -> None:
        """Nothing is due. `first`: the connection is new, and what was in the way of the one before is gone."""
        if first:
            self._view.see(phase=Phase.IDLE, problem=None)
        elif self._view.sight.phase is not Phase.IDLE:
            self._view.see(phase=Phase.IDLE)

    def do(self, run: str, work: Callable[[], bool]) -> None:
        """`work` is the run, and says whether it came to its end. Raises what it raises: then the run is still due."""
        began, sent = self._clock.now_ns(), self._view.bytes_sent
        log.info("the run %s begins", run)
        if not work():
            return
        failed, first = self._view.failed_entries()
        done = RunDone(
            run=run,
            began=rfc3339(began),
            at=rfc3339(self._clock.now_ns()),
            bytes_sent=self._view.bytes_sent - sent,
            error=f"{failed} entries could not be written; the first: {first}"[:LONGEST_ERROR] if failed else "",
        )
        log.log(logging.WARNING if failed else logging.INFO, "the run %s has ended. %s", run, done.error)
        self._view.see(run=done)
