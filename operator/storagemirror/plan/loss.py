"""Has the source been lost? Nothing short of two witnesses says so: the agents, and its node.

That the agents do not hear each other is no death: the link may be cut, an agent may be replaced, a drain or an
upgrade may be going on. That a node is not Ready is no death either, while its agent is heard. Both together are, or
the word of somebody who knows (the node deleted, or marked out-of-service) beside agents that are not heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from storagemirror.api.sides import Side
from storagemirror.plan.contact import connected, lost, source_silent
from storagemirror.plan.objects import Node, WorkloadObject
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.plan.view import View

LONG_SECONDS = 60.0
"""Silent for so long, a source agent counts as missed although the target agent cannot tell (it is new itself)."""


@dataclass(frozen=True)
class Loss:
    """The source is lost."""

    why: str


def source_lost(observed: Observed, views: Sequence[View]) -> Loss | None:
    """Why the source counts as lost; None where it does not, or where that cannot be said."""
    status = observed.pair.status
    nodes = _nodes(observed)
    if status.active_side is not Side.SOURCE or not nodes or not _wanted(observed):
        return None
    told = [_dead(observed, node) for node in nodes]
    if any(found is None for found in told):
        return None
    attested = all(found is not None and found.attested for found in told)
    for view in views:
        if _missed(view, attested):
            how = "is not heard by the target agent" if lost(view) else "has not renewed its Lease"
            words = "; ".join(found.why for found in told if found is not None)
            return Loss(f"The source agent of volume {view.volume.name} {how}, and {words}.")
    return None


def _missed(view: View, attested: bool) -> bool:
    """Whether the agents say that the source is gone. Where nobody has said that its node is off, both must: the one
    beside the copy has missed its beats, and we its Lease; or its Lease alone for long."""
    if connected(view):
        return False
    if attested:
        return lost(view) or source_silent(view)
    return (lost(view) and source_silent(view)) or source_silent(view, LONG_SECONDS)


def _nodes(observed: Observed) -> list[str]:
    """Where the source is written. What only lies about (a pod that its kubelet refused) does not count, unless there
    is nothing else."""
    pods = observed.pods if isinstance(observed.pods, tuple) else ()
    lying = {p.metadata.uid for p in pods if p.over}
    writers = [w for w in observed.pair.status.writers if w.side is Side.SOURCE and w.node]
    return sorted({w.node for w in writers if w.uid not in lying} or {w.node for w in writers})


def source_back(views: Sequence[View]) -> bool:
    """Whether every volume's source agent is heard by its target agent again."""
    return all(connected(view) for view in views)


@dataclass(frozen=True)
class _Dead:
    why: str
    attested: bool


def _dead(observed: Observed, name: str) -> _Dead | None:
    """What is known against a node; None where nothing is, or it could not be read."""
    if name not in observed.nodes:
        return None
    node = observed.nodes[name]
    if isinstance(node, Unseen):
        return None
    if node is None:
        return _Dead(f"node {name} was deleted", True)
    if node.out_of_service:
        return _Dead(f"node {name} is marked out-of-service", True)
    if isinstance(node, Node) and not node.ready:
        return _Dead(f"node {name} is not Ready", False)
    return None


def _wanted(observed: Observed) -> bool:
    """Whether the application is meant to run: who scaled it to zero does not want a standby either."""
    sides = observed.pair.spec.sides
    if sides is None:
        return False
    found = [observed.workloads.get((w.kind, w.name)) for w in sides.source.workloads]
    return any(isinstance(w, WorkloadObject) and w.spec.replicas > 0 for w in found)
