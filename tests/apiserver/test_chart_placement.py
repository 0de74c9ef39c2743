"""Where the operator's replicas run, by the real scheduler: on different nodes if there are some, and always both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.command import wait_for
from tests.support.apiserver import ApiServer
from tests.support.chart import CHART, HOME, RELEASE, bare_server, helm
from tests.support.pairs import CORE

pytestmark = pytest.mark.apiserver

NODES = "/api/v1/nodes"
PODS = CORE.format(HOME, "pods")
CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
DEAD = [{"key": "node.kubernetes.io/unreachable", "effect": effect} for effect in ("NoSchedule", "NoExecute")]


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own with what brings a Deployment's pods onto nodes."""
    with bare_server(tmp_path_factory.mktemp("placement"), "deployment-controller,replicaset-controller") as server:
        server.start_scheduler()
        server.namespace(HOME)
        yield server


@pytest.fixture(autouse=True)
def clean(apiserver: ApiServer) -> Iterator[None]:
    """No nodes and no pods are left for the next test."""
    yield
    client = apiserver.client()
    helm(apiserver, "uninstall", RELEASE, "--no-hooks")
    client.delete(f"/apis/apps/v1/namespaces/{HOME}/replicasets")  # nobody collects what belonged to the Deployment
    client.delete(f"{PODS}?gracePeriodSeconds=0")
    client.delete(NODES)


def node(server: ApiServer, name: str, *taints: dict[str, Any]) -> None:
    """A node that could take everything, but for its taints."""
    labels = {"kubernetes.io/hostname": name}
    server.client().post(NODES, {"metadata": {"name": name, "labels": labels}, "spec": {"taints": list(taints)}})
    room = {"cpu": "4", "memory": "8Gi", "pods": "110"}
    ready = [{"type": "Ready", "status": "True", "reason": "Kubelet", "message": ""}]
    status = {"capacity": room, "allocatable": room, "conditions": ready}
    server.client().merge(f"{NODES}/{name}/status", {"status": status})
    # Admission taints every new node, and the controller that would take that taint off does not run here.
    server.client().merge(f"{NODES}/{name}", {"spec": {"taints": list(taints)}})


def pods(server: ApiServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.client().get(PODS).value["items"]
    return found


def places(server: ApiServer) -> list[str]:
    """The node of each pod; empty where it has none."""
    return sorted(pod["spec"].get("nodeName", "") for pod in pods(server))


def until(server: ApiServer, *wanted: str) -> None:
    wait_for(f"the replicas to be on {wanted}", lambda: places(server) == sorted(wanted), 20)


def test_on_two_nodes_each_has_one(apiserver: ApiServer) -> None:
    node(apiserver, "n1")
    node(apiserver, "n2")
    helm(apiserver, "install", RELEASE, CHART)
    until(apiserver, "n1", "n2")


def test_the_only_node_has_both(apiserver: ApiServer) -> None:
    node(apiserver, "n1")
    helm(apiserver, "install", RELEASE, CHART)
    until(apiserver, "n1", "n1")


def test_a_node_that_takes_no_applications_does_not_count(apiserver: ApiServer) -> None:
    node(apiserver, "control-plane", CONTROL_PLANE)
    node(apiserver, "n1")
    helm(apiserver, "install", RELEASE, CHART)
    until(apiserver, "n1", "n1")


def test_when_a_node_has_died_the_other_takes_over_its_replica(apiserver: ApiServer) -> None:
    node(apiserver, "n1")
    node(apiserver, "n2")
    helm(apiserver, "install", RELEASE, CHART)
    until(apiserver, "n1", "n2")
    client = apiserver.client()
    client.merge(f"{NODES}/n2", {"spec": {"taints": DEAD}})
    (evicted,) = [p["metadata"]["name"] for p in pods(apiserver) if p["spec"]["nodeName"] == "n2"]
    client.delete(f"{PODS}/{evicted}?gracePeriodSeconds=0")
    until(apiserver, "n1", "n1")


def test_an_upgrade_need_not_wait_for_a_free_node(apiserver: ApiServer) -> None:
    node(apiserver, "n1")
    node(apiserver, "n2")
    helm(apiserver, "install", RELEASE, CHART)
    until(apiserver, "n1", "n2")
    helm(apiserver, "upgrade", RELEASE, CHART, "--set=podAnnotations.revision=next")
    wait_for("a replica of the next revision", lambda: len(places(apiserver)) == 3 and all(places(apiserver)), 20)
