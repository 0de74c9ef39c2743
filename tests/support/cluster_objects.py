"""Builders for the objects that end-to-end tests make again and again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.cluster.images import TESTBOX
from tests.support.cluster_kubectl import Object


def claim(name: str, *, size: str = "100Mi", storage_class: str = "local", volume: str = "", **spec: Any) -> Object:
    """A PersistentVolumeClaim, ReadWriteOnce; `volume` names the PersistentVolume it must get."""
    wanted: Object = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "resources": {"requests": {"storage": size}},
        **spec,
    }
    if volume:
        wanted["volumeName"] = volume
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": wanted}


def pod(
    name: str,
    *,
    command: list[str] | None = None,
    claims: Mapping[str, str] | None = None,
    node: str = "",
    labels: Mapping[str, str] | None = None,
    image: str = TESTBOX,
) -> Object:
    """A pod of the tests' image that sleeps (or runs `command`) and dies at once when it is deleted.

    `claims`: mount path to claim. `node` is a node affinity, so that the scheduler takes part.
    """
    volumes = [(path, claimed, f"v{i}") for i, (path, claimed) in enumerate((claims or {}).items())]
    spec: Object = {
        "terminationGracePeriodSeconds": 0,
        "restartPolicy": "Always",
        "containers": [
            {
                "name": "main",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": command or ["sleep", "infinity"],
                "volumeMounts": [{"name": short, "mountPath": path} for path, _, short in volumes],
            }
        ],
        "volumes": [{"name": short, "persistentVolumeClaim": {"claimName": claimed}} for _, claimed, short in volumes],
    }
    if node:
        spec["affinity"] = node_affinity(node)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **(labels or {})}},
        "spec": spec,
    }


def deployment(name: str, template: Object, *, replicas: int = 1) -> Object:
    """A Deployment (strategy Recreate) of such a pod."""
    labels = template["metadata"]["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": labels["app"]}},
            "template": {"metadata": {"labels": labels}, "spec": template["spec"]},
        },
    }


def node_affinity(node: str) -> Object:
    """Only this node."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    terms = [{"matchExpressions": [here]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
