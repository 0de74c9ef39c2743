"""What an operation asks of the agents: read from the pair's status alone, so that it holds whoever decides.

The phase is stored before anything is done in it; the orders that follow from it are written by the next pass.
"""

from __future__ import annotations

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.operation import FENCED, Mode, Operation, OperationPhase
from storagemirror.api.sides import Side
from storagemirror.api.status import MirrorPairStatus
from storagemirror.contract import Action, ProofStage, ProveOrder, Role


def operation_of(status: MirrorPairStatus) -> Operation | None:
    """The operation that goes on; None where none does."""
    found = status.operation
    return found if found is not None and found.open else None


def over(status: MirrorPairStatus) -> bool:
    """Whether the target is the live side for good: from here on nothing is copied."""
    going_on = operation_of(status)
    promoting = going_on is not None and going_on.phase is OperationPhase.PROMOTING
    return status.active_side is Side.TARGET and not promoting


def fenced(status: MirrorPairStatus) -> bool:
    """Whether both sides are closed just now."""
    going_on = operation_of(status)
    return going_on is not None and going_on.phase in FENCED


def proven(operation: Operation, volumes: tuple[str, ...], stage: ProofStage) -> bool:
    """Whether every volume's proof of that stage is in."""
    found = {e.volume for e in operation.equality if e.stage is stage}
    return found >= set(volumes)


def action_of(pair: MirrorPair, role: Role) -> Action:
    """What the agent of `role` is ordered to do."""
    status, going_on = pair.status, operation_of(pair.status)
    if over(status):
        return Action.STOP
    if going_on is None or going_on.phase not in FENCED or going_on.phase is OperationPhase.ROLLING_BACK:
        return Action.PAUSE if pair.spec.paused else Action.RUN
    if going_on.phase is OperationPhase.PROMOTING:
        return Action.PROMOTE if role is Role.TARGET else Action.STOP
    if _draining(pair, going_on):
        return Action.DRAIN if role is Role.TARGET else Action.STOP
    # What the source still has is taken in while its writers are being ended.
    return Action.RUN


def _draining(pair: MirrorPair, going_on: Operation) -> bool:
    """Whether the target is to take in what has come, and nothing more."""
    if going_on.phase is not OperationPhase.DRAINING:
        return False
    names = tuple(v.name for v in pair.spec.volumes)
    return going_on.mode is Mode.UNPLANNED or proven(going_on, names, ProofStage.FINAL)


def prove_of(pair: MirrorPair, role: Role) -> ProveOrder | None:
    """What the source's agent is to prove."""
    going_on = operation_of(pair.status)
    if role is Role.TARGET or going_on is None or going_on.mode is not Mode.PLANNED:
        return None
    if going_on.phase is OperationPhase.DRAINING and not _draining(pair, going_on):
        return ProveOrder(attempt=going_on.attempt, stage=ProofStage.FINAL)
    if going_on.phase in (OperationPhase.PROVING, OperationPhase.FENCING):
        # It stands while the writers are being ended: what they still write is remembered for the final part.
        return ProveOrder(attempt=going_on.attempt, stage=ProofStage.LIVE)
    return None


def source_stays(status: MirrorPairStatus) -> bool:
    """Whether the source's agent must stay although nobody uses the source: it has yet to send the rest."""
    going_on = operation_of(status)
    if going_on is None or going_on.mode is not Mode.PLANNED:
        return False
    return going_on.phase in (OperationPhase.PROVING, OperationPhase.FENCING, OperationPhase.DRAINING)


def source_leaves(status: MirrorPairStatus) -> bool:
    """Whether no source agent may be there: the copy is being taken without it."""
    going_on = operation_of(status)
    if going_on is None:
        return False
    gone = going_on.phase is OperationPhase.PROMOTING
    return gone or (going_on.phase is OperationPhase.DRAINING and going_on.mode is Mode.UNPLANNED)
