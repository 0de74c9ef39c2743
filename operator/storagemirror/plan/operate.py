"""The table of phases, and the one step that a pass takes in an open operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storagemirror.api.operation import OperationKind, OperationPhase
from storagemirror.plan import phases_home as home
from storagemirror.plan.course import RETURNING
from storagemirror.plan.operating import Move, Stage, given_up
from storagemirror.plan.phases_before import awaiting_approval, proving, validating
from storagemirror.plan.phases_fence import draining, fencing, promoting, rolling_back
from storagemirror.plan.phases_switch import switching, verifying

Steps = Mapping[OperationPhase, Callable[[Stage], Move]]

FAILOVER: Steps = {
    OperationPhase.VALIDATING: validating,
    OperationPhase.AWAITING_APPROVAL: awaiting_approval,
    OperationPhase.PROVING: proving,
    OperationPhase.FENCING: fencing,
    OperationPhase.DRAINING: draining,
    OperationPhase.PROMOTING: promoting,
    OperationPhase.ROLLING_BACK: rolling_back,
    OperationPhase.SWITCHING: switching,
    OperationPhase.VERIFYING: verifying,
}
"""What each phase of an open operation does. Those that are not here are ends, or come before it is open."""

HOMEWARD: Steps = {
    **{phase: does for phase, does in FAILOVER.items() if phase is not OperationPhase.AWAITING_APPROVAL},
    OperationPhase.VALIDATING: home.validating,
    OperationPhase.MIRRORING: home.mirroring,
    OperationPhase.AWAITING_CUT_OVER: home.awaiting_cut_over,
}
"""The same of a restore: the cut-over is a planned failover the other way."""

ELSEWHERE: Steps = {
    OperationPhase.VALIDATING: home.validating,
    OperationPhase.MIRRORING: home.mirroring,
    OperationPhase.PROVING: home.proving_elsewhere,
    OperationPhase.DRAINING: home.draining_elsewhere,
}
"""The same of a copy elsewhere."""


def step(stage: Stage) -> Move:
    """One pass over an open operation."""
    operation = stage.operation
    steps = ELSEWHERE if operation.elsewhere else HOMEWARD if operation.homeward else FAILOVER
    move = given_up(stage) or steps[operation.phase](stage)
    return home.noted(stage, move) if operation.phase in RETURNING and operation.kind is OperationKind.RESTORE else move
