"""Something stands in the way in the middle of a failover: it is named, waited for, and then it goes on."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.support import ledger_lines as ledger
from tests.support import operators
from tests.support.case import Case
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape

pytestmark = pytest.mark.e2e

READY_WHEN_TOLD = {"exec": {"command": ["test", "-e", "/tmp/ready"]}}


def test_a_debug_pod_is_named_or_ended_and_two_leaders_do_no_harm(case: Case, stages: Stages) -> None:
    """A planned failover leaves a stranger's pod alone and waits; an unplanned one ends it. While the first waits, its
    leader sleeps for longer than its Lease and wakes up beside the one that took over."""
    planned, forced = stages(planned=Shape(), forced=Shape(proof=("Proven",)))
    planned.debug("left-here")
    planned.failover("go")
    planned.until_phase("go", "Fencing")
    planned.until("the debug pod to be named", lambda: "left-here" in planned.outcome("go")["message"], 30)
    assert planned.status()["closedSides"] == ["Source", "Target"]
    assert planned.replicas("source") == 0

    asleep = operators.leader(case.cluster)
    process = asleep.process()
    os.kill(process, signal.SIGSTOP)
    try:
        planned.until("another leader", lambda: operators.leader(case.cluster).pod != asleep.pod, 40)
        case.kubectl("delete", "pod", "left-here", "--timeout=60s")
        planned.until_phase("go", "Completed")
    finally:
        os.kill(process, signal.SIGCONT)
    before = planned.operation()
    time.sleep(5)
    assert operators.leader(case.cluster).pod != asleep.pod
    assert planned.operation() == before, "the leader of before wrote over what the present one has done"
    planned.until_answers("target")
    ledger.never_two_writers(planned.source_lines(), planned.target_lines())

    forced.debug("in-the-way")
    forced.failover("now", "Unplanned")
    done = forced.until_phase("now", "Completed")
    assert {(p["name"], p["grade"]) for p in done["proofs"]} >= {("in-the-way", "Proven")}
    assert "in-the-way" not in case.kubectl("get", "pods", "-o", "name")
    forced.until_answers("target")
    ledger.never_two_writers(forced.source_lines(), forced.target_lines())


def test_a_standby_that_is_not_there_or_not_ready_is_waited_for(case: Case, stages: Stages) -> None:
    """Workload and Service are deleted midway; then the standby never gets ready; then the Failover is deleted, too
    late to turn back."""
    (stage,) = stages(Shape(standby_ready=READY_WHEN_TOLD))
    stage.debug()
    stage.failover("go")
    stage.until_phase("go", "Fencing")
    case.kubectl("delete", "deployment", stage.standby)
    case.kubectl("delete", "service", stage.name)
    case.kubectl("delete", "pod", "debug", "--timeout=60s")
    assert stage.standby in stage.until_reason("go", "WorkloadMissing")
    case.apply(stage.workload("target"))
    stage.until_phase("go", "Verifying")
    assert "Ready" in stage.until_reason("go", "StandbyNotReady")
    status = stage.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Target", 2, ["Source"])
    assert case.get("service", stage.name)["spec"]["ports"][0]["port"] == 80, "the Service was not made again"

    case.kubectl("delete", "failover", "go", "--timeout=30s")
    time.sleep(3)
    assert stage.operation()["phase"] == "Verifying", "a failover that is past its promotion was turned back"
    pod = stage.pods("target")[0]["metadata"]["name"]
    case.kubectl("exec", pod, "--", "touch", "/tmp/ready")
    stage.until("the operation to be completed", lambda: stage.operation()["phase"] == "Completed")
    ledger.never_two_writers(stage.source_lines(), stage.target_lines())
    assert ledger.of("target", stage.target_lines())


def test_a_target_claim_deleted_midway_turns_it_back(case: Case, stages: Stages) -> None:
    """A claim that is being deleted can be mounted by nobody new: the standby could never start."""
    (stage,) = stages(Shape())
    stage.debug()
    stage.failover("go")
    stage.until_phase("go", "Fencing")
    stage.until("the source to be stopped", lambda: stage.replicas("source") == 0)
    case.kubectl("delete", "pvc", stage.target.name, "--wait=false")
    back = stage.until_phase("go", "RolledBack")
    assert back["reason"] == "ClaimDeleting"
    assert stage.target.name in back["message"]
    stage.until_answers("source")
    status = stage.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Source", 1, ["Target"])
