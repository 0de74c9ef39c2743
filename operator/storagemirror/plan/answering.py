"""Does the live side answer? By the endpoints of its Services, and by a connection to one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from storagemirror.api.operation import Answer
from storagemirror.api.sides import Service
from storagemirror.plan.living import answering_object, pods_of, seen, side_of, workloads_of
from storagemirror.plan.objects import Endpoint, EndpointPort, EndpointSlice, WorkloadObject
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.plan.times import written

ANSWER_PATIENCE = 10.0
"""Seconds for which ready endpoints are tried from the operator; what stands between may let only clients through."""
MOST_TRIED = 3
"""Addresses of a Service that are tried at once."""


@dataclass(frozen=True)
class _Missing:
    """What a Service lacks to answer."""

    why: str


def answers(observed: Observed, now: datetime, ready_since: datetime | None) -> tuple[Answer, ...] | str:
    """How it was seen that every Service answers from the live side; or, as text, what is missing.

    `ready_since`: since when there were ready endpoints and no connection. A pair without Services answers when its
    workloads have ready pods.
    """
    if not observed.pair.spec.services:
        return _ready_workloads(observed, now)
    found: list[Answer] = []
    for service in observed.pair.spec.services:
        how = _how(observed, service, now, ready_since)
        if isinstance(how, _Missing):
            return how.why
        found.append(Answer(service=service.name, how=how, at=written(now)))
    return tuple(found)


def _ready_workloads(observed: Observed, now: datetime) -> tuple[Answer, ...] | str:
    wanted = workloads_of(observed.pair, side_of(observed.pair))
    if not wanted:
        return "the pair names no workloads that could answer"
    told: list[str] = []
    for workload in wanted:
        found = seen(observed, workload)
        if not isinstance(found, WorkloadObject):
            return found.why if isinstance(found, Unseen) else f"{workload.kind} {workload.name} does not exist"
        ready, all_of_them = found.status.ready_replicas, found.spec.replicas
        if ready < 1:
            return f"{workload.kind} {workload.name} has no pod that is Ready"
        told.append(f"{workload.kind} {workload.name}: {ready} of {all_of_them} pods Ready")
    return (Answer(service="", how="; ".join(told), at=written(now)),)


def _how(observed: Observed, service: Service, now: datetime, ready_since: datetime | None) -> str | _Missing:
    slices = observed.endpoints.get(service.name)
    if slices is None or isinstance(slices, Unseen):
        why = f": {slices.why}" if isinstance(slices, Unseen) else ""
        return _Missing(f"the endpoints of Service {service.name} could not be looked at{why}")
    if not any(_ready(s) for s in slices):
        return _Missing(f"Service {service.name} has no endpoint that is Ready")
    live = _live(observed, service)
    if live is None:
        return _Missing(f"the pods that answer for Service {service.name} could not be looked at")
    stranger = _stranger(service, slices, live)
    if stranger is not None:
        return stranger
    tried = tuple(_addresses(slices, live))
    if not tried:
        return "its endpoints are Ready; none of its ports is TCP, so none was connected to"
    reached = [r for r in observed.reached.get(service.name, ()) if r.address in tried]
    connected = next((r for r in reached if r.connected), None)
    if connected is not None:
        return f"{connected.address} accepted a connection"
    whys = "; ".join(f"{r.address}: {r.why}" for r in reached) or "none was tried"
    if ready_since is not None and (now - ready_since).total_seconds() >= ANSWER_PATIENCE:
        return f"its endpoints are Ready; none could be connected to from the operator ({whys})"
    return _Missing(f"Service {service.name} has endpoints that are Ready, and none was connected to yet ({whys})")


def _ready(one: EndpointSlice) -> tuple[Endpoint, ...]:
    """Its endpoints that take new connections. (Absent means ready, as the API has it.)"""
    found = (e for e in one.endpoints or () if e.conditions.ready is not False and e.conditions.terminating is not True)
    return tuple(e for e in found if e.addresses)


def _live(observed: Observed, service: Service) -> frozenset[str] | None:
    """UIDs of the pods that may answer; None where they could not be looked at."""
    workload = answering_object(observed, service, side_of(observed.pair))
    if workload is None or isinstance(observed.pods, Unseen):
        return None
    return frozenset(p.metadata.uid for p in pods_of(observed, workload))


def _is_live(endpoint: Endpoint, live: Collection[str]) -> bool:
    ref = endpoint.target_ref
    return ref is not None and ref.uid in live


def _stranger(service: Service, slices: tuple[EndpointSlice, ...], live: Collection[str]) -> _Missing | None:
    """A ready endpoint that is no pod of the live side."""
    found = next((e for s in slices for e in _ready(s) if not _is_live(e, live)), None)
    if found is None:
        return None
    what = f"{found.target_ref.kind} {found.target_ref.name}" if found.target_ref is not None else "no pod"
    return _Missing(
        f"Service {service.name} has an endpoint that is not of the live side: {found.addresses[0]} ({what})"
    )


def _addresses(slices: tuple[EndpointSlice, ...], live: Collection[str]) -> Iterator[str]:
    """All TCP addresses of ready endpoints of the live side, as IP:port."""
    for one in slices:
        for endpoint in (e for e in _ready(one) if _is_live(e, live)):
            yield from (_address(endpoint.addresses[0], p) for p in one.ports or () if p.protocol == "TCP" and p.port)


def _address(ip: str, port: EndpointPort) -> str:
    return f"[{ip}]:{port.port}" if ":" in ip else f"{ip}:{port.port}"


def targets_to_reach(observed: Observed) -> dict[str, tuple[str, ...]]:
    """By Service: TCP addresses of ready endpoints of the live side to connect to, `10.0.1.7:8080` or `[fd00::7]:8080`;
    at most three. A Service without any is left out."""
    found: dict[str, tuple[str, ...]] = {}
    for service in observed.pair.spec.services:
        slices, live = observed.endpoints.get(service.name), _live(observed, service)
        if slices is None or isinstance(slices, Unseen) or live is None:
            continue
        if addresses := tuple(dict.fromkeys(_addresses(slices, live)))[:MOST_TRIED]:
            found[service.name] = addresses
    return found
