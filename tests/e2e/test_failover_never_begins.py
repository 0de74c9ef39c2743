"""What people and machines do every day is no reason to fail over."""

from __future__ import annotations

import time

import pytest

from tests.support import operators
from tests.support.case import Case
from tests.support.failover_case import Nodes, Stage
from tests.support.failover_fixtures import Stages, choose
from tests.support.failover_objects import Shape
from tests.support.product import SYSTEM

pytestmark = pytest.mark.e2e

LONG = 45
"""Seconds: a node counts as lost after 20 of them, and an agent as silent after 15."""


def agents_of(case: Case, stage: Stage) -> set[str]:
    """The names of both agents."""
    return {case.agent(role, stage.name)["metadata"]["name"] for role in ("source", "target")}


def paused(case: Case, stage: Stage) -> None:
    """Paused, its source agent is taken away, and it goes on."""
    case.patch({"paused": True}, stage.name)
    stage.until("phase Paused", lambda: stage.status()["phase"] == "Paused")
    case.kubectl("delete", "pod", case.agent("source", stage.name)["metadata"]["name"], "--wait=false")
    time.sleep(5)
    case.patch({"paused": False}, stage.name)
    stage.ready()


def upgraded(case: Case, stage: Stage) -> None:
    """Both agents are replaced."""
    before = agents_of(case, stage)
    case.patch({"agents": {"podLabels": {"again": "yes"}}}, stage.name)

    def replaced() -> bool:
        pods = [case.agent(role, stage.name) for role in ("source", "target")]
        return all(pod and pod["metadata"]["name"] not in before for pod in pods)

    stage.until("both agents to be new ones", replaced, 60)
    stage.ready()


def restarted(case: Case) -> None:
    """Every operator is deleted, and others come."""
    case.cluster.kubectl(
        *("-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=operator", "--wait=false")
    )
    operators.settled(case.cluster)


def test_nothing_that_is_meant_or_passes_fails_over(case: Case, stages: Stages) -> None:
    nodes = choose(case, "nobody")
    (still,) = stages(still=Shape(), nodes=nodes)
    (busy,) = stages(busy=Shape(), nodes=Nodes(nodes.target, nodes.witness, nodes.witness))
    watch = still.watch("failovers")

    still.scale("source", 0)
    still.until("no pod of the source", lambda: still.pods("source") == [])
    case.cluster.cut(nodes.source)  # nobody uses the volume: its node may go
    since = time.monotonic()
    paused(case, busy)
    upgraded(case, busy)
    restarted(case)
    time.sleep(max(0.0, LONG - (time.monotonic() - since)))
    case.cluster.heal(nodes.source)
    still.scale("source", 1)
    still.ready()

    case.cluster.kubectl("drain", nodes.source, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=60s")
    time.sleep(20)
    assert still.pods("source")[0]["status"]["phase"] == "Pending"
    case.cluster.kubectl("uncordon", nodes.source)
    still.ready()

    case.cluster.stop_apiserver()
    time.sleep(40)
    case.cluster.start_apiserver()
    time.sleep(20)
    for stage in (still, busy):
        stage.ready(120)
        assert stage.failovers() == []
        assert stage.status().get("attempt", 0) == 0
    assert [seen.object["metadata"]["name"] for seen in watch.history] == []
