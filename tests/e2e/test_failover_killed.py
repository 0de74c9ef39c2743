"""The operator is killed in every phase there is, and what it had begun comes to the same end."""

from __future__ import annotations

import contextlib
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
from tests.support.watching import Watching

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

BACK = OperationPhase.ROLLING_BACK
ON_THE_WAY = [phase for phase in OperationPhase if phase not in ENDED and phase not in (OperationPhase.PENDING, BACK)]
"""The phases of an operation on its way to its good end. A Failover that is Pending has none yet."""


def killed_in(case: Case, stage: Stage, watch: Watching, phase: OperationPhase) -> threading.Event:
    """Kill -9 every operator at the very moment at which the watch tells of that phase; set once it was done."""
    done = threading.Event()
    processes = [replica.process() for replica in operators.replicas(case.cluster)]

    def kill(_: object) -> None:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        done.set()

    watch.once(operation_is(phase), kill)
    return done


def others_come(case: Case) -> None:
    """The dead ones' pods go: a kubelet would wait longer and longer before it starts a container again."""
    words = ("delete", "pods", "-l", "app.kubernetes.io/component=operator", "--force", "--grace-period=0")
    case.cluster.kubectl("-n", SYSTEM, *words)
    case.until("other operators", lambda: len(operators.replicas(case.cluster)) == 2, 30)


def test_an_operator_killed_in_every_phase_brings_the_failover_to_its_end(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape(approval="Manual"))
    watch = stage.watch_pair()
    killed = killed_in(case, stage, watch, ON_THE_WAY[0])
    stage.failover("go", approved=False)
    for number, phase in enumerate(ON_THE_WAY):
        stage.until(f"the operators to be killed in {phase}", killed.is_set, 60)
        others_come(case)
        if phase is OperationPhase.AWAITING_APPROVAL:
            stage.approve("go")
        if phase is not ON_THE_WAY[-1]:
            killed = killed_in(case, stage, watch, ON_THE_WAY[number + 1])
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
    watch = stage.watch_pair()
    stage.debug()
    stage.failover("go")
    stage.until("the source to be stopped", lambda: stage.replicas("source") == 0)
    killed = killed_in(case, stage, watch, BACK)
    case.kubectl("delete", "failover", "go", "--wait=false")
    stage.until("the operators to be killed", killed.is_set, 30)
    others_come(case)
    stage.until("it to be rolled back", lambda: stage.operation()["phase"] == "RolledBack")
    stage.until_answers("source")
    assert stage.replicas("source") == 1
    assert stage.status()["closedSides"] == ["Target"]
