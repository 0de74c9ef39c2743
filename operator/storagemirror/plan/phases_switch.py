"""The phases from which there is no way back: Switching, Verifying."""

from __future__ import annotations

import math
from datetime import datetime

from storagemirror.api.operation import Mode, OperationPhase
from storagemirror.api.reasons import Reason
from storagemirror.plan.objects import Pod, WorkloadObject
from storagemirror.plan.observed import Unseen
from storagemirror.plan.operating import LATER, Move, Stage, end, go, pace, stay
from storagemirror.plan.services import answers, service_verdict, turned
from storagemirror.plan.standby import start_steps
from storagemirror.plan.times import read

STARTING_SECONDS = 30.0
"""So long a standby may take to get Ready before somebody is asked to look."""


def switching(stage: Stage) -> Move:
    """Until the standby is started and the Services are turned."""
    missing = _missing(stage)
    if missing is not None:
        return stay(stage, Reason.WORKLOAD_MISSING, missing, again=LATER)
    actions = start_steps(stage)
    wrong = service_verdict(stage.observed)
    if wrong is not None:
        reason = wrong.reason if isinstance(wrong.reason, Reason) else Reason.SERVICE_REFUSED
        return stay(stage, reason, wrong.message, actions=actions, again=pace(stage))
    left = turned(stage.observed)
    if left is not None:
        return stay(stage, Reason.SWITCHING, left, actions=actions, again=pace(stage))
    if any(not _up(stage, w) for w in _workloads(stage)):
        return stay(
            stage, Reason.SWITCHING, f"The {stage.called} is being started.", actions=actions, again=pace(stage)
        )
    text = f"The {stage.called} starts and the Services are turned; does it answer?"
    return go(stage, OperationPhase.VERIFYING, text)


def verifying(stage: Stage) -> Move:
    """Until the live side answers. A standby that does not get Ready is waited for: there is nothing to go back to."""
    missing = _missing(stage)
    if missing is not None:
        return stay(stage, Reason.WORKLOAD_MISSING, missing, again=LATER)
    found = answers(stage.observed, stage.now, _ready_since(stage))
    if isinstance(found, str):
        text = f"The {stage.called} does not answer yet: {found}"
        reason = Reason.VERIFYING if stage.waited < STARTING_SECONDS else Reason.STANDBY_NOT_READY
        return stay(stage, reason, text, actions=start_steps(stage), again=pace(stage))
    rto = _rto(stage)
    text = f"The live side is the {stage.reaches.value.lower()}, and answers; {_lost(stage)}."
    reason = Reason.RESTORE_COMPLETED if stage.operation.homeward else Reason.FAILOVER_COMPLETED
    return end(stage, OperationPhase.COMPLETED, reason, text, {"answers": found, "rto_seconds": rto})


def _lost(stage: Stage) -> str:
    rpo = stage.operation.rpo_seconds
    if stage.operation.mode is Mode.PLANNED:
        return "nothing was lost"
    if rpo is None:
        return "what was lost is not known"
    return "nothing that was known of was lost" if rpo == 0 else f"at most the last {rpo} s were lost"


def _rto(stage: Stage) -> int | None:
    """Seconds from the source's last word (planned: from the stop of its workloads) until now, rounded up."""
    operation = stage.operation
    text = operation.stopped_at if operation.mode is Mode.PLANNED else (operation.last_contact or operation.started_at)
    since = read(text)
    return None if since is None else max(0, math.ceil((stage.now - since).total_seconds()))


def _missing(stage: Stage) -> str | None:
    """Which of the workloads that are to start is not there."""
    if stage.observed.pair.spec.sides is None:
        return "The pair does not name its sides any more: nobody knows what to start."
    wanted = stage.workloads(stage.reaches)
    gone = [f"{w.kind} {w.name}" for w in wanted if stage.observed.workloads.get((w.kind, w.name)) is None]
    return f"The {stage.called} {', '.join(gone)} does not exist." if gone else None


def _workloads(stage: Stage) -> list[WorkloadObject | Unseen]:
    found = [stage.observed.workloads.get((w.kind, w.name)) for w in stage.workloads(stage.reaches)]
    return [w for w in found if w is not None]


def _up(stage: Stage, workload: WorkloadObject | Unseen) -> bool:
    """Whether it is scaled up, and its first pods are there."""
    if isinstance(workload, Unseen) or not workload.spec.replicas:
        return False
    return any(workload.owns_by_labels(p) and not p.leaving for p in _pods(stage))


def _ready_since(stage: Stage) -> datetime | None:
    """When the first pod of the live side became Ready."""
    workloads = [w for w in _workloads(stage) if isinstance(w, WorkloadObject)]
    times = [
        moment
        for p in _pods(stage)
        if p.ready and any(w.owns_by_labels(p) for w in workloads)
        for c in p.status.conditions
        if c.type == "Ready" and (moment := read(c.last_transition_time)) is not None
    ]
    return min(times, default=None)


def _pods(stage: Stage) -> tuple[Pod, ...]:
    pods = stage.observed.pods
    return pods if isinstance(pods, tuple) else ()
