"""Which failover or restore is next: the one lock is the pair's `status.operation`, and who has it is decided here."""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.operation import Mode, Operation, OperationPhase, Step
from storagemirror.api.restore import Restore
from storagemirror.api.sides import Side
from storagemirror.plan.asking import (
    Request,
    automatic,
    elsewhere,
    for_epoch,
    kind_of,
    moves_by_itself,
    pointless,
    requests,
)
from storagemirror.plan.course import COPYING_ELSEWHERE, operation_of
from storagemirror.plan.loss import Loss
from storagemirror.plan.observed import Observed
from storagemirror.plan.times import read, written
from storagemirror.resources.failover import automatic_name

FIRST_AGAIN = 30.0
LAST_AGAIN = 600.0
"""Seconds until the next automatic attempt after one that did not complete: doubled each time, up to this."""


def opening(observed: Observed, loss: Loss | None, now: datetime) -> Operation | None:
    """The operation that begins in this pass, in place of none, of one that has ended and is told, or of one that has
    touched nothing and gives way."""
    status, asked = observed.pair.status, requests(observed)
    if asked is None or status.epoch is None:
        return None
    before = status.operation
    if before is not None and not before.open and not _told(before, asked):
        return None
    holder = operation_of(status)
    wanted = _candidate(observed, asked)
    if holder is not None and not _gives_way(observed, holder, wanted, loss):
        return None
    if loss is not None and _rested(before, now) and (wanted is None or elsewhere(wanted)) and _free(holder):
        name = automatic_name(observed.pair.metadata.name, status.attempt + 1, observed.failover_names)
        return _operation(observed, name, None, now, loss.why)
    if wanted is not None and (holder is None or wanted.metadata.uid != holder.uid):
        return _operation(observed, wanted.metadata.name, wanted, now)
    return None


def _free(holder: Operation | None) -> bool:
    """Whether the lock is nobody's, or that of one that only copies."""
    return holder is None or holder.elsewhere


def _candidate(observed: Observed, asked: tuple[Request, ...]) -> Request | None:
    """The oldest that waits, is for this epoch, and was made by somebody; approved ones first, and then those that only
    copy."""
    pair = observed.pair
    waiting = [
        r
        for r in asked
        if not r.status.ended
        and for_epoch(r, pair.status.epoch)
        and not automatic(r)
        and r.metadata.deletion_timestamp is None
        and pointless(r, pair) is None
        and (pair.spec.sides is not None or elsewhere(r))
    ]
    waiting.sort(
        key=lambda r: (
            not (moves_by_itself(r, pair) or elsewhere(r)),
            elsewhere(r),
            r.metadata.creation_timestamp or "",
            r.metadata.uid,
        )
    )
    return waiting[0] if waiting else None


def _gives_way(observed: Observed, holder: Operation, wanted: Request | None, loss: Loss | None) -> bool:
    """Whether the one that has the lock has touched nothing, and another is more urgent: it only copies, or waits for
    somebody while the other does not."""
    other = wanted is not None and wanted.metadata.uid != holder.uid
    if holder.elsewhere and holder.phase in COPYING_ELSEWHERE | {OperationPhase.VALIDATING}:
        moves = wanted is not None and not elsewhere(wanted) and moves_by_itself(wanted, observed.pair)
        return loss is not None or (other and moves)
    waits = holder.phase in (OperationPhase.VALIDATING, OperationPhase.AWAITING_APPROVAL)
    if wanted is None or not other or not waits or elsewhere(wanted):
        return False
    return wanted.spec.approved and (holder.automatic or holder.phase is OperationPhase.AWAITING_APPROVAL)


def _told(ended: Operation, asked: tuple[Request, ...]) -> bool:
    """Whether its object shows its end, or is gone: until then nothing new begins."""
    shown = next((r for r in asked if r.metadata.uid == ended.uid), None)
    return shown is None or shown.status.ended


def _rested(before: Operation | None, now: datetime) -> bool:
    """Whether it is time for another automatic attempt."""
    if before is None or not before.automatic or not before.failures:
        return True
    ended = read(before.ended_at)
    wait = min(LAST_AGAIN, FIRST_AGAIN * 2.0 ** min(before.failures - 1, 10))
    return ended is None or (now - ended).total_seconds() >= wait


def _operation(observed: Observed, name: str, request: Request | None, now: datetime, why: str = "") -> Operation:
    pair, at = observed.pair, written(now)
    before = pair.status.operation
    by_itself = request is None
    found = Operation(
        name=name,
        uid=request.metadata.uid if request is not None else "",
        mode=Mode.UNPLANNED,
        automatic=by_itself,
        from_epoch=pair.status.epoch or 1,
        attempt=pair.status.attempt + 1,
        phase=OperationPhase.VALIDATING,
        started_at=at,
        phase_since=at,
        failures=before.failures if by_itself and before is not None and before.automatic else 0,
        timeline=(
            Step(phase=OperationPhase.VALIDATING, at=at, message=f"{why} May it be done? Nothing is touched.".strip()),
        ),
    )
    if request is None:
        return found
    if not isinstance(request, Restore):
        return found.model_copy(update={"mode": request.spec.mode})
    spec = request.spec
    more = {
        "kind": kind_of(request),
        "mode": Mode.PLANNED,
        "cut_over": spec.cut_over,
        "to": spec.to.volumes if spec.to is not None else (),
        "whole_on": (pair.status.active_side or Side.SOURCE,),
    }
    return found.model_copy(update=more)
