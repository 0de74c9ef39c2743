"""The objects of an application with a standby: workloads, Services, the pair's part for failing over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.filesystems import FileSystem
from tests.support.case import TESTBOX, Json

PORT = 8080
LEDGER = (Path(__file__).parent / "testbox" / "ledger.py").read_text()
READY = {"tcpSocket": {"port": PORT}}


@dataclass(frozen=True)
class Shape:
    """What kind of application it is, and by which rules it fails over. The values are those of the API."""

    kind: str = "Deployment"
    strategy: str = "Managed"
    approval: str = "Automatic"
    proof: tuple[str, ...] = ("Proven", "Attested")
    max_lag: str = "30s"
    start: str = "Scale"
    interval: str = "500ms"
    missed: int = 4
    size: str = "32Mi"
    fs: FileSystem = FileSystem.EXT4
    lines_a_second: float = 20
    standby_ready: Json = field(default_factory=lambda: dict(READY))
    """The part of the standby's readiness probe that says what is asked."""


def workload(shape: Shape, name: str, side: str, claim: str) -> Json:
    """A workload whose one pod keeps a ledger on the claim. A standby stands at zero, unless the gate keeps it away."""
    standby = side == "target"
    probe = shape.standby_ready if standby else READY
    container: Json = {
        "name": "app",
        "image": TESTBOX,
        "imagePullPolicy": "Never",
        "command": ["python3", "-u", "-c", LEDGER, side, "/data", str(PORT), str(shape.lines_a_second)],
        "ports": [{"containerPort": PORT}],
        "readinessProbe": {**probe, "periodSeconds": 1, "failureThreshold": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    pod = {
        "terminationGracePeriodSeconds": 2,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
    spec: Json = {
        "replicas": 0 if standby and shape.start == "Scale" else 1,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
    }
    if shape.kind == "Deployment":
        spec["strategy"] = {"type": "Recreate"}
    else:
        spec["serviceName"] = name
    return {"apiVersion": "apps/v1", "kind": shape.kind, "metadata": {"name": name}, "spec": spec}


def label_service(name: str, pair: str) -> Json:
    """A Service of the user's own, as strategy Label wants it."""
    spec = {"selector": {"storagemirror.io/live": pair}, "ports": [{"port": 80, "targetPort": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def managed_service(name: str, app: str) -> Json:
    """What somebody who does not know better keeps in Git: the Managed Service with the selector of one side."""
    spec = {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": PORT}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def pair_spec(shape: Shape, source: str, target: str, service: str) -> Json:
    """Sides, Services, monitoring and failover of a pair; `source` and `target` name the workloads."""
    one: Json = {"name": service, "strategy": shape.strategy}
    if shape.strategy == "Managed":
        one["ports"] = [{"port": 80, "targetPort": PORT}]
    return {
        "sides": {
            "source": {"workloads": [{"kind": shape.kind, "name": source}]},
            "target": {"workloads": [{"kind": shape.kind, "name": target}]},
        },
        "services": [one],
        "monitoring": {"interval": shape.interval, "missed": shape.missed},
        "failover": {
            "approval": shape.approval,
            "sufficientProof": list(shape.proof),
            "maxLag": shape.max_lag,
            "start": shape.start,
        },
    }


def failover(name: str, pair: str, mode: str, epoch: int, *, approved_by: str | None = None, **spec: Any) -> Json:
    """A Failover, approved where a user is named; further fields of the spec by their API names."""
    wanted: Json = {"pairName": pair, "fromEpoch": epoch, "mode": mode, **spec}
    if approved_by:
        wanted |= {"approved": True, "approvedBy": approved_by}
    return {
        "apiVersion": "storagemirror.io/v1alpha1",
        "kind": "Failover",
        "metadata": {"name": name},
        "spec": wanted,
    }


def restore(name: str, pair: str, epoch: int | None, cut_over: str, to: Json | None) -> Json:
    """A Restore; `to` is spec.to, without which it brings the pair home."""
    wanted: Json = {"pairName": pair, "cutOver": cut_over}
    if epoch is not None:
        wanted["fromEpoch"] = epoch
    if to is not None:
        wanted["to"] = to
    return {"apiVersion": "storagemirror.io/v1alpha1", "kind": "Restore", "metadata": {"name": name}, "spec": wanted}


def debug_pod(name: str, claim: str, node: str) -> Json:
    """A pod that somebody left, with the claim mounted."""
    container = {
        "name": "shell",
        "image": TESTBOX,
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "nodeSelector": {"kubernetes.io/hostname": node},
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
