"""What each Failover shows: the one with the lock what the pair's operation says, the others why they wait or ended.

Pure projections: whatever is lost on the way is written again by the next pass. An end is for ever.
"""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.conditions import Condition, ConditionStatus, ConditionType, condition, set_condition
from storagemirror.api.failover import Failover, FailoverStatus
from storagemirror.api.operation import Account, Operation, OperationPhase, Step
from storagemirror.api.reasons import Reason, advised
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
    }
)


def shown(observed: Observed, operation: Operation | None, epoch: int, now: datetime) -> tuple[Shown, ...]:
    """Every Failover of the pair whose status is not as it should be. `operation` and `epoch` are those that the
    pair's status has after this pass."""
    if not isinstance(observed.failovers, tuple):
        return ()
    found: list[Shown] = []
    for failover in observed.failovers:
        if failover.status.ended:
            continue
        told = _status(failover, operation, observed, epoch, now)
        if told != failover.status:
            found.append(Shown(failover, told))
    return tuple(found)


def _status(
    failover: Failover, operation: Operation | None, observed: Observed, epoch: int, now: datetime
) -> FailoverStatus:
    if operation is not None and _is_its(failover, operation):
        return _of_operation(failover, operation, epoch, now)
    if observed.pair.spec.sides is None:
        return ending(
            failover, OperationPhase.FAILED, Reason.NO_SIDES, "The pair names no sides; nothing was done.", now
        )
    if failover.spec.from_epoch != epoch:
        text = f"It is for epoch {failover.spec.from_epoch}, the pair is at {epoch}; nothing was done."
        return ending(failover, OperationPhase.SUPERSEDED, Reason.PAST_EPOCH, text, now)
    if is_automatic(failover.metadata.labels):
        text = "Another failover took its place; nothing was touched."
        return ending(failover, OperationPhase.SUPERSEDED, Reason.ANOTHER_RUNS, text, now)
    if operation is not None and operation.open:
        return waiting(failover, Reason.ANOTHER_RUNS, f"Failover {operation.name} has its turn.", now)
    return waiting(failover, Reason.WAITING, "It is about to begin.", now)


def _is_its(failover: Failover, operation: Operation) -> bool:
    if operation.uid:
        return failover.metadata.uid == operation.uid
    return is_its_own(failover, operation)


def is_its_own(failover: Failover, operation: Operation) -> bool:
    """Whether this is the object that the operator made for its automatic operation."""
    same = failover.metadata.name == operation.name and failover.spec.from_epoch == operation.from_epoch
    return operation.automatic and same and is_automatic(failover.metadata.labels)


def _of_operation(failover: Failover, operation: Operation, epoch: int, now: datetime) -> FailoverStatus:
    shared = {name: getattr(operation, name) for name in Account.model_fields}
    done = operation.phase is OperationPhase.COMPLETED
    reason = _reason(operation.reason)
    return FailoverStatus(
        **shared,
        epoch=epoch if done else None,
        automatic=operation.automatic,
        observed_generation=failover.metadata.generation,
        conditions=_conditions(failover, operation.phase, reason, operation.message, now),
    )


def ending(failover: Failover, phase: OperationPhase, reason: Reason, message: str, now: datetime) -> FailoverStatus:
    """Over, before it had its turn."""
    text, at = advised(message, reason), written(now)
    return failover.status.model_copy(
        update={
            "phase": phase,
            "reason": str(reason),
            "message": text,
            "ended_at": at,
            "phase_since": at,
            "timeline": (*failover.status.timeline, Step(phase=phase, at=at, message=message)),
            "observed_generation": failover.metadata.generation,
            "conditions": _conditions(failover, phase, reason, message, now),
        }
    )


def waiting(failover: Failover, reason: Reason, message: str, now: datetime) -> FailoverStatus:
    """Its turn has not come."""
    phase = OperationPhase.PENDING
    return failover.status.model_copy(
        update={
            "phase": phase,
            "reason": str(reason),
            "message": advised(message, reason),
            "observed_generation": failover.metadata.generation,
            "conditions": _conditions(failover, phase, reason, message, now),
        }
    )


def without_pair(failover: Failover, now: datetime) -> FailoverStatus:
    """Of a Failover that names no MirrorPair."""
    message = f"There is no MirrorPair {failover.spec.pair_name} in this namespace."
    age = seconds_since(failover.metadata.creation_timestamp, now)
    if age is None or age < MISSING_PATIENCE:
        return waiting(failover, Reason.PAIR_MISSING, message, now)
    return ending(failover, OperationPhase.FAILED, Reason.PAIR_MISSING, message, now)


def _conditions(
    failover: Failover, phase: OperationPhase, reason: Reason | str, message: str, now: datetime
) -> tuple[Condition, ...]:
    """By kstatus: Ready when it completed, Reconciling while it goes on by itself, Stalled else."""
    completed = phase is OperationPhase.COMPLETED
    ended = phase in (OperationPhase.FAILED, OperationPhase.ROLLED_BACK, OperationPhase.SUPERSEDED)
    stalled = ended or (not completed and reason in _WAITS_FOR_SOMEBODY)
    found = failover.status.conditions
    values = (
        (ConditionType.READY, completed),
        (ConditionType.RECONCILING, not completed and not stalled),
        (ConditionType.STALLED, stalled),
    )
    for kind, holds in values:
        status = ConditionStatus.TRUE if holds else ConditionStatus.FALSE
        new = condition(
            kind, status, reason or Reason.WAITING, message, generation=failover.metadata.generation, now=written(now)
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
