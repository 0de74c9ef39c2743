"""Which failover is next: the one lock is the pair's `status.operation`, and who has it is decided here."""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.failover import Failover
from storagemirror.api.operation import Mode, Operation, OperationPhase, Step
from storagemirror.api.sides import Approval
from storagemirror.plan.course import operation_of
from storagemirror.plan.loss import Loss
from storagemirror.plan.observed import Observed
from storagemirror.plan.times import read, written
from storagemirror.resources.failover import automatic_name, is_automatic

FIRST_AGAIN = 30.0
LAST_AGAIN = 600.0
"""Seconds until the next automatic attempt after one that did not complete: doubled each time, up to this."""


def opening(observed: Observed, loss: Loss | None, now: datetime) -> Operation | None:
    """The operation that begins in this pass, in place of none, of one that has ended and is told, or of one that has
    touched nothing and waits for a person while another is approved."""
    status, failovers = observed.pair.status, observed.failovers
    if not isinstance(failovers, tuple) or status.epoch is None:
        return None
    before = status.operation
    if before is not None and not before.open and not _told(before, failovers):
        return None
    holder = operation_of(status)
    wanted = _candidate(observed, failovers)
    if holder is not None and not _gives_way(holder, wanted):
        return None
    if wanted is not None:
        return _operation(observed, wanted.metadata.name, wanted, now)
    if holder is None and loss is not None and _rested(before, now):
        name = automatic_name(observed.pair.metadata.name, status.attempt + 1, observed.failover_names)
        return _operation(observed, name, None, now, loss.why)
    return None


def _candidate(observed: Observed, failovers: tuple[Failover, ...]) -> Failover | None:
    """The oldest that waits, is for this epoch, and was made by somebody; approved ones first."""
    epoch = observed.pair.status.epoch
    waiting = [
        f
        for f in failovers
        if not f.status.ended
        and f.spec.from_epoch == epoch
        and not is_automatic(f.metadata.labels)
        and f.metadata.deletion_timestamp is None
    ]
    waiting.sort(key=lambda f: (not _approved(observed, f), f.metadata.creation_timestamp or "", f.metadata.uid))
    return waiting[0] if waiting else None


def _approved(observed: Observed, failover: Failover) -> bool:
    return failover.spec.approved or observed.pair.spec.failover.approval is Approval.AUTOMATIC


def _gives_way(holder: Operation, wanted: Failover | None) -> bool:
    """Whether the one that has the lock has touched nothing, waits for somebody, and another does not."""
    waits = holder.phase in (OperationPhase.VALIDATING, OperationPhase.AWAITING_APPROVAL)
    if wanted is None or wanted.metadata.uid == holder.uid or not waits:
        return False
    return wanted.spec.approved and (holder.automatic or holder.phase is OperationPhase.AWAITING_APPROVAL)


def _told(ended: Operation, failovers: tuple[Failover, ...]) -> bool:
    """Whether its Failover shows its end, or is gone: until then nothing new begins."""
    shown = next((f for f in failovers if f.metadata.uid == ended.uid), None)
    return shown is None or shown.status.ended


def _rested(before: Operation | None, now: datetime) -> bool:
    """Whether it is time for another automatic attempt."""
    if before is None or not before.automatic or not before.failures:
        return True
    ended = read(before.ended_at)
    wait = min(LAST_AGAIN, FIRST_AGAIN * 2.0 ** min(before.failures - 1, 10))
    return ended is None or (now - ended).total_seconds() >= wait


def _operation(observed: Observed, name: str, failover: Failover | None, now: datetime, why: str = "") -> Operation:
    pair, at = observed.pair, written(now)
    before = pair.status.operation
    automatic = failover is None
    first = f"{why} May it be done? Nothing is touched.".strip()
    return Operation(
        name=name,
        uid=failover.metadata.uid if failover is not None else "",
        mode=failover.spec.mode if failover is not None else Mode.UNPLANNED,
        automatic=automatic,
        from_epoch=pair.status.epoch or 1,
        attempt=pair.status.attempt + 1,
        phase=OperationPhase.VALIDATING,
        started_at=at,
        phase_since=at,
        failures=before.failures if automatic and before is not None and before.automatic else 0,
        timeline=(Step(phase=OperationPhase.VALIDATING, at=at, message=first),),
    )
