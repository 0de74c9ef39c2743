"""The workloads of the side that is to be live: scaled up, and woken out of their controllers' back-off."""

from __future__ import annotations

from storagemirror.plan.decisions import Action, NudgeWorkload, ScaleWorkload
from storagemirror.plan.objects import Pod, WorkloadObject
from storagemirror.plan.operating import Stage
from storagemirror.resources import labels

NUDGE_SECONDS = 2
"""While pods are missing their controller is woken this often: the gate may be open a moment later than its status."""


def start_steps(stage: Stage) -> tuple[Action, ...]:
    """What brings the standby's pods up."""
    pair = stage.observed.pair
    actions: list[Action] = []
    had = {(r.kind, r.name): r.replicas for r in pair.status.replicas}
    for workload in stage.workloads(stage.reaches):
        found = stage.observed.workloads.get((workload.kind, workload.name))
        if not isinstance(found, WorkloadObject):
            continue
        wanted = workload.replicas or had.get((workload.kind, workload.name)) or 1
        space, meta = pair.metadata.namespace, found.metadata
        # With `start: Gate` too: who was fenced once stands at zero.
        if found.spec.replicas == 0:
            why = "its side is the live one"
            actions.append(ScaleWorkload(space, workload.kind, meta.name, wanted, meta.resource_version, why))
        elif (mark := nudge_mark(stage, found)) is not None:
            actions.append(NudgeWorkload(space, workload.kind, meta.name, mark))
    return tuple(actions)


def nudge_mark(stage: Stage, workload: WorkloadObject) -> str | None:
    """The next word that wakes its controller; None where all its pods are there, or it was just woken."""
    there = [p for p in _pods(stage) if workload.owns_by_labels(p) and not p.leaving]
    if len(there) >= workload.spec.replicas:
        return None
    mark = f"{stage.operation.attempt}-{stage.operation.phase}-{int(stage.waited) // NUDGE_SECONDS}"
    return mark if workload.metadata.annotations.get(labels.NUDGE) != mark else None


def _pods(stage: Stage) -> tuple[Pod, ...]:
    pods = stage.observed.pods
    return pods if isinstance(pods, tuple) else ()
