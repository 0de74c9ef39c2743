"""The operator's replicas: where they run, which one leads, and bad luck for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.cluster.cluster import Cluster
from tests.cluster.command import wait_for
from tests.support.case import process_of
from tests.support.product import SYSTEM
from tests.support.reading_api import read

LEASE = "storagemirror-operator"


@dataclass(frozen=True)
class Replica:
    """One pod of the operator."""

    pod: str
    node: str
    ready: bool

    def process(self) -> int:
        """Its process on this machine."""
        return process_of(self.pod, "operator")


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """The operator's pods, those that are being deleted too."""
    words = ("pods", "-l", "app.kubernetes.io/component=operator")
    listed = read(cluster, SYSTEM, *words)
    if listed is None:
        listed = json.loads(cluster.kubectl("-n", SYSTEM, "get", *words, "-o", "json").stdout)
    found: list[dict[str, Any]] = listed["items"]
    return found


def replicas(cluster: Cluster) -> list[Replica]:
    """Those that are not being deleted and have a node."""
    return [
        Replica(pod["metadata"]["name"], pod["spec"]["nodeName"], _ready(pod))
        for pod in pods(cluster)
        if "deletionTimestamp" not in pod["metadata"] and pod["spec"].get("nodeName")
    ]


def holder(cluster: Cluster) -> str:
    """Who holds the Lease: `POD_ID`, another ID in each life of the pod; empty when nobody does."""
    lease = read(cluster, SYSTEM, "lease", LEASE)
    if lease is not None:
        return str(lease["spec"].get("holderIdentity") or "")
    words = ("-n", SYSTEM, "get", "lease", LEASE, "-o", "jsonpath={.spec.holderIdentity}")
    return cluster.kubectl(*words, check=False).stdout.strip()


def leader(cluster: Cluster) -> Replica:
    """The replica that leads; waited for."""
    found: list[Replica] = []

    def leads() -> bool:
        name = holder(cluster)
        found[:] = [replica for replica in replicas(cluster) if name.startswith(f"{replica.pod}_")]
        return bool(found)

    wait_for("an operator to lead", leads, 60, every=0.3)
    return found[0]


def settled(cluster: Cluster, count: int = 2) -> list[Replica]:
    """Until so many replicas are ready, each on a node of its own, and one of them leads; the leader first.

    Where two share a node (one was made while the others' nodes were away), the one that does not lead is deleted.
    """

    def spread() -> bool:
        found = [replica for replica in replicas(cluster) if replica.ready]
        if len(found) != count or len(replicas(cluster)) != count:
            return False
        if len({replica.node for replica in found}) == count:
            return True
        first = leader(cluster)
        other = next(replica for replica in found if replica.pod != first.pod)
        cluster.kubectl("-n", SYSTEM, "delete", "pod", other.pod, "--wait=false")
        return False

    wait_for(f"{count} operators to be ready on nodes of their own", spread, 90, every=0.5)
    first = leader(cluster)
    return sorted(replicas(cluster), key=lambda replica: replica.pod != first.pod)


def told(cluster: Cluster, lines: int = 60) -> str:
    """The last words of every replica, but for its requests."""
    said = []
    for replica in replicas(cluster):
        logs = cluster.kubectl("-n", SYSTEM, "logs", replica.pod, "--tail=4000", check=False).stdout.splitlines()
        kept = [line[:600] for line in logs if "urllib3.connectionpool" not in line]
        said += [f"--- {replica.pod} on {replica.node}", *kept[-lines:]]
    return "\n".join(said)


def _ready(pod: dict[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
