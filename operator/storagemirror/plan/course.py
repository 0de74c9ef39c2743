"""What an operation asks of the agents: read from the pair's status alone, so that it holds whoever decides.

The phase is stored before anything is done in it; the orders that follow from it are written by the next pass.

A copy has a direction. The agent of Role.SOURCE reads, that of Role.TARGET writes: the source claim and the target
claim, but for a restore that brings the application home. While that goes on they are turned round.
"""

from __future__ import annotations

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.operation import FENCED, Mode, Operation, OperationPhase
from storagemirror.api.sides import Side
from storagemirror.api.status import MirrorPairStatus
from storagemirror.contract import FIRST_EPOCH, Action, ProofStage, ProveOrder, RestoreOrder, Role, SettleOrder

RETURNING = frozenset(
    {
        OperationPhase.MIRRORING,
        OperationPhase.AWAITING_CUT_OVER,
        OperationPhase.PROVING,
        OperationPhase.FENCING,
        OperationPhase.DRAINING,
        OperationPhase.PROMOTING,
    }
)
"""The phases of a homeward restore in which the target is copied to the source."""
COPYING_ELSEWHERE = frozenset({OperationPhase.MIRRORING, OperationPhase.PROVING, OperationPhase.DRAINING})
"""The phases of a restore elsewhere in which its agents run."""


def operation_of(status: MirrorPairStatus) -> Operation | None:
    """The operation that goes on; None where none does."""
    found = status.operation
    return found if found is not None and found.open else None


def moving(status: MirrorPairStatus) -> Operation | None:
    """The operation that goes on and moves the application, or is to; None where none does."""
    found = operation_of(status)
    return None if found is None or found.elsewhere else found


def returning(status: MirrorPairStatus) -> Operation | None:
    """The restore that copies the target to the source just now; None where none does."""
    found = moving(status)
    return found if found is not None and found.homeward and found.phase in RETURNING else None


def leaving(operation: Operation) -> Side:
    """The side that the application is to leave."""
    return Side.TARGET if operation.homeward else Side.SOURCE


def over(status: MirrorPairStatus) -> bool:
    """Whether the target is the live side, and nothing is copied."""
    going_on = moving(status)
    if returning(status) is not None:
        return False
    promoting = going_on is not None and going_on.phase is OperationPhase.PROMOTING
    return status.active_side is Side.TARGET and not promoting


def fenced(status: MirrorPairStatus) -> bool:
    """Whether both sides are closed just now."""
    going_on = moving(status)
    return going_on is not None and going_on.phase in FENCED


def proven(operation: Operation, volumes: tuple[str, ...], stage: ProofStage) -> bool:
    """Whether every volume's proof of that stage is in."""
    found = {e.volume for e in operation.equality if e.stage is stage}
    return found >= set(volumes)


def action_of(pair: MirrorPair, role: Role) -> Action:
    """What the agent of `role` is ordered to do."""
    status, going_on = pair.status, moving(pair.status)
    if over(status):
        return Action.STOP
    if going_on is None or going_on.phase not in FENCED or going_on.phase is OperationPhase.ROLLING_BACK:
        return Action.PAUSE if pair.spec.paused else Action.RUN
    if going_on.phase is OperationPhase.PROMOTING:
        return Action.PROMOTE if role is Role.TARGET else Action.STOP
    if _draining(pair, going_on):
        return Action.DRAIN if role is Role.TARGET else Action.STOP
    # What the side that is left still has is taken in while its writers are being ended.
    return Action.RUN


def _draining(pair: MirrorPair, going_on: Operation) -> bool:
    """Whether the target is to take in what has come, and nothing more."""
    if going_on.phase is not OperationPhase.DRAINING:
        return False
    names = tuple(v.name for v in pair.spec.volumes)
    return going_on.mode is Mode.UNPLANNED or proven(going_on, names, ProofStage.FINAL)


def prove_of(pair: MirrorPair, role: Role) -> ProveOrder | None:
    """What the agent that reads is to prove."""
    going_on = moving(pair.status)
    if role is Role.TARGET or going_on is None or going_on.mode is not Mode.PLANNED:
        return None
    if going_on.phase is OperationPhase.DRAINING and not _draining(pair, going_on):
        return ProveOrder(attempt=going_on.attempt, stage=ProofStage.FINAL)
    if going_on.phase in (OperationPhase.PROVING, OperationPhase.FENCING):
        # It stands while the writers are being ended: what they still write is remembered for the final part.
        return ProveOrder(attempt=going_on.attempt, stage=ProofStage.LIVE)
    return None


def proven_of(pair: MirrorPair, role: Role) -> bool:
    """Whether the agent that hands its volume over may go by a proof that both sides are equal."""
    going_on = moving(pair.status)
    if role is not Role.TARGET or going_on is None or going_on.phase is not OperationPhase.PROMOTING:
        return False
    names = tuple(v.name for v in pair.spec.volumes)
    return going_on.mode is Mode.PLANNED and proven(going_on, names, ProofStage.FINAL)


def settle_of(pair: MirrorPair, role: Role) -> SettleOrder | None:
    """What becomes of a point that the agent holds back which hands its volume over: as it was decided when all copies
    were drained."""
    going_on = moving(pair.status)
    if role is not Role.TARGET or going_on is None or going_on.phase is not OperationPhase.PROMOTING:
        return None
    return None if going_on.homeward else SettleOrder(group=going_on.group)


def restore_of(pair: MirrorPair, role: Role) -> RestoreOrder | None:
    """What the agent that writes the source is to keep aside first."""
    going_on = returning(pair.status)
    if going_on is None or role is not Role.TARGET:
        return None
    return RestoreOrder(epoch=cut_epoch(pair.status), attempt=going_on.attempt)


def cut_epoch(status: MirrorPairStatus) -> int:
    """The epoch that began when the source was last cut off."""
    return status.cut_epoch or status.epoch or FIRST_EPOCH


def elsewhere_action(pair: MirrorPair, role: Role) -> Action:
    """The same for a claim elsewhere."""
    going_on = operation_of(pair.status)
    if going_on is None or going_on.phase not in COPYING_ELSEWHERE:
        return Action.STOP
    if going_on.phase is OperationPhase.DRAINING:
        # Handed over: what is done with it from then on is never overwritten.
        return Action.PROMOTE if role is Role.TARGET else Action.STOP
    return Action.PAUSE if pair.spec.paused else Action.RUN


def elsewhere_prove(pair: MirrorPair, role: Role) -> ProveOrder | None:
    """The same for a claim elsewhere: all of it, while the application runs."""
    going_on = operation_of(pair.status)
    if role is Role.TARGET or going_on is None or going_on.phase is not OperationPhase.PROVING:
        return None
    return ProveOrder(attempt=going_on.attempt, stage=ProofStage.LIVE)


def source_stays(status: MirrorPairStatus) -> bool:
    """Whether the agent that reads must stay although nobody uses its side: it has yet to send the rest."""
    going_on = moving(status)
    if going_on is None or going_on.mode is not Mode.PLANNED:
        return False
    if going_on.homeward:
        return going_on.phase in RETURNING - {OperationPhase.PROMOTING}
    return going_on.phase in (OperationPhase.PROVING, OperationPhase.FENCING, OperationPhase.DRAINING)


def source_leaves(status: MirrorPairStatus) -> bool:
    """Whether no agent that reads may be there: the copy is being taken without it."""
    going_on = moving(status)
    if going_on is None:
        return False
    gone = going_on.phase is OperationPhase.PROMOTING
    return gone or (going_on.phase is OperationPhase.DRAINING and going_on.mode is Mode.UNPLANNED)
