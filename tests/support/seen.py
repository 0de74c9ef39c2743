"""What a pass may see, built by hand: pods as their kubelets tell of them, nodes, a pair with both sides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.operation import OperationPhase
from storagemirror.api.sides import Side
from storagemirror.api.status import Writer
from storagemirror.plan.objects import Node, Pod
from storagemirror.plan.observed import Authority, Observed
from storagemirror.plan.times import written
from storagemirror.resources import labels
from storagemirror.resources.pod import Image

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SOURCE_CLAIM, TARGET_CLAIM = "orders-data", "orders-standby"


def ago(seconds: float) -> str:
    """So many seconds before NOW, as the API writes it."""
    return written(NOW - timedelta(seconds=seconds))


def container(name: str = "app", *, ran: bool = True, **state: Any) -> dict[str, Any]:
    """A container's status; `running`, `waiting` and `terminated` make its state, `last` its lastState."""
    last = state.pop("last", None)
    found: dict[str, Any] = {"name": name, "state": state}
    if ran:
        found["containerID"] = f"containerd://{name}"
    return found | ({"lastState": last} if last is not None else {})


RUNNING = container(running={"startedAt": "2026-01-02T03:00:00Z"})
KILLED = container(terminated={"exitCode": 137, "reason": "Error"})


def status(phase: str, *containers: dict[str, Any], by_kubelet: bool | None = None, **more: Any) -> dict[str, Any]:
    """A pod's status. `by_kubelet`: whether the kubelet itself gave the phase; left out: where it is a terminal one."""
    last = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
    said = last is not None if by_kubelet is None else by_kubelet
    reason = last if said and last is not None else "ContainersNotReady"
    conditions = [{"type": kind, "status": "False", "reason": reason} for kind in ("Ready", "ContainersReady")]
    return {"phase": phase, "conditions": conditions, "containerStatuses": list(containers), **more}


ENDED = status("Failed", KILLED)
"""As a kubelet tells of a pod that it has ended for good."""


def pod(
    name: str = "orders-0",
    *,
    node: str = "node-a",
    claims: tuple[str, ...] = (SOURCE_CLAIM,),
    status: dict[str, Any] | None = None,
    leaving: bool = False,
    **meta: Any,
) -> Pod:
    """A pod of the application, running where nothing else is said. Its UID is `uid-NAME` unless given."""
    volumes = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in claims]
    metadata = {"name": name, "namespace": "shop", "uid": f"uid-{name}", **meta}
    if leaving:
        metadata["deletionTimestamp"] = ago(30)
    running = {"phase": "Running" if node else "Pending", "containerStatuses": [RUNNING] if node else []}
    found = {
        "metadata": metadata,
        "spec": {"nodeName": node, "containers": [{"name": "app"}], "volumes": volumes},
        "status": running if status is None else status,
    }
    return msgspec.convert(found, Pod)


def node(name: str = "node-a", *, ready: bool = True, since: str | None = None, off: bool = False) -> Node:
    """A node. `since`: when its readiness changed last, empty where it does not say;
    `off`: it is tainted out-of-service."""
    condition = {
        "type": "Ready",
        "status": "True" if ready else "Unknown",
        "lastTransitionTime": ago(86_400) if since is None else since,
    }
    taints = [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}] if off else []
    return msgspec.convert(
        {"metadata": {"name": name}, "spec": {"taints": taints}, "status": {"conditions": [condition]}}, Node
    )


def pair(status: dict[str, Any] | None = None, **spec: Any) -> MirrorPair:
    """One volume, a Deployment on each side."""
    sides = {
        "source": {"workloads": [{"kind": "Deployment", "name": "orders"}]},
        "target": {"workloads": [{"kind": "Deployment", "name": "orders-standby"}]},
    }
    one = {"name": "data", "source": {"claimName": SOURCE_CLAIM}, "target": {"claimName": TARGET_CLAIM}}
    return MirrorPair.read(
        {
            "metadata": {"name": "orders", "namespace": "shop", "uid": "uid-pair"},
            "spec": {"volumes": [one], "sides": sides, **spec},
            "status": {"activeSide": "Source", "epoch": 1, **(status or {})},
        }
    )


def operation(phase: OperationPhase, **more: Any) -> dict[str, Any]:
    """An operation in `phase`, for a status."""
    wanted = {"kind": "Failover", "name": "orders-1", "uid": "uid-failover", "mode": "Unplanned", "fromEpoch": 1}
    return {**wanted, "attempt": 1, "phase": phase.value, **more}


def seen(of: MirrorPair | None = None, **more: Any) -> Observed:
    """An Observed of `of` and what else is given."""
    return Observed(of or pair(), Image("storagemirror:1"), Authority("ca"), NOW - timedelta(hours=1), **more)


def agent(name: str = "orders-data-source-abc123-1", claim: str = SOURCE_CLAIM, **marks: str) -> Pod:
    """An agent's pod, as an operator makes it; `marks`: labels more."""
    owner = {"kind": "MirrorPair", "name": "orders", "uid": "uid-pair", "controller": True}
    marks |= {labels.APP_COMPONENT: labels.AGENT, labels.PAIR: "uid-pair"}
    return pod(name, claims=(claim,), labels=marks, ownerReferences=[owner])


def writer(
    name: str = "orders-0", *, on: str = "node-a", side: Side = Side.SOURCE, gone: float | None = None
) -> Writer:
    """`gone`: for how many seconds."""
    since = ago(gone) if gone is not None else None
    return Writer(uid=f"uid-{name}", name=name, side=side, node=on, since=ago(3600), gone_since=since)


def after(*writers: Writer, status: dict[str, Any] | None = None, **more: Any) -> Observed:
    """A pass after one that knew `writers`."""
    told = {"writers": [w.dump() for w in writers], **(status or {})}
    return seen(pair(told), **more)
