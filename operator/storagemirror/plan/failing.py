"""The failover part of a pass: who may write, who has the lock, one step, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from storagemirror.api.conditions import ConditionStatus, ConditionType
from storagemirror.api.failover import AcceptLoss
from storagemirror.api.operation import FENCED, HARMLESS, Mode, Operation, OperationPhase
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Side
from storagemirror.api.status import GateStatus, MirrorPairStatus, Phase, Writer
from storagemirror.contract import Consistency
from storagemirror.plan.asking import Request, requests
from storagemirror.plan.conditions import Told
from storagemirror.plan.course import fenced, moving, operation_of, over, returning
from storagemirror.plan.decisions import Action, Shown
from storagemirror.plan.loss import source_lost
from storagemirror.plan.observed import GateSeen, Observed, Unseen
from storagemirror.plan.operate import step
from storagemirror.plan.operating import Move, Stage
from storagemirror.plan.queueing import opening
from storagemirror.plan.services import service_steps, service_verdict, service_warning
from storagemirror.plan.telling import is_its_own, own_steps, shown
from storagemirror.plan.times import written
from storagemirror.plan.validating import Asked, promotable
from storagemirror.plan.volumes import Judged
from storagemirror.plan.writers import fenceable, known_since, release_steps, tracked

SUSPECT_AGAIN = 1.0
"""Seconds until a pass looks again while the source is missed and not yet called lost."""


LIVE = Told(
    ConditionStatus.TRUE,
    Reason.COPY_READY,
    "The copy is whole. Changes are applied as they come: some files may be of one moment and some of the next.",
)
"""Of a copy that is to be no point."""


@dataclass(frozen=True)
class Failing:
    """What the failover part comes to."""

    status: Mapping[str, object] = field(default_factory=dict)
    """Fields of the pair's status."""
    actions: tuple[Action, ...] = ()
    shown: tuple[Shown, ...] = ()
    conditions: tuple[tuple[ConditionType, Told], ...] = ()
    again: tuple[float, ...] = ()


@dataclass(frozen=True)
class Volumes:
    """All that were judged in a pass."""

    own: Sequence[Judged]
    """The pair's."""
    elsewhere: Sequence[Judged] = ()
    """Of a restore to other claims."""


def failing(observed: Observed, volumes: Volumes, now: datetime) -> Failing:
    """For one pair, after its volumes were judged."""
    status = observed.pair.status
    if observed.pair.spec.sides is None and moving(status) is None:
        return _without_sides(observed, volumes, now)
    writers, known = tracked(observed, now), known_since(observed, now)
    move = _move(observed, volumes, writers, known, now)
    operation = move.operation if move is not None else status.operation
    fields: dict[str, object] = {
        "writers": writers,
        "writers_known_since": known,
        "gate": _gate(observed, now),
        "closed_sides": _closed(status, operation),
        "operation": operation,
    }
    if operation is not None:
        fields["attempt"] = max(status.attempt, operation.attempt)
    if move is not None:
        fields |= move.status
    epoch = fields.get("epoch", status.epoch)
    steady = () if fenced(status) else service_steps(observed, now)
    actions = (
        # As it is stored: what this pass has only just thought of is not acted on.
        *own_steps(observed, status.operation),
        *(move.actions if move is not None else ()),
        *steady,
        *release_steps(observed, observed.pair),
    )
    told = shown(observed, operation, epoch if isinstance(epoch, int) else 1, now)
    again = (move.again,) if move is not None and move.again is not None else ()
    return Failing(fields, actions, told, _conditions(observed, volumes.own, writers, known, now), again)


def _without_sides(observed: Observed, volumes: Volumes, now: datetime) -> Failing:
    """A copy that nobody fails over to can be restored elsewhere, and no more."""
    status = observed.pair.status
    fields: dict[str, object] = {"closed_sides": (), "writers": (), "gate": None}
    move = _move(observed, volumes, (), None, now)
    operation = move.operation if move is not None else status.operation
    if operation is not None:
        fields |= {"operation": operation, "attempt": max(status.attempt, operation.attempt)}
    actions = (*(move.actions if move is not None else ()), *release_steps(observed, observed.pair))
    again = (move.again,) if move is not None and move.again is not None else ()
    return Failing(fields, actions, shown(observed, operation, status.epoch or 1, now), (), again)


def _move(
    observed: Observed, volumes: Volumes, writers: tuple[Writer, ...], known: str | None, now: datetime
) -> Move | None:
    """One step of the open operation, or the beginning of one; None where there is neither."""
    views = [j.view for j in volumes.own]
    lost = source_lost(observed, views) if all(j.whole for j in volumes.own) and not observed.pair.spec.paused else None
    begun = opening(observed, lost, now)
    if begun is not None:
        return Move(begun, again=0.0)
    operation = operation_of(observed.pair.status)
    if operation is None:
        return None
    operation, request = _object(observed, operation)
    about = volumes.elsewhere if operation.elsewhere else volumes.own
    return step(Stage(observed, about, writers, known, operation, request, now))


def _object(observed: Observed, operation: Operation) -> tuple[Operation, Request | None]:
    """What asked for the operation; an automatic one's object is known by its UID once it was seen."""
    found = requests(observed) or ()
    if operation.uid:
        return operation, next((r for r in found if r.metadata.uid == operation.uid), None)
    own = next((r for r in found if is_its_own(r, operation)), None)
    if own is None:
        return operation, None
    return operation.model_copy(update={"uid": own.metadata.uid}), own


def _closed(status: MirrorPairStatus, operation: Operation | None) -> tuple[Side, ...]:
    """What the gate is to keep closed, where no phase says otherwise in this very write."""
    both = FENCED - {OperationPhase.ROLLING_BACK}
    if operation is not None and not operation.elsewhere and operation.phase in both:
        return (Side.SOURCE, Side.TARGET)
    return (Side.SOURCE,) if status.active_side is Side.TARGET else (Side.TARGET,)


def _gate(observed: Observed, now: datetime) -> GateStatus | None:
    """What came of trying it, where it was tried in this pass."""
    before, seen = observed.pair.status.gate, observed.gate
    if not seen or any(isinstance(s, Unseen) for s in seen.values()):
        return before
    wrong = [f"{side}: {s.message}" for side, s in seen.items() if isinstance(s, GateSeen) and not s.refused]
    if before is not None and before.in_force and not wrong and fenced(observed.pair.status):
        return before
    return GateStatus(checked_at=written(now), in_force=not wrong, message="; ".join(wrong))


def _conditions(
    observed: Observed,
    judged: Sequence[Judged],
    writers: tuple[Writer, ...],
    known: str | None,
    now: datetime,
) -> tuple[tuple[ConditionType, Told], ...]:
    if observed.pair.spec.sides is None:
        return ()
    fence = fenceable(observed)
    found = [(ConditionType.FENCEABLE, Told(fence.status, fence.reason, fence.message))]
    status = observed.pair.status
    if status.active_side is not Side.TARGET:
        asked = Asked(observed, judged, writers, known, Mode.UNPLANNED, AcceptLoss(), False, now)
        wrong = promotable(asked)
        points = observed.pair.spec.replication.consistency is Consistency.POINT
        good = Told(ConditionStatus.TRUE, Reason.AT_POINT, "") if points else LIVE
        bad = Told(ConditionStatus.FALSE, wrong.reason, wrong.message) if wrong is not None else good
        found.append((ConditionType.PROMOTABLE, bad))
    if observed.pair.spec.services:
        found.append((ConditionType.SERVICES_READY, _services(observed)))
    return tuple(found)


def _services(observed: Observed) -> Told:
    wrong = service_verdict(observed)
    if wrong is not None:
        return Told(ConditionStatus.FALSE, wrong.reason, wrong.message)
    if observed.denied:
        denied = observed.denied[0]
        return Told(ConditionStatus.FALSE, Reason.SERVICE_REFUSED, f"{denied.what} was refused: {denied.message}")
    warned = service_warning(observed)
    if warned is not None:
        return Told(ConditionStatus.TRUE, *warned)
    return Told(ConditionStatus.TRUE, Reason.SERVICES_TURNED, "")


def _at_work(status: MirrorPairStatus) -> Operation | None:
    """The operation that goes on and has begun to do something about the pair; None where none has."""
    operation = moving(status)
    if operation is None:
        return None
    return operation if operation.phase not in HARMLESS or returning(status) is not None else None


def failing_told(status: MirrorPairStatus) -> tuple[Told | None, bool]:
    """What Ready says because of a failover or restore, and whether that goes on; (None, False) where there is none."""
    operation = _at_work(status)
    if operation is not None:
        text = f"{operation.kind} {operation.name} is {operation.phase}: {operation.message}"
        return Told(ConditionStatus.FALSE, Reason.RESTORING if operation.homeward else Reason.FAILING_OVER, text), True
    if over(status):
        text = f"The target is the live side since epoch {status.epoch}; it has no copy."
        return Told(ConditionStatus.FALSE, Reason.FAILED_OVER, text), False
    return None, False


def phase_told(status: MirrorPairStatus, phase: Phase) -> Phase:
    """The pair's phase: a failover or restore outranks what the volumes say."""
    operation = _at_work(status)
    if operation is not None:
        return Phase.RESTORING if operation.homeward else Phase.FAILING_OVER
    return Phase.FAILED_OVER if over(status) else phase
