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
from storagemirror.api.sides import Side, Workload
from storagemirror.api.status import Writer
from storagemirror.contract import Role
from storagemirror.plan.asking import Request, requests
from storagemirror.plan.course import leaving
from storagemirror.plan.decisions import Action
from storagemirror.plan.living import workloads_of
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
    """The volumes that it is about."""
    writers: tuple[Writer, ...]
    known_since: str | None
    operation: Operation
    request: Request | None
    """The Failover or Restore; None where it is not there (yet, or any more)."""
    now: datetime

    @property
    def views(self) -> list[View]:
        return [j.view for j in self.judged]

    @property
    def volumes(self) -> tuple[str, ...]:
        return tuple(v.name for v in self.views)

    @property
    def leaves(self) -> Side:
        """The side that the application leaves."""
        return leaving(self.operation)

    @property
    def reaches(self) -> Side:
        """The side that it moves to."""
        return self.leaves.other

    @property
    def called(self) -> str:
        """What it moves to, as people call it."""
        return "application at home" if self.operation.homeward else "standby"

    def workloads(self, side: Side) -> tuple[Workload, ...]:
        """As the spec names them."""
        return workloads_of(self.observed.pair, side)

    @property
    def failover(self) -> Failover | None:
        """The object, where it is a Failover."""
        return self.request if isinstance(self.request, Failover) else None

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
            self.leaves,
        )

    @property
    def accepted(self) -> bool:
        """Whether a person took the risk of a second writer."""
        told = self.failover is not None and self.failover.spec.accept_split_brain
        return told or self.operation.accept_split_brain

    @property
    def cancelled(self) -> bool:
        """Whether somebody has deleted what asked for it."""
        if not self.operation.uid or requests(self.observed) is None:
            return False
        return self.request is None or self.request.metadata.deletion_timestamp is not None

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
    """Undo what was done: both sides were closed, and the live one stopped."""
    status: dict[str, object] = {"closed_sides": (stage.reaches,)}
    if stage.observed.pair.status.active_side is stage.reaches:
        # An epoch is never worn by both sides: what was handed over at it stays refused.
        status |= {"active_side": stage.leaves, "epoch": (stage.observed.pair.status.epoch or 1) + 1}
    also: dict[str, object] = {"reason": str(reason)}
    if stage.operation.homeward:
        also["whole_on"] = (stage.leaves,)
    return go(stage, OperationPhase.ROLLING_BACK, why, status=status, also=also)


def given_up(stage: Stage) -> Move | None:
    """What a deleted Failover, or a deadline, comes to while it can still go back."""
    operation = stage.operation
    kind = operation.kind
    harmless = operation.phase in HARMLESS or operation.elsewhere
    if harmless and stage.cancelled:
        return end(stage, OperationPhase.ROLLED_BACK, Reason.CANCELLED, f"The {kind} was deleted; {_left(stage)}")
    if operation.phase in (OperationPhase.FENCING, OperationPhase.DRAINING) and stage.cancelled:
        return back(stage, Reason.CANCELLED, f"The {kind} was deleted: the {stage.leaves.value.lower()} goes on.")
    if operation.elsewhere:
        return None
    if operation.phase in DEADLINES and (gone := _copy_goes(stage)) is not None:
        return back(stage, Reason.CLAIM_DELETING, gone)
    if operation.phase in DEADLINES and stage.late:
        return back(stage, Reason.TIMED_OUT, f"{operation.phase} took too long: {operation.message}")
    return None


def _left(stage: Stage) -> str:
    """How things stand when it is given up before anything live was touched."""
    phase, live = stage.operation.phase, stage.observed.pair.status.active_side or Side.SOURCE
    if stage.operation.elsewhere:
        return "what was copied stays where it is, and may not be whole."
    if phase in (OperationPhase.PENDING, OperationPhase.VALIDATING, OperationPhase.AWAITING_APPROVAL):
        return "nothing was touched."
    if stage.operation.homeward:
        return f"the {live.value.lower()} is the live side and holds everything; the source claims are no copy of it."
    return "nothing was touched."


def _copy_goes(stage: Stage) -> str | None:
    """Whether a claim that is moved to is being deleted: the application would find nothing to start on."""
    for view in stage.views:
        claim = view.target_claim
        if claim is None or (isinstance(claim, Claim) and claim.metadata.deletion_timestamp is not None):
            return f"The {stage.reaches.value.lower()} claim {view.claim_name(Role.TARGET)} is being deleted."
    return None
