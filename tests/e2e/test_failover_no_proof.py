"""A node that is out of touch may still write. Without a proof that it does not, nothing is promoted."""

from __future__ import annotations

import time

import pytest

from tests.support.case import Case
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.node_words import delete_node
from tests.support.watching import Watching

pytestmark = pytest.mark.e2e

HARMLESS = {"", "Pending", "Validating", "AwaitingApproval"}
PATIENCE = 20
"""Seconds that a naive operator would need to go on, once it has seen that the source is lost."""


def never_touched(stage: Stage, watch: Watching) -> None:
    """Nothing was closed, stopped or promoted at any time since the watch began."""
    for seen in watch.history:
        status = seen.object["status"]
        assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Source", 1, ["Target"]), status
        assert (status.get("operation") or {}).get("phase", "") in {*HARMLESS, "RolledBack"}, status["operation"]
    assert stage.replicas("source") == 1
    assert stage.pods("target") == []


def writes_on(stage: Stage) -> bool:
    """Whether the old side's application writes, seen on its volume."""
    before = len(stage.source_lines())
    time.sleep(0.5)
    return len(stage.source_lines()) > before


def test_a_writer_that_is_out_of_touch_is_never_taken_for_dead(case: Case, stages: Stages) -> None:
    """Ways in which the API says that a pod is gone while it writes. Then the word of somebody who deletes the node,
    which counts only where the pair says that it does; and that of a person who takes the risk."""
    only = Shape(proof=("Proven",))
    proven, attested, failed, accepted = everyone = stages(proven=only, attested=Shape(), failed=only, accepted=only)
    node = proven.nodes.source
    watches = {stage.name: stage.watch_pair() for stage in everyone}
    pods = {stage.name: stage.pods("source")[0]["metadata"]["name"] for stage in everyone}
    case.cluster.cut(node)
    for stage in (proven, attested):
        case.kubectl("delete", "pod", pods[stage.name], "--force", "--grace-period=0")
    dead = '{"status":{"phase":"Failed"}}'
    case.kubectl("patch", "pod", pods["failed"], "--subresource=status", "--type=merge", "-p", dead)
    waiting = {stage.name: stage.until_automatic(90) for stage in everyone}
    for stage in everyone:
        message = stage.until_reason(waiting[stage.name], "NoProof", 30)
        assert pods[stage.name] in message, f"it does not say whose end is not proven: {message}"
        assert pods[stage.name] in stage.writers()
    time.sleep(PATIENCE)
    for stage in everyone:
        never_touched(stage, watches[stage.name])
        assert writes_on(stage), "the test shows nothing: the application does not write"

    accepted.approve(waiting["accepted"], acceptSplitBrain=True)
    done = accepted.until_phase(waiting["accepted"], "Completed")
    assert {p["name"]: p["grade"] for p in done["proofs"]}[pods["accepted"]] == "Accepted"
    accepted.until_answers("target")

    delete_node(case.cluster, node)
    done = attested.until_phase(waiting["attested"], "Completed")
    assert {p["name"]: p["grade"] for p in done["proofs"]}[pods["attested"]] == "Attested"
    turned = attested.until_answers("target")
    assert writes_on(attested), "this is what a wrong word means: two sides write"
    time.sleep(PATIENCE / 2)
    for stage in (proven, failed):
        never_touched(stage, watches[stage.name])

    case.cluster.heal(node)
    case.cluster.restart_kubelets()
    for stage in (proven, failed):
        back = stage.until_phase(waiting[stage.name], "RolledBack", seconds=120)
        assert back["reason"] == "SourceReturned"
        never_touched(stage, watches[stage.name])
        stage.until_answers("source", 90)
    attested.until("the old side's writer to be ended", lambda: not writes_on(attested), 90)
    answers = [a for a in attested.client().answers() if a.asked >= turned]
    assert {answer.side for answer in answers} == {"target"}, "the Service went back to the fenced side"


def test_a_person_may_take_the_risk_and_it_is_told_who_and_of_what(case: Case, stages: Stages) -> None:
    """The node is off, nobody has said so to Kubernetes, and a person knows it."""
    (stage,) = stages(Shape(approval="Manual"))
    case.cluster.power_off(stage.nodes.source)
    stage.failover("risk", "Unplanned", acceptSplitBrain=True)
    done = stage.until_phase("risk", "Completed", seconds=90)
    assert "Accepted" in {proof["grade"] for proof in done["proofs"]}
    assert "acceptSplitBrain" in " ".join(proof["evidence"] for proof in done["proofs"])
    assert done["approvedBy"]
    stage.until_answers("target")
