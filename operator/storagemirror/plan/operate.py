"""The table of phases, and the one step that a pass takes in an open operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from storagemirror.api.operation import OperationPhase
from storagemirror.plan.operating import Move, Stage, given_up
from storagemirror.plan.phases_before import awaiting_approval, proving, validating
from storagemirror.plan.phases_fence import draining, fencing, promoting, rolling_back
from storagemirror.plan.phases_switch import switching, verifying

STEPS: Mapping[OperationPhase, Callable[[Stage], Move]] = {
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


def step(stage: Stage) -> Move:
    """One pass over an open operation."""
    return given_up(stage) or STEPS[stage.operation.phase](stage)
