"""The operator is killed in every phase there is, and what it had begun comes to the same end."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from storagemirror.api.operation import ENDED, OperationPhase
from tests.support import ledger_lines as ledger
from tests.support import operators
from tests.support.case import Case
from tests.support.failover_case import Stage, operation_is
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.product import SYSTEM

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

BACK = OperationPhase.ROLLING_BACK
ON_THE_WAY = [phase for phase in OperationPhase if phase not in ENDED and phase not in (OperationPhase.PENDING, BACK)]
"""The phases of an operation on its way to its good end. A Failover that is Pending has none yet."""


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


def test_an_operator_killed_in_every_phase_brings_the_failover_to_its_end(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape(approval="Manual"))
    killer = Killer(case, stage)
    killed = killer.arm(ON_THE_WAY[0])
    stage.failover("go", approved=False)
    for number, phase in enumerate(ON_THE_WAY):
        stage.until(f"the leader to be killed in {phase}", killed.is_set, 60)
        killer.follow()
        if phase is not ON_THE_WAY[-1]:
            killed = killer.arm(ON_THE_WAY[number + 1])
        if phase is OperationPhase.AWAITING_APPROVAL:
            stage.approve("go")
        killer.replace()
    done = stage.until_phase("go", "Completed", seconds=60)
    assert done["attempt"] == 1
    assert stage.status()["epoch"] == 2
    assert done["rpoSeconds"] == 0
    stage.until_answers("target")
    old, new = stage.source_lines(), stage.target_lines()
    assert ledger.of("source", new) == old
    ledger.never_two_writers(old, new)


def test_an_operator_killed_while_it_rolls_back_rolls_back(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape())
    killer = Killer(case, stage)
    stage.debug()
    stage.failover("go")
    stage.until("the source to be stopped", lambda: stage.replicas("source") == 0)
    killed = killer.arm(BACK)
    case.kubectl("delete", "failover", "go", "--wait=false")
    stage.until("the leader to be killed", killed.is_set, 30)
    killer.follow()
    killer.replace()
    stage.until("it to be rolled back", lambda: stage.operation()["phase"] == "RolledBack")
    stage.until_answers("source")
    assert stage.replicas("source") == 1
    assert stage.status()["closedSides"] == ["Target"]
