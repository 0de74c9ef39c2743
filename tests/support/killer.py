"""Kills the operator that leads at a moment that a watch of the pair tells."""

from __future__ import annotations

import os
import signal
import threading

from storagemirror.api.operation import OperationPhase
from tests.support import operators
from tests.support.case import Case
from tests.support.failover_case import Stage
from tests.support.operations import operation_is
from tests.support.product import SYSTEM


class Killer:
    """Kills the leader at a phase; the other replica, which leads next, is known before, so that no phase is missed."""

    def __init__(self, case: Case, stage: Stage) -> None:
        self._case, self._stage, self._watch = case, stage, stage.watch_pair()
        self._leader, self._next = operators.settled(case.cluster)
        self._dead = self._leader
        self._processes = {replica.pod: replica.process() for replica in (self._leader, self._next)}

    def arm(self, phase: OperationPhase) -> threading.Event:
        """Kill -9 the leader at the very moment at which the watch tells of that phase; set once that was done."""
        done, process = threading.Event(), self._processes[self._leader.pod]

        def kill(_: object) -> None:
            os.kill(process, signal.SIGKILL)
            done.set()

        self._watch.once(operation_is(phase), kill)
        return done

    def follow(self) -> None:
        """After a kill: the other one leads next."""
        self._dead, self._leader = self._leader, self._next

    def replace(self) -> None:
        """The dead one's pod goes and another comes: a kubelet waits longer and longer before it starts it again."""
        words = ("delete", "pod", self._dead.pod, "--force", "--grace-period=0")
        self._case.cluster.kubectl("-n", SYSTEM, *words)

        def come() -> bool:
            fresh = [r for r in operators.replicas(self._case.cluster) if r.pod not in self._processes]
            if fresh:
                self._next = fresh[0]
            return bool(fresh)

        self._stage.until("another operator", come, 30)
        self._processes[self._next.pod] = self._next.process()
