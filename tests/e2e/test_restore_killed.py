"""Operator and agents are killed in every phase of a Restore, and it comes to its end with nothing lost."""

from __future__ import annotations

from functools import partial

import pytest

from storagemirror.api.operation import ENDED, OperationPhase
from tests.cluster.command import wait_for
from tests.cluster.errors import ClusterError
from tests.support.case import Case
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.homeward import came_home, go_away, serves_away
from tests.support.killer import Killer
from tests.support.operations import operation_is
from tests.support.watching import Seen

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

BACK = OperationPhase.ROLLING_BACK
OTHERS = {OperationPhase.PENDING, OperationPhase.AWAITING_APPROVAL, BACK}
"""No phases of a Restore on its way; one that is Pending has no operation yet."""
ON_THE_WAY = [phase for phase in OperationPhase if phase not in ENDED | OTHERS]
WITH_AGENTS = [
    OperationPhase.MIRRORING,
    OperationPhase.AWAITING_CUT_OVER,
    OperationPhase.PROVING,
    OperationPhase.FENCING,
    OperationPhase.DRAINING,
    OperationPhase.PROMOTING,
]


def test_an_operator_killed_in_every_phase_brings_it_home(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape())
    go_away(stage)
    killer = Killer(case, stage)
    killed = killer.arm(ON_THE_WAY[0])
    stage.restore("home", cut_over="Manual")
    for number, phase in enumerate(ON_THE_WAY):
        stage.until(f"the leader to be killed in {phase}", killed.is_set, 60)
        killer.follow()
        if phase is not ON_THE_WAY[-1]:
            killed = killer.arm(ON_THE_WAY[number + 1])
        if phase is OperationPhase.AWAITING_CUT_OVER:
            stage.approve("home")
        killer.replace()
    done = stage.until_phase("home", "Completed", seconds=60)
    assert (done["attempt"], done["epoch"], done["rpoSeconds"]) == (2, 3, 0)
    came_home(stage)


class Ender:
    """Ends a pair's agent of one role at the moment at which the watch tells of a phase, for each phase with agents: by
    kill -9 of its process, and by the deletion of its pod, in turn."""

    def __init__(self, stage: Stage, role: str) -> None:
        self._stage, self._role = stage, role
        self._ended: set[str] = set()
        """The phases that the pair was in just before an agent was ended."""
        watch = stage.watch_pair()
        for number, phase in enumerate(WITH_AGENTS):
            watch.once(operation_is(phase), partial(self._end, delete=number % 2 == 1))

    def has_ended_one(self, phase: str) -> bool:
        """Whether an agent was ended in this phase, in which the pair is held. What the watch told of may have been
        over when an agent was there to be ended: then one is ended now."""
        if phase not in self._ended and self._stage.operation()["phase"] == phase:
            self._end_one(delete=False)
        return phase in self._ended

    def _end(self, _: Seen, *, delete: bool) -> None:
        self._end_one(delete=delete)

    def _end_one(self, *, delete: bool) -> None:
        case, name = self._stage.case, self._stage.name
        try:
            wait_for("an agent", lambda: bool(case.agent(self._role, name)), 10, every=0.1)
            pod, now = case.agent(self._role, name), str(self._stage.operation()["phase"])
            if delete:
                case.kubectl("delete", "pod", pod["metadata"]["name"], "--force", "--grace-period=0")
            else:
                case.kill_agent(self._role, name)
        except (AssertionError, ClusterError, KeyError, ProcessLookupError):
            return  # there was none any more
        self._ended.add(now)


def test_agents_that_die_in_every_phase_are_replaced(case: Case, stages: Stages) -> None:
    """The one that reads the live side, in one pair, and the one that writes home, in another. A person, and then a pod
    that somebody left, hold them in the phases in which an agent is to be ended for certain."""
    reading, writing = everyone = stages(reading=Shape(), writing=Shape())
    go_away(*everyone)
    enders = {stage.name: Ender(stage, role) for stage, role in ((reading, "source"), (writing, "target"))}
    for stage in everyone:
        stage.debug(f"debug-{stage.name}", side="target")
        stage.restore(f"{stage.name}-home", cut_over="Manual")
    for stage in everyone:
        stage.until("its agent to be ended", partial(enders[stage.name].has_ended_one, "AwaitingCutOver"), 90)
        stage.approve(f"{stage.name}-home")
    for stage in everyone:
        stage.until("its agent to be ended", partial(enders[stage.name].has_ended_one, "Fencing"), 90)
        case.kubectl("delete", "pod", f"debug-{stage.name}", "--timeout=60s")
    for stage in everyone:
        done = stage.until_phase(f"{stage.name}-home", "Completed", "RolledBack", seconds=200)
        if done["phase"] == "RolledBack":  # the one that writes died between its last change and the end of the drain
            assert (done["reason"], done["wholeOn"]) == ("TargetInDoubt", ["Target"])
            serves_away(stage)
            stage.restore(f"{stage.name}-again")
            stage.until_phase(f"{stage.name}-again", "Completed", seconds=90)
        came_home(stage, epoch=stage.status()["epoch"])


def test_an_operator_killed_while_it_goes_back_starts_the_live_side_again(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape())
    go_away(stage)
    stage.debug(side="target")
    killer = Killer(case, stage)
    stage.restore("home")
    stage.until("the live side to be stopped", lambda: stage.replicas("target") == 0)
    killed = killer.arm(BACK)
    case.kubectl("delete", "restore", "home", "--wait=false")
    stage.until("the leader to be killed", killed.is_set, 30)
    killer.follow()
    killer.replace()
    stage.until("it to be rolled back", lambda: stage.operation()["phase"] == "RolledBack")
    stage.until_answers("target")
    assert stage.replicas("target") == 1
    assert stage.status()["closedSides"] == ["Source"]
