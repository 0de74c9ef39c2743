"""What heals by itself calls nobody, and what lasts is not asked about every second."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.contract import Phase, Problem, Report, Role
from storagemirror.kube.authority import HELD_IN
from tests.support.world import HOME, KEY, NAMESPACE, NODES, World


def replicating() -> World:
    world = World()
    world.usual()
    world.settle()
    assert world.status()["phase"] == "Replicating"
    return world


def live(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.tick()
        world.pass_once()


def again(world: World) -> float:
    """When the operator looks again by itself, once it has nothing to write."""
    world.passes()
    wait = world.operator.run(KEY).again
    return 3600.0 if wait is None else wait


def says(world: World, role: Role, reason: str) -> None:
    world.silent.add(role)
    order = world.order(role)
    base = world.agents(role)[-1]["metadata"]["name"].rpartition("-")[0]
    problem = Problem(reason=reason, message="It says why.")
    numbers: dict[str, Any] = {"instance": order.instance, "epoch": order.epoch, "revision": order.revision}
    world.say(role, base, Report(phase=Phase.FAILED, problem=problem, **numbers))
    world.pass_once()


def test_an_agent_that_finds_no_node_calls_somebody_only_when_that_lasts() -> None:
    world = World()
    world.usual()
    world.dead_nodes |= set(NODES)  # drained, all of them at once
    live(world, 40)
    assert world.condition("AgentsReady") == ("False", "AgentUnschedulable")
    assert world.condition("Stalled")[0] == "False"
    assert world.condition("Reconciling")[0] == "True"
    live(world, 120)
    assert world.condition("Stalled") == ("True", "AgentUnschedulable")
    assert again(world) >= 10.0


def test_an_old_agent_that_does_not_go_is_not_looked_at_every_second() -> None:
    world = replicating()
    node = world.agents(Role.TARGET)[0]["spec"]["nodeName"]
    world.dead_nodes.add(node)
    name = world.agents(Role.TARGET)[0]["metadata"]["name"]
    stamp = world.clock.moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    world.api.put("pods", {"metadata": {"name": name, "namespace": NAMESPACE, "deletionTimestamp": stamp}})
    assert again(world) <= 2.0
    live(world, 90)
    assert world.condition("Stalled") == ("True", "OldAgentNotGone")
    assert again(world) >= 10.0


def test_a_pod_that_its_node_refuses_at_once_is_not_made_anew_every_second() -> None:
    world = replicating()
    number = world.order(Role.SOURCE).instance
    for _ in range(60):
        for pod in world.agents(Role.SOURCE):
            meta = {"name": pod["metadata"]["name"], "namespace": NAMESPACE}
            status = {"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"}
            world.api.put("pods", {"metadata": meta, "status": status})
        world.tick()
        world.pass_once()
    assert 3 <= world.order(Role.SOURCE).instance - number <= 8
    condition = next(c for c in world.status()["conditions"] if c["type"] == "AgentsReady")
    assert "enough resource: cpu" in condition["message"]


@pytest.mark.parametrize("reason", ["TargetBusy", "PeerNotTrusted", "PeerTooOld", "OrderInvalid", "Changed"])
def test_what_an_agent_gets_over_by_itself_calls_nobody(reason: str) -> None:
    world = replicating()
    says(world, Role.SOURCE, reason)
    assert world.condition("Ready") == ("False", reason)
    assert world.condition("Stalled")[0] == "False"
    assert world.condition("Reconciling")[0] == "True"


def test_writers_on_several_nodes_are_a_warning() -> None:
    world = replicating()
    world.writer("orders-1", "node-b")
    world.settle()
    assert world.condition("ClaimsReady") == ("True", "WritersOnSeveralNodes")
    assert ("Warning", "WritersOnSeveralNodes") in world.events()
    world.api.remove(("pods", NAMESPACE, "orders-1"))
    world.settle()
    assert world.condition("ClaimsReady") == ("True", "ClaimsBound")


def test_a_pod_that_only_reads_the_source_elsewhere_is_no_warning() -> None:
    world = replicating()
    mount = {"name": "data", "mountPath": "/data", "readOnly": True}
    world.writer("reader", "node-b", containers=[{"name": "app", "volumeMounts": [mount]}])
    world.settle()
    assert world.condition("ClaimsReady") == ("True", "ClaimsBound")


def test_a_spoiled_ca_is_told_in_the_status() -> None:
    world = replicating()
    world.api.put("secrets", {"metadata": {"name": HELD_IN, "namespace": HOME}, "data": {"tls.key": "c3BvaWxlZA=="}})
    world.start_operator()
    world.settle()
    assert world.condition("Ready") == ("False", "BadInput")
    assert world.condition("Stalled") == ("True", "BadInput")
    assert HELD_IN in next(c for c in world.status()["conditions"] if c["type"] == "Ready")["message"]
    assert len(world.agents()) == 2, "replication goes on"
    world.api.remove(("secrets", HOME, HELD_IN))
    world.settle()
    assert world.condition("Ready") == ("True", "Replicating")


def test_a_lag_that_is_not_known_any_more_is_not_shown() -> None:
    world = replicating()
    live(world, 5)
    assert world.status()["lag"] == "0s"
    world.silent.add(Role.SOURCE)
    meta = {"name": world.agents(Role.SOURCE)[0]["metadata"]["name"], "namespace": NAMESPACE}
    last = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    state = {"name": "agent", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": last}
    world.api.put("pods", {"metadata": meta, "status": {"phase": "Running", "containerStatuses": [state]}})
    live(world, 30)
    assert world.condition("Ready") == ("False", "AgentCrashed")
    assert "lag" not in world.status()
    assert "lagSeconds" not in world.status()["volumes"][0]
