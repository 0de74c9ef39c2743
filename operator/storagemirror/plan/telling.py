"""What each Failover and Restore shows: the one with the lock what the pair's operation says, the others why they wait
or ended.

Pure projections: whatever is lost on the way is written again by the next pass. An end is for ever.
"""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.conditions import Condition, ConditionStatus, ConditionType, condition, set_condition
from storagemirror.api.failover import FailoverStatus
from storagemirror.api.operation import Account, Operation, OperationPhase, Step
from storagemirror.api.reasons import Reason, advised
from storagemirror.api.restore import Restore, RestoreStatus
from storagemirror.plan.asking import Request, automatic, elsewhere, for_epoch, pointless, requests
from storagemirror.plan.decisions import Action, MakeFailover, RemoveFailover, Shown
from storagemirror.plan.observed import Observed
from storagemirror.plan.times import read, seconds_since, written
from storagemirror.resources.failover import automatic_failover, is_automatic

HISTORY = 10
"""So many of the operator's own Failovers that have ended are kept for each pair; a person's are never deleted."""
MISSING_PATIENCE = 60.0
"""Seconds for which a Failover waits for its pair: Git may bring them in any order."""

_WAITS_FOR_SOMEBODY = frozenset(
    {
        Reason.AWAITING_APPROVAL,
        Reason.NO_PROOF,
        Reason.TARGET_BEHIND,
        Reason.LAG_UNKNOWN,
        Reason.REFUSED_LOSS,
        Reason.NO_POINT,
        Reason.BETWEEN_POINTS,
        Reason.SYNC_FAILED,
        Reason.JOURNAL_DAMAGED,
        Reason.TARGET_CHANGED,
        Reason.AT_NO_POINT,
        Reason.POINTS_DIFFER,
        Reason.GATE_NOT_IN_FORCE,
        Reason.WORKLOAD_MISSING,
        Reason.STANDBY_MISMATCH,
        Reason.STANDBY_NOT_READY,
        Reason.SERVICE_NOT_OURS,
        Reason.SERVICE_MISSING,
        Reason.SERVICE_UNSAFE,
        Reason.SERVICE_AMBIGUOUS,
        Reason.SERVICE_REFUSED,
        Reason.HELD,
        Reason.PAUSED,
        Reason.AWAITING_CUT_OVER,
        Reason.LIVE_SIDE_NOT_HEARD,
        Reason.HOME_NOT_HEARD,
        Reason.HOME_MISMATCH,
        Reason.CLAIM_MISSING,
        Reason.CLAIM_DELETING,
        Reason.CLAIM_LOST,
        Reason.TARGET_FULL,
        Reason.NODE_NOT_READY,
        Reason.AGENT_UNSCHEDULABLE,
        Reason.MASS_DELETE,
        Reason.SOURCE_REPLACED,
    }
)

Status = FailoverStatus | RestoreStatus


def shown(observed: Observed, operation: Operation | None, epoch: int, now: datetime) -> tuple[Shown, ...]:
    """Every Failover and Restore of the pair whose status is not as it should be. `operation` and `epoch` are those
    that the pair's status has after this pass."""
    found: list[Shown] = []
    for request in requests(observed) or ():
        if request.status.ended:
            continue
        told = _status(request, operation, observed, epoch, now)
        if told != request.status:
            found.append(Shown(request, told))
    return tuple(found)


def _status(request: Request, operation: Operation | None, observed: Observed, epoch: int, now: datetime) -> Status:
    if operation is not None and _is_its(request, operation):
        return _of_operation(request, operation, epoch, now)
    if observed.pair.spec.sides is None and not elsewhere(request):
        text = "The pair names no sides; nothing was done."
        return ending(request, OperationPhase.FAILED, Reason.NO_SIDES, text, now)
    if not for_epoch(request, epoch):
        text = f"It is for epoch {request.spec.from_epoch}, the pair is at {epoch}; nothing was done."
        return ending(request, OperationPhase.SUPERSEDED, Reason.PAST_EPOCH, text, now)
    if automatic(request):
        text = "Another failover took its place; nothing was touched."
        return ending(request, OperationPhase.SUPERSEDED, Reason.ANOTHER_RUNS, text, now)
    if operation is not None and operation.open:
        return waiting(request, Reason.ANOTHER_RUNS, f"{operation.kind} {operation.name} has its turn.", now)
    if (why := pointless(request, observed.pair)) is not None:
        return ending(request, OperationPhase.FAILED, Reason.SIDE_IS_LIVE, why, now)
    return waiting(request, Reason.WAITING, "It is about to begin.", now)


def _is_its(request: Request, operation: Operation) -> bool:
    if operation.uid:
        return request.metadata.uid == operation.uid
    return is_its_own(request, operation)


def is_its_own(request: Request, operation: Operation) -> bool:
    """Whether this is the object that the operator made for its automatic operation."""
    same = request.metadata.name == operation.name and request.spec.from_epoch == operation.from_epoch
    return operation.automatic and same and automatic(request)


def _of_operation(request: Request, operation: Operation, epoch: int, now: datetime) -> Status:
    fields = {name: getattr(operation, name) for name in Account.model_fields} | {
        "epoch": epoch if operation.phase is OperationPhase.COMPLETED else None,
        "observed_generation": request.metadata.generation,
        "conditions": _conditions(request, operation.phase, _reason(operation.reason), operation.message, now),
    }
    if isinstance(request, Restore):
        return RestoreStatus(**fields)
    return FailoverStatus(**fields, automatic=operation.automatic)


def ending(request: Request, phase: OperationPhase, reason: Reason, message: str, now: datetime) -> Status:
    """Over, before it had its turn."""
    text, at = advised(message, reason), written(now)
    return request.status.model_copy(
        update={
            "phase": phase,
            "reason": str(reason),
            "message": text,
            "ended_at": at,
            "phase_since": at,
            "timeline": (*request.status.timeline, Step(phase=phase, at=at, message=message)),
            "observed_generation": request.metadata.generation,
            "conditions": _conditions(request, phase, reason, message, now),
        }
    )


def waiting(request: Request, reason: Reason, message: str, now: datetime) -> Status:
    """Its turn has not come."""
    phase = OperationPhase.PENDING
    return request.status.model_copy(
        update={
            "phase": phase,
            "reason": str(reason),
            "message": advised(message, reason),
            "observed_generation": request.metadata.generation,
            "conditions": _conditions(request, phase, reason, message, now),
        }
    )


def without_pair(request: Request, now: datetime) -> Status:
    """Of one that names no MirrorPair."""
    message = f"There is no MirrorPair {request.spec.pair_name} in this namespace."
    age = seconds_since(request.metadata.creation_timestamp, now)
    if age is None or age < MISSING_PATIENCE:
        return waiting(request, Reason.PAIR_MISSING, message, now)
    return ending(request, OperationPhase.FAILED, Reason.PAIR_MISSING, message, now)


def _conditions(
    request: Request, phase: OperationPhase, reason: Reason | str, message: str, now: datetime
) -> tuple[Condition, ...]:
    """By kstatus: Ready when it completed, Reconciling while it goes on by itself, Stalled else."""
    completed = phase is OperationPhase.COMPLETED
    ended = phase in (OperationPhase.FAILED, OperationPhase.ROLLED_BACK, OperationPhase.SUPERSEDED)
    # A restore mirrors by itself; a failover that meets a copy within a mirror waits for its source, or for a word.
    waits = reason in _WAITS_FOR_SOMEBODY or (phase is OperationPhase.VALIDATING and reason is Reason.MIRRORING)
    stalled = ended or (not completed and waits)
    found = request.status.conditions
    values = (
        (ConditionType.READY, completed),
        (ConditionType.RECONCILING, not completed and not stalled),
        (ConditionType.STALLED, stalled),
    )
    for kind, holds in values:
        status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
        new = condition(
            kind, status, reason or Reason.WAITING, message, generation=request.metadata.generation, now=written(now)
        )
        found = set_condition(found, new)
    return found


def _reason(word: str) -> Reason | str:
    try:
        return Reason(word)
    except ValueError:
        return word


def own_steps(observed: Observed, operation: Operation | None) -> tuple[Action, ...]:
    """The operator's own objects: the Failover of an automatic operation is made; of those that have ended the oldest
    go."""
    if not isinstance(observed.failovers, tuple):
        return ()
    steps: list[Action] = []
    pair = observed.pair
    going_on = operation is not None and operation.open and operation.automatic and not operation.uid
    if operation is not None and going_on and operation.name not in observed.failover_names:
        steps.append(MakeFailover(automatic_failover(pair.metadata, operation.name, operation.from_epoch)))
    ours = [f for f in observed.failovers if is_automatic(f.metadata.labels) and f.status.ended]
    ours.sort(key=lambda f: (read(f.metadata.creation_timestamp) is None, f.metadata.creation_timestamp or ""))
    for old in ours[: max(0, len(ours) - HISTORY)]:
        steps.append(RemoveFailover(old.metadata.namespace, old.metadata.name, old.metadata.uid))
    return tuple(steps)
