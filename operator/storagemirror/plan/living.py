"""Which workload and which pods answer for a Service on each side."""

from __future__ import annotations

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.sides import Service, Side, Workload
from storagemirror.plan.objects import Pod, WorkloadObject
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.plan.view import is_agent


def side_of(pair: MirrorPair) -> Side:
    """The side that Services must point to. (While both are closed they stay as they are: see `undecided`.)"""
    return pair.status.active_side or Side.SOURCE


def undecided(pair: MirrorPair) -> bool:
    """Whether both sides are closed: which one will be the live one is not known."""
    return set(pair.status.closed_sides) == set(Side)


def workloads_of(pair: MirrorPair, side: Side) -> tuple[Workload, ...]:
    """As the spec names them; none for a pair that names no sides."""
    sides = pair.spec.sides
    if sides is None:
        return ()
    return sides.source.workloads if side is Side.SOURCE else sides.target.workloads


def answering(pair: MirrorPair, service: Service, side: Side) -> Workload | None:
    """The workload of `side` that answers for the Service; None where it names one that is not of that side."""
    found = workloads_of(pair, side)
    if service.workloads is None:
        return found[0] if found else None
    name = service.workloads.source if side is Side.SOURCE else service.workloads.target
    return next((w for w in found if w.name == name), None)


def seen(observed: Observed, workload: Workload) -> WorkloadObject | Unseen | None:
    """The object; None where it does not exist."""
    blind = Unseen(f"{workload.kind} {workload.name} was not looked at")
    return observed.workloads.get((workload.kind, workload.name), blind)


def answering_object(observed: Observed, service: Service, side: Side) -> WorkloadObject | None:
    """The object of the workload that answers; None where there is none or it could not be read."""
    workload = answering(observed.pair, service, side)
    found = seen(observed, workload) if workload is not None else None
    return found if isinstance(found, WorkloadObject) else None


def pods_of(observed: Observed, workload: WorkloadObject) -> tuple[Pod, ...]:
    """The workload's pods by its labels, agents aside."""
    pods = () if isinstance(observed.pods, Unseen) else observed.pods
    return tuple(p for p in pods if workload.owns_by_labels(p) and not is_agent(p))
