"""A planned failover loses nothing, whatever the workloads are and whoever works against it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support import ledger_lines as ledger
from tests.support.case import Case, Json
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape, managed_service

pytestmark = pytest.mark.e2e

WHOLE_WAY = ["Validating", "Proving", "Fencing", "Draining", "Promoting", "Switching", "Verifying", "Completed"]


def nothing_is_lost(stage: Stage) -> None:
    """Every write of the source is on the copy, and none came after the copy's first own one."""
    old, new = stage.source_lines(), stage.target_lines()
    heard = max(a.number for a in stage.client().answers() if a.side == "source")
    assert ledger.of("source", new) == old, f"{len(old)} lines on the source, on the copy {len(new)}"
    assert old[-1].number >= heard, f"line {heard} was acknowledged, and the source has {old[-1]}"
    assert ledger.of("target", new), "the standby does not write"
    ledger.never_two_writers(old, new)


def test_every_kind_of_application_is_moved_without_loss(case: Case, stages: Stages) -> None:
    manual = "Manual"
    everyone = stages(
        plain=Shape(approval=manual),
        label=Shape(approval=manual, kind="StatefulSet", strategy="Label"),
        gate=Shape(approval=manual, start="Gate"),
    )
    gate = everyone[2]
    assert gate.replicas("target") == 1
    assert gate.pods("target") == [], "the gate does not keep the standby away"
    for stage in everyone:
        stage.failover(f"{stage.name}-go")
    for stage in everyone:
        done = stage.until_phase(f"{stage.name}-go", "Completed", seconds=90)
        assert [phase for phase in stage.timeline(f"{stage.name}-go") if phase != "AwaitingApproval"] == WHOLE_WAY
        assert {proof["stage"] for proof in done["equality"]} == {"Live", "Final"}
        assert all(proof["digest"] for proof in done["equality"])
        # The one file is written all the time: the live part may leave all of it to the final one.
        assert all(proof["files"] >= 1 for proof in done["equality"] if proof["stage"] == "Final")
        assert {proof["grade"] for proof in done["proofs"]} == {"Proven"}
        assert done["rpoSeconds"] == 0
        assert done["approvedBy"]
        stage.until_answers("target")
        status = stage.status()
        assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Target", 2, ["Source"])
        nothing_is_lost(stage)
    gate.scale("source", 1)  # as it stands in Git
    time.sleep(3)
    assert gate.pods("source") == [], "the gate does not keep the old side away"


@contextmanager
def git(case: Case, *objects: Json) -> Iterator[None]:
    """Somebody who applies these objects twice a second, whatever is there."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    stop = threading.Event()

    def keep_applying() -> None:
        while not stop.wait(0.5):
            case.kubectl("apply", "-f", "-", stdin=text, check=False)

    thread = threading.Thread(target=keep_applying, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


def test_git_that_puts_replicas_and_selector_back_midway_changes_nothing(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape())
    watch = stage.watch("pods", "-l", f"app={stage.app}")
    with git(case, stage.workload("source"), managed_service(stage.name, stage.app)):
        stage.failover("go")
        stage.until_phase("go", "Completed", seconds=120)
        done = time.time()
        time.sleep(5)
        assert stage.pods("source") == []
    stage.until_answers("target")
    time.sleep(2)
    assert case.get("service", stage.name)["spec"]["selector"] != {"app": stage.app}
    fenced = stage.operation()["gateConfirmed"]
    late = [s.object["metadata"] for s in watch.history if s.object["metadata"]["creationTimestamp"] > fenced]
    assert not late, f"pods of the source were made after the gate was closed: {[pod['name'] for pod in late]}"
    assert not [a for a in stage.client().answers() if a.asked > done and a.side == "source"]
    nothing_is_lost(stage)
