"""What every phase of a failover works with: what it sees, and the three things it can do: go on, stay, end.

Going on is one write of the status and nothing else: the pass that finds the new phase stored acts on it. So the
operator may be killed anywhere, and two of them may be at work for a moment: the slower one's write is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from storagemirror.api.failover import AcceptLoss, Failover
from storagemirror.api.operation import HARMLESS, Operation, OperationPhase, Step
from storagemirror.api.reasons import Reason, advised
from storagemirror.api.sides import Side
from storagemirror.api.status import Writer
from storagemirror.plan.decisions import Action
from storagemirror.plan.objects import Claim
from storagemirror.plan.observed import Observed
from storagemirror.plan.times import read, written
from storagemirror.plan.validating import Asked
from storagemirror.plan.view import View
from storagemirror.plan.volumes import Judged

SOON = 0.25
"""Seconds until an open operation looks again at what it waits for: agents and pods tell by themselves, but a watch may
be a moment late, and this is a moment that counts."""
LATER = 2.0
"""The same where it waits for a person or a node."""

SELDOM = 10.0
"""The same where it has waited for long: what it waits for mostly wakes it."""

TOUCHING_SECONDS = 300.0
DEADLINES: Mapping[OperationPhase, float] = {
    OperationPhase.FENCING: TOUCHING_SECONDS,
    OperationPhase.DRAINING: TOUCHING_SECONDS,
    OperationPhase.PROMOTING: TOUCHING_SECONDS,
}
"""Seconds that a phase may take in which the application may stand still: then it goes back by itself."""
ASKED_SECONDS = 300.0
"""Seconds for which a failover that a person asked for may wait before it is begun: what is forgotten must not happen
some day."""

MAX_TIMELINE = 64


@dataclass(frozen=True)
class Stage:
    """One pass over an open operation."""

    observed: Observed
    judged: Sequence[Judged]
    writers: tuple[Writer, ...]
    known_since: str | None
    operation: Operation
    failover: Failover | None
    """The object; None where it is not there (yet, or any more)."""
    now: datetime

    @property
    def views(self) -> list[View]:
        return [j.view for j in self.judged]

    @property
    def volumes(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.observed.pair.spec.volumes)

    @property
    def asked(self) -> Asked:
        """As the rules want it."""
        loss = self.failover.spec.accept_loss if self.failover is not None else None
        return Asked(
            self.observed,
            self.judged,
            self.writers,
            self.known_since,
            self.operation.mode,
            loss or AcceptLoss(),
            self.accepted,
            self.now,
        )

    @property
    def accepted(self) -> bool:
        """Whether a person took the risk of a second writer."""
        told = self.failover is not None and self.failover.spec.accept_split_brain
        return told or self.operation.accept_split_brain

    @property
    def cancelled(self) -> bool:
        """Whether somebody has deleted the Failover."""
        if not self.operation.uid or not isinstance(self.observed.failovers, tuple):
            return False
        return self.failover is None or self.failover.metadata.deletion_timestamp is not None

    @property
    def waited(self) -> float:
        """Seconds in this phase."""
        since = read(self.operation.phase_since)
        return 0.0 if since is None else (self.now - since).total_seconds()

    @property
    def late(self) -> bool:
        """Whether the phase's deadline has passed."""
        deadline = read(self.operation.deadline)
        return deadline is not None and self.now >= deadline


@dataclass(frozen=True)
class Move:
    """What a phase comes to."""

    operation: Operation
    actions: tuple[Action, ...] = ()
    status: Mapping[str, object] = field(default_factory=dict)
    """Further fields of the pair's status that belong into the same write."""
    again: float | None = None


NOTHING: Mapping[str, object] = {}


def pace(stage: Stage) -> float:
    """Seconds until it looks again: often at first, seldom where it may wait for hours."""
    if stage.waited < 15.0:
        return SOON
    return LATER if stage.waited < 120.0 else SELDOM


def go(
    stage: Stage,
    phase: OperationPhase,
    message: str,
    *,
    status: Mapping[str, object] = NOTHING,
    also: Mapping[str, object] = NOTHING,
) -> Move:
    """To another phase: one write, and nothing done yet. `also`: further fields of the operation."""
    return Move(entered(stage, phase, message, also), (), status, again=0.0)


def entered(stage: Stage, phase: OperationPhase, message: str, also: Mapping[str, object] = NOTHING) -> Operation:
    """The operation as it is on entering `phase`."""
    now = written(stage.now)
    seconds = DEADLINES.get(phase)
    deadline = written(stage.now + timedelta(seconds=seconds)) if seconds is not None else None
    step = Step(phase=phase, at=now, message=message)
    changes: dict[str, object] = {
        "phase": phase,
        "phase_since": now,
        "reason": str(Reason.WAITING),
        "message": message,
        "deadline": deadline,
        "timeline": (*stage.operation.timeline, step)[-MAX_TIMELINE:],
        **also,
    }
    return stage.operation.model_copy(update=changes)


def stay(
    stage: Stage,
    reason: Reason,
    message: str,
    *,
    actions: tuple[Action, ...] = (),
    again: float = SOON,
    also: Mapping[str, object] = NOTHING,
) -> Move:
    """Wait, and say for what."""
    told = {"reason": str(reason), "message": advised(message, reason), **also}
    return Move(stage.operation.model_copy(update=told), actions, again=again)


def end(
    stage: Stage,
    phase: OperationPhase,
    reason: Reason,
    message: str,
    also: Mapping[str, object] = NOTHING,
) -> Move:
    """It is over, for ever."""
    failures = 0 if phase is OperationPhase.COMPLETED else stage.operation.failures + 1
    told = {"reason": str(reason), "ended_at": written(stage.now), "failures": failures, **also}
    return Move(entered(stage, phase, message, told), again=0.0)


def back(stage: Stage, reason: Reason, why: str) -> Move:
    """Undo what was done: both sides were closed, and the source stopped."""
    status: dict[str, object] = {"closed_sides": (Side.TARGET,)}
    if stage.observed.pair.status.active_side is Side.TARGET:
        # An epoch is never worn by both sides: what was handed over at it stays refused.
        status |= {"active_side": Side.SOURCE, "epoch": (stage.observed.pair.status.epoch or 1) + 1}
    return go(stage, OperationPhase.ROLLING_BACK, why, status=status, also={"reason": str(reason)})


def given_up(stage: Stage) -> Move | None:
    """What a deleted Failover, or a deadline, comes to while it can still go back."""
    operation = stage.operation
    if operation.phase in HARMLESS and stage.cancelled:
        return end(
            stage, OperationPhase.ROLLED_BACK, Reason.CANCELLED, "The Failover was deleted; nothing was touched."
        )
    if operation.phase in (OperationPhase.FENCING, OperationPhase.DRAINING) and stage.cancelled:
        return back(stage, Reason.CANCELLED, "The Failover was deleted: the source goes on.")
    if operation.phase in DEADLINES and (gone := _copy_goes(stage)) is not None:
        return back(stage, Reason.CLAIM_DELETING, gone)
    if operation.phase in DEADLINES and stage.late:
        return back(stage, Reason.TIMED_OUT, f"{operation.phase} took too long: {operation.message}")
    return None


def _copy_goes(stage: Stage) -> str | None:
    """Whether a target claim is being deleted: the standby would find nothing to start on."""
    for view in stage.views:
        claim = view.target_claim
        if claim is None or (isinstance(claim, Claim) and claim.metadata.deletion_timestamp is not None):
            return f"The target claim {view.volume.target.claim_name} is being deleted."
    return None
