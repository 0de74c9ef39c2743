"""The operator is killed in every phase there is, and what it had begun comes to the same end."""

from __future__ import annotations

import pytest

from storagemirror.api.operation import ENDED, OperationPhase
from tests.support import ledger_lines as ledger
from tests.support.case import Case
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.killer import Killer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

BACK = OperationPhase.ROLLING_BACK
OTHERS = {OperationPhase.PENDING, OperationPhase.MIRRORING, OperationPhase.AWAITING_CUT_OVER, BACK}
"""No phases of a Failover on its way; one that is Pending has no operation yet."""
ON_THE_WAY = [phase for phase in OperationPhase if phase not in ENDED | OTHERS]
"""The phases of a failover on its way to its good end."""


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
