"""The phases in which nothing is touched: Validating, AwaitingApproval, Proving."""

from __future__ import annotations

from dataclasses import replace

from storagemirror.api.operation import Equality, Mode, OperationPhase, StoredReplicas
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Side
from storagemirror.contract import ProofStage, Role
from storagemirror.plan.asking import approved_by
from storagemirror.plan.contact import contact_of, worst_contact
from storagemirror.plan.course import proven
from storagemirror.plan.loss import source_back
from storagemirror.plan.objects import WorkloadObject
from storagemirror.plan.operating import ASKED_SECONDS, LATER, SOON, Move, Stage, end, go, pace, stay
from storagemirror.plan.times import written
from storagemirror.plan.validating import Obstacle, obstacle, proof_can_be_had
from storagemirror.plan.volumes import heard_report

PROVING_PATIENCE = 60.0
"""Seconds for which a planned failover waits for a source agent that is not heard, before it gives up."""


def validating(stage: Stage) -> Move:
    """Until nothing stands in the way."""
    if stage.operation.automatic and source_back(stage.views):
        return _returned(stage)
    found = obstacle(stage.asked)
    if found is not None:
        if not stage.operation.automatic and stage.waited >= ASKED_SECONDS:
            return end(stage, OperationPhase.FAILED, found.reason, f"Refused; nothing was touched: {found.message}")
        return stay(stage, found.reason, found.message, again=pace(stage))
    by = approved_by(stage.request, stage.observed.pair)
    if by is None:
        return go(stage, OperationPhase.AWAITING_APPROVAL, "Nothing stands in the way; a person must approve.")
    return _begin(stage, by)


def awaiting_approval(stage: Stage) -> Move:
    """Until a person says yes, or the source is back."""
    if stage.operation.automatic and source_back(stage.views):
        return _returned(stage)
    by = approved_by(stage.request, stage.observed.pair)
    found = obstacle(stage.asked)
    if by is None:
        preview = "" if found is None else f" As it is now it would wait: {found.message}"
        return stay(stage, Reason.AWAITING_APPROVAL, f"{_would_lose(stage)}{preview}", again=max(LATER, pace(stage)))
    if found is not None:
        # From here on its patience counts: what was approved long ago must not happen some day.
        return go(stage, OperationPhase.VALIDATING, f"Approved by {by}; it waits: {found.message}")
    return _begin(stage, by)


def proving(stage: Stage) -> Move:
    """Planned: all of both sides, by checksum, while the application runs."""
    equality = equal(stage, ProofStage.LIVE)
    if proven(stage.operation, stage.volumes, ProofStage.LIVE):
        if (found := cannot_fence(stage)) is not None:
            return stay(stage, found.reason, found.message, again=pace(stage), also={"equality": equality})
        return fence(stage)
    silent = [v.volume.name for v in stage.views if heard_report(v, Role.SOURCE) is None]
    if silent and stage.waited >= PROVING_PATIENCE:
        if stage.operation.homeward:
            # The live side serves, and its agent will be back: nothing is given up.
            return go(stage, OperationPhase.MIRRORING, f"The agent of {', '.join(silent)} is not heard any more.")
        text = f"The source agent of {', '.join(silent)} is not heard; nothing was touched."
        return end(stage, OperationPhase.ROLLED_BACK, Reason.SOURCE_NOT_HEARD, text)
    message = f"Both sides are compared by checksum while the application runs; {len(equality)} of "
    message += f"{len(stage.volumes)} volumes proven equal.{_hindered(stage)}"
    return stay(stage, Reason.PROVING, message, again=SOON, also={"equality": equality})


def cannot_fence(stage: Stage) -> Obstacle | None:
    """Restore: why the application would be stopped in vain, since the end of some pod cannot be proven. A failover has
    asked that just before; on the way home hours may have gone by."""
    if not stage.operation.homeward:
        return None
    found = proof_can_be_had(stage.asked)
    if found is None:
        return None
    live = stage.leaves.value.lower()
    return replace(found, message=f"{found.message} It goes on once that can be had; the {live} serves meanwhile.")


def equal(stage: Stage, which: ProofStage) -> tuple[Equality, ...]:
    """All proofs that are in, those of this pass too."""
    found = {(e.volume, e.stage): e for e in stage.operation.equality}
    for view in stage.views:
        report = heard_report(view, Role.SOURCE)
        proof = report.proof if report is not None else None
        if proof is None or not proof.equal or (proof.attempt, proof.stage) != (stage.operation.attempt, which):
            continue
        found.setdefault(
            (view.name, which),
            Equality(
                volume=view.name,
                stage=which,
                files=proof.files,
                bytes=proof.bytes,
                differing=proof.differing,
                digest=proof.digest,
                at=proof.at or written(stage.now),
            ),
        )
    order = list(ProofStage)
    return tuple(found[key] for key in sorted(found, key=lambda key: (key[0], order.index(key[1]))))


def _hindered(stage: Stage) -> str:
    """What the agents that prove say against it."""
    found = [(v.name, r.problem) for v in stage.views if (r := heard_report(v, Role.SOURCE)) is not None]
    return "".join(f" Volume {name}: {problem.message}." for name, problem in found if problem is not None)


def fence(stage: Stage) -> Move:
    """Into Fencing: both sides closed in the same write that says so."""
    contact = worst_contact([contact_of(v) for v in stage.views])
    side, replicas = stage.leaves.value.lower(), _replicas(stage)
    return go(
        stage,
        OperationPhase.FENCING,
        f"Both sides are closed; the {side} is stopped, and the end of all that may write it is proven.",
        status={"closed_sides": (Side.SOURCE, Side.TARGET), "replicas": _remembered(stage, replicas)},
        also={
            "replicas": replicas,
            "accept_split_brain": stage.accepted,
            "last_contact": contact.last_heard,
            "synced_through": contact.synced_through,
            "lag_seconds": contact.lag_seconds,
        },
    )


def _begin(stage: Stage, by: str) -> Move:
    stage = replace(stage, operation=stage.operation.model_copy(update={"approved_by": by}))
    if stage.operation.mode is Mode.PLANNED:
        return go(stage, OperationPhase.PROVING, "Both sides are proven equal while the application runs.")
    return fence(stage)


def _returned(stage: Stage) -> Move:
    text = "The source is heard again; nothing was touched."
    return end(stage, OperationPhase.ROLLED_BACK, Reason.SOURCE_RETURNED, text)


def _would_lose(stage: Stage) -> str:
    """What a yes would cost now."""
    if stage.operation.mode is Mode.PLANNED:
        return "Planned: nothing would be lost."
    contact = worst_contact([contact_of(v) for v in stage.views])
    if contact.lag_seconds is None:
        return "It is not known how much would be lost."
    return f"What the source did in its last {contact.lag_seconds} s would be lost."


def _replicas(stage: Stage) -> tuple[StoredReplicas, ...]:
    """How many pods the workloads of the side that is left have now; kept where they were stored already."""
    if stage.operation.replicas:
        return stage.operation.replicas
    found = []
    for workload in stage.workloads(stage.leaves):
        there = stage.observed.workloads.get((workload.kind, workload.name))
        if isinstance(there, WorkloadObject):
            found.append(StoredReplicas(kind=workload.kind, name=workload.name, replicas=there.spec.replicas))
    return tuple(found)


def _remembered(stage: Stage, fresh: tuple[StoredReplicas, ...]) -> tuple[StoredReplicas, ...]:
    """What the pair remembers of every workload, for the day on which its side is live again."""
    found = {(r.kind, r.name): r for r in stage.observed.pair.status.replicas}
    found |= {(r.kind, r.name): r for r in fresh if r.replicas}
    return tuple(found[key] for key in sorted(found))[:32]


__all__ = ["awaiting_approval", "equal", "fence", "proving", "validating"]
