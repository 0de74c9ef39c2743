"""What a pass must see for failing over: only for pairs that name their sides, and only what the moment asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from storagemirror.api.failover import Failover
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.operation import OperationPhase
from storagemirror.api.restore import Restore
from storagemirror.api.sides import Side, WorkloadKind
from storagemirror.errors import BadInput
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.gate import Gate, try_gate
from storagemirror.kube.look import look
from storagemirror.plan.course import operation_of
from storagemirror.plan.missed import source_missed
from storagemirror.plan.objects import EndpointSlice, Node, Pod, ServiceObject, WorkloadObject
from storagemirror.plan.observed import GateSeen, Observed, Reached, Unseen
from storagemirror.plan.services import targets_to_reach
from storagemirror.plan.times import read

T = TypeVar("T")

Reach = Callable[[Mapping[str, tuple[str, ...]]], Mapping[str, tuple[Reached, ...]]]
"""Tries a TCP connection to each `ip:port`, by Service (`kube.reach`)."""

GATE_EVERY = 300.0
GATE_AGAIN = 15.0
"""Seconds between two tries of the gate while nothing happens: where it held, and where it did not."""


@dataclass(frozen=True)
class Failovers:
    """All of a namespace: those of one pair, and every name that is taken."""

    of_pair: tuple[Failover, ...] | Unseen
    names: frozenset[str] = frozenset()


def list_failovers(api: Api, namespace: str, pair: str) -> Failovers:
    """The Failovers that name `pair`; without those that cannot be understood (written for another release)."""
    found = look(lambda: api.list(dict[str, Any], paths.FAILOVERS, namespace), "the Failovers")
    if isinstance(found, Unseen):
        return Failovers(found)
    mine: list[Failover] = []
    for raw in found or ():
        if (raw.get("spec") or {}).get("pairName") != pair:
            continue
        try:
            mine.append(Failover.read(raw))
        except BadInput:
            continue
    return Failovers(tuple(mine), frozenset(raw["metadata"]["name"] for raw in found or ()))


def list_restores(api: Api, namespace: str, pair: str) -> tuple[Restore, ...] | Unseen:
    """The Restores that name `pair`; without those that cannot be understood."""
    found = look(lambda: api.list(dict[str, Any], paths.RESTORES, namespace), "the Restores")
    if isinstance(found, Unseen):
        return found
    mine: list[Restore] = []
    for raw in found or ():
        if (raw.get("spec") or {}).get("pairName") != pair:
            continue
        try:
            mine.append(Restore.read(raw))
        except BadInput:
            continue
    return tuple(mine)


def before_pods(api: Api, gate: Gate, pair: MirrorPair, now: datetime) -> dict[Side, GateSeen | Unseen]:
    """The gate, tried where it is time. Before the pods are listed: who was let in before it closed is seen then."""
    if pair.spec.sides is None or not pair.status.closed_sides or not _gate_due(pair, now):
        return {}
    return try_gate(api, gate, pair, pair.status.closed_sides)


def _gate_due(pair: MirrorPair, now: datetime) -> bool:
    operation = operation_of(pair.status)
    if operation is not None and operation.phase is OperationPhase.FENCING:
        return True
    if operation is not None:
        return False
    last = pair.status.gate
    at = read(last.checked_at) if last is not None else None
    if at is None or last is None:
        return True
    return (now - at).total_seconds() >= (GATE_EVERY if last.in_force else GATE_AGAIN)


def with_failover(api: Api, reach: Reach, observed: Observed) -> Observed:
    """`observed` with workloads, Services, nodes and, while a failover is verified, endpoints."""
    pair = observed.pair
    nodes = dict(observed.nodes)
    if _suspect(observed):
        for name in sorted({w.node for w in pair.status.writers if w.node} - nodes.keys()):
            nodes[name] = look(_getter(api, Node, paths.NODES, None, name), f"node {name}")
    observed = replace(
        observed,
        workloads=_workloads(api, pair),
        services=_services(api, pair),
        nodes=nodes,
        every_node=_every_node(api, observed),
    )
    operation = operation_of(pair.status)
    if operation is None or operation.phase is not OperationPhase.VERIFYING:
        return observed
    observed = replace(observed, endpoints=_endpoints(api, pair))
    return replace(observed, reached=reach(targets_to_reach(observed)))


def workload_pods(pods: Iterable[Pod], workloads: Mapping[tuple[WorkloadKind, str], object]) -> tuple[Pod, ...]:
    """Of all pods of a namespace, those that a workload of the pair selects."""
    known = [w for w in workloads.values() if isinstance(w, WorkloadObject)]
    return tuple(p for p in pods if any(w.owns_by_labels(p) for w in known))


def _suspect(observed: Observed) -> bool:
    """Whether nodes matter now: a failover goes on, the source is missed, or a writer is gone unseen."""
    status = observed.pair.status
    if operation_of(status) is not None or any(w.gone_since is not None for w in status.writers):
        return True
    return source_missed(observed)


def _every_node(api: Api, observed: Observed) -> tuple[Node, ...] | Unseen | None:
    """All nodes, until every writer is known, and while one without a node is gone unseen."""
    status = observed.pair.status
    lost = any(w.gone_since is not None and not w.node for w in status.writers)
    if status.writers_known_since is not None and not lost:
        return None
    found = look(lambda: api.list(Node, paths.NODES), "the nodes")
    return found if isinstance(found, Unseen) else tuple(found or ())


def _workloads(api: Api, pair: MirrorPair) -> dict[tuple[WorkloadKind, str], WorkloadObject | Unseen | None]:
    wanted: set[tuple[WorkloadKind, str]] = set()
    if pair.spec.sides is not None:
        for side in (pair.spec.sides.source, pair.spec.sides.target):
            wanted |= {(w.kind, w.name) for w in side.workloads}
    operation = operation_of(pair.status)
    wanted |= {(w.kind, w.name) for w in operation.replicas} if operation is not None else set()
    space = pair.metadata.namespace
    return {
        (kind, name): look(_getter(api, WorkloadObject, paths.by_kind(kind), space, name), f"{kind} {name}")
        for kind, name in sorted(wanted)
    }


def _services(api: Api, pair: MirrorPair) -> dict[str, ServiceObject | Unseen | None]:
    space = pair.metadata.namespace
    return {
        s.name: look(_getter(api, ServiceObject, paths.SERVICES, space, s.name), f"Service {s.name}")
        for s in pair.spec.services
    }


def _endpoints(api: Api, pair: MirrorPair) -> dict[str, tuple[EndpointSlice, ...] | Unseen]:
    found: dict[str, tuple[EndpointSlice, ...] | Unseen] = {}
    for service in pair.spec.services:
        slices = look(_slices(api, pair.metadata.namespace, service.name), f"the endpoints of Service {service.name}")
        found[service.name] = slices if isinstance(slices, Unseen) else tuple(slices or ())
    return found


def _slices(api: Api, namespace: str, service: str) -> Callable[[], list[EndpointSlice]]:
    chosen = f"kubernetes.io/service-name={service}"
    return lambda: api.list(EndpointSlice, paths.ENDPOINT_SLICES, namespace, labels=chosen)


def _getter(api: Api, kind: type[T], resource: paths.Resource, namespace: str | None, name: str) -> Callable[[], T]:
    return lambda: api.get(kind, resource, namespace, name)
