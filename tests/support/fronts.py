"""A pair with a Service in front, built by hand: workloads, Services as the API gives them back, pods that answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from storagemirror.api.sides import WorkloadKind
from storagemirror.plan.objects import Pod, ServiceObject, WorkloadObject
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.resources import labels
from tests.support.seen import TARGET_CLAIM, pair, pod, seen

BLIND = Unseen("503")
MANAGED = {"name": "orders", "ports": [{"port": 80, "targetPort": 8080}]}
LABEL = {"name": "orders", "strategy": "Label"}
ON_TARGET = {"activeSide": "Target", "epoch": 2, "closedSides": ["Source"]}
BOTH_CLOSED = {"closedSides": ["Source", "Target"]}


def workload(name: str, app: str | None = None, **spec: Any) -> WorkloadObject:
    """A Deployment whose pods bear `app: APP`, ready where it wants any."""
    match = {"app": app or name}
    found = {"selector": {"matchLabels": match}, "template": {"metadata": {"labels": match}}, "replicas": 1, **spec}
    ready = {"readyReplicas": found["replicas"]}
    return msgspec.convert({"metadata": {"name": name}, "spec": found, "status": ready}, WorkloadObject)


SOURCE, STANDBY = workload("orders"), workload("orders-standby")


def workloads(source: Any = SOURCE, target: Any = STANDBY) -> dict[tuple[WorkloadKind, str], Any]:
    kind = WorkloadKind.DEPLOYMENT
    return {(kind, "orders"): source, (kind, "orders-standby"): target}


def made(manifest: Mapping[str, Any], **spec: Any) -> ServiceObject:
    """The Service as the API server gives it back, with what it adds, and what somebody else changed in its spec."""
    ports = [{"nodePort": 30_000, **p} for p in manifest["spec"]["ports"]]
    added = {"clusterIP": "10.96.0.7", "type": "ClusterIP", **manifest["spec"], "ports": ports, **spec}
    return msgspec.convert({**manifest, "spec": added}, ServiceObject)


def foreign(**spec: Any) -> ServiceObject:
    """A Service that the user made."""
    return msgspec.convert({"metadata": {"name": "orders"}, "spec": {"clusterIP": "10.96.0.7", **spec}}, ServiceObject)


def around(service: Mapping[str, Any], there: Any, status: dict[str, Any] | None = None, **more: Any) -> Observed:
    """A pair with that one Service, which the API has as `there`."""
    given: dict[str, Any] = {"workloads": workloads(), "services": {"orders": there}, **more}
    return seen(pair(status, services=[service]), **given)


def standing(name: str = "standby-1", app: str = "orders-standby", *, live: str | None = None, **more: Any) -> Pod:
    """A pod of a workload."""
    marks = {"app": app} | ({labels.LIVE: live} if live is not None else {})
    return pod(name, claims=(TARGET_CLAIM,), labels=marks, **more)
