"""What people (and the operator itself) ask for: Failovers and Restores, told apart only where they differ."""

from __future__ import annotations

from storagemirror.api.failover import Failover
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.operation import CutOver, OperationKind
from storagemirror.api.restore import Restore
from storagemirror.api.sides import Approval, Side
from storagemirror.plan.observed import Observed
from storagemirror.resources.failover import is_automatic

Request = Failover | Restore

BY_PAIR = "spec.failover.approval: Automatic"
BY_RESTORE = "spec.cutOver: Automatic"


def requests(observed: Observed) -> tuple[Request, ...] | None:
    """All that name the pair; None where they could not be looked at."""
    if not isinstance(observed.failovers, tuple) or not isinstance(observed.restores, tuple):
        return None
    return (*observed.failovers, *observed.restores)


def kind_of(request: Request) -> OperationKind:
    return OperationKind.RESTORE if isinstance(request, Restore) else OperationKind.FAILOVER


def automatic(request: Request) -> bool:
    """Whether the operator made it."""
    return isinstance(request, Failover) and is_automatic(request.metadata.labels)


def elsewhere(request: Request | None) -> bool:
    """Whether it copies to other claims, and moves nothing."""
    return isinstance(request, Restore) and request.spec.to is not None


def for_epoch(request: Request, epoch: int | None) -> bool:
    """Whether it is meant for this epoch; one that moves nothing may be for any."""
    wanted = request.spec.from_epoch
    return wanted == epoch or (wanted is None and elsewhere(request))


def moves_by_itself(request: Request, pair: MirrorPair) -> bool:
    """Whether nobody is asked any more."""
    return approved_by(request, pair) is not None


def approved_by(request: Request | None, pair: MirrorPair) -> str | None:
    """Who says that the application may be moved; None while nobody does."""
    if request is not None and request.spec.approved and request.spec.approved_by:
        return request.spec.approved_by
    if isinstance(request, Restore):
        return BY_RESTORE if request.spec.cut_over is CutOver.AUTOMATIC else None
    return BY_PAIR if pair.spec.failover.approval is Approval.AUTOMATIC else None


def pointless(request: Request, pair: MirrorPair) -> str | None:
    """Why there is nothing to do for it; None where there is."""
    live = pair.status.active_side or Side.SOURCE
    if elsewhere(request):
        return None
    if isinstance(request, Restore) and live is Side.SOURCE:
        return "The source is the live side: there is nothing to bring home."
    if isinstance(request, Failover) and live is Side.TARGET:
        return "The target is the live side already; a Restore brings the application home."
    return None
