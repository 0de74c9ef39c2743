"""The source's node loses its power, somebody says so, and the application comes back by itself on the other side."""

from __future__ import annotations

import time

import pytest

from tests.support import ledger_lines as ledger
from tests.support import operators
from tests.support.case import Case, Json
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape, debug_pod
from tests.support.node_words import unattest
from tests.support.operations import seconds_of

pytestmark = pytest.mark.e2e

WHOLE_WAY = ["Validating", "Fencing", "Draining", "Promoting", "Switching", "Verifying", "Completed"]
SOONEST = 30.0
"""Seconds to an answer on a busy machine; `make campaign-failover` holds the promised figure."""


def nothing_synced_is_lost(stage: Stage, status: Json) -> None:
    """What the source had acknowledged up to syncedThrough is on the copy, and no more is missing than rpoSeconds tells
    (which counts up to the last word of the source's agent, a second or so before the cut)."""
    synced = seconds_of(status["syncedThrough"])
    heard = [answer for answer in stage.client().answers() if answer.side == "source"]
    kept = ledger.of("source", stage.target_lines())[-1]
    missing = [answer for answer in heard if answer.number > kept.number]
    assert not [answer for answer in missing if answer.written <= synced], f"{missing[0]} was synced, and is lost"
    lost = heard[-1].written - kept.written if missing else 0.0
    assert lost <= status["rpoSeconds"] + 2, f"{lost:.1f} s are lost, and {status['rpoSeconds']} s are admitted"


def readable_in_kubectl(case: Case, name: str, status: Json) -> None:
    """A person sees what happened without knowing where to look."""
    told = case.kubectl("describe", "failover", name)
    for word in ("Completed", "Timeline", "Attested", "Fencing", "Rto Seconds", "Rpo Seconds", "Synced Through"):
        assert word in told, f"`kubectl describe failover` does not say {word}:\n{told}"
    columns = case.kubectl("get", "fo", name)
    assert "Completed" in columns
    assert str(status["rtoSeconds"]) in columns


@pytest.mark.parametrize(("dying", "kind"), [("nobody", "Deployment"), ("leader", "StatefulSet")])
def test_a_power_cut_is_survived_by_itself(case: Case, stages: Stages, dying: str, kind: str) -> None:
    (stage,) = stages(Shape(kind=kind, interval="1s", missed=5), dying=dying)
    writer = stage.pods("source")[0]["metadata"]["name"]
    time.sleep(1)
    assert (operators.leader(case.cluster).node == stage.nodes.source) == (dying == "leader")
    cut = time.time()
    case.cluster.power_off(stage.nodes.source)
    stage.attest()
    answered = stage.until_answers("target", since=cut) - cut
    assert answered <= SOONEST
    name = stage.until_automatic()
    done = stage.until_phase(name, "Completed")
    assert stage.timeline(name) == WHOLE_WAY
    assert done["automatic"]
    assert done["epoch"] == 2
    assert {p["name"]: p["grade"] for p in done["proofs"]}[writer] == "Attested"
    assert abs(done["rtoSeconds"] - answered) <= 4, f"{done['rtoSeconds']} s are told, {answered:.1f} s were measured"
    status = stage.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Target", 2, ["Source"])
    assert status["phase"] == "FailedOver"
    nothing_synced_is_lost(stage, done)
    readable_in_kubectl(case, name, done)

    unattest(case.cluster, stage.nodes.source)
    case.cluster.boot(stage.nodes.source)
    stage.scale("source", 1)  # somebody puts the old side back
    refused = case.refused(debug_pod("debug", stage.source.name, stage.nodes.source))
    assert stage.name in refused, f"the gate does not say which pair closes the claim: {refused}"
    time.sleep(5)
    assert stage.pods("source") == []
    ledger.never_two_writers(stage.source_lines(), stage.target_lines())
    stage.until_answers("target")


def test_a_manual_failover_waits_for_a_person_or_for_the_source(case: Case, stages: Stages) -> None:
    waits, goes = stages(waits=Shape(approval="Manual"), goes=Shape(approval="Manual"))
    source = waits.nodes.source
    case.cluster.power_off(source)
    waits.attest()
    first = {stage.name: stage.until_automatic() for stage in (waits, goes)}
    for stage in (waits, goes):
        assert "approve" in stage.until_reason(first[stage.name], "AwaitingApproval")
        assert stage.replicas("source") == 1
        assert stage.status()["closedSides"] == ["Target"]
    another = '{"spec":{"approved":true,"approvedBy":"somebody-else"}}'
    said = case.kubectl("patch", "failover", first["goes"], "--type=merge", "-p", another, check=False)
    assert "approvedBy" in said, f"another's name was taken: {said}"
    user = goes.approve(first["goes"])
    done = goes.until_phase(first["goes"], "Completed")
    assert done["approvedBy"] == user
    goes.until_answers("target")

    unattest(case.cluster, source)
    case.cluster.boot(source)
    back = waits.until_phase(first["waits"], "RolledBack")
    assert back["reason"] == "SourceReturned"
    waits.until_answers("source")
    assert waits.status()["epoch"] == 1
    assert not ledger.of("target", waits.target_lines())

    # The same node dies again: one attempt that came to nothing does not stand in the way of the next.
    case.patch({"failover": {"approval": "Automatic"}}, waits.name)
    waits.ready()
    case.cluster.power_off(source)
    waits.attest()
    second = waits.until_automatic(90, after=1)
    assert second != first["waits"]
    waits.until_phase(second, "Completed")
    waits.until_answers("target")
    assert waits.status()["attempt"] == 2
    unattest(case.cluster, source)
    case.cluster.boot(source)
    for stage in (waits, goes):
        ledger.never_two_writers(stage.source_lines(), stage.target_lines())
