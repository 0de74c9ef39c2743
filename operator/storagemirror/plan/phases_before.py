"""The phases in which nothing is touched: Validating, AwaitingApproval, Proving."""

from __future__ import annotations

from dataclasses import replace

from storagemirror.api.operation import Equality, Mode, OperationPhase, StoredReplicas
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Approval, Side
from storagemirror.contract import ProofStage, Role
from storagemirror.plan.contact import contact_of, worst_contact
from storagemirror.plan.course import proven
from storagemirror.plan.loss import source_back
from storagemirror.plan.objects import WorkloadObject
from storagemirror.plan.operating import ASKED_SECONDS, LATER, SOON, Move, Stage, end, go, pace, stay
from storagemirror.plan.times import written
from storagemirror.plan.validating import obstacle
from storagemirror.plan.volumes import heard_report

PROVING_PATIENCE = 60.0
"""Seconds for which a planned failover waits for a source agent that is not heard, before it gives up."""
BY_SPEC = "spec.failover.approval: Automatic"


def validating(stage: Stage) -> Move:
    """Until nothing stands in the way."""
    if stage.operation.automatic and source_back(stage.views):
        return _returned(stage)
    found = obstacle(stage.asked)
    if found is not None:
        if not stage.operation.automatic and stage.waited >= ASKED_SECONDS:
            return end(stage, OperationPhase.FAILED, found.reason, f"Refused; nothing was touched: {found.message}")
        return stay(stage, found.reason, found.message, again=pace(stage))
    by = approved_by(stage)
    if by is None:
        return go(stage, OperationPhase.AWAITING_APPROVAL, "Nothing stands in the way; a person must approve.")
    return _begin(stage, by)


def awaiting_approval(stage: Stage) -> Move:
    """Until a person says yes, or the source is back."""
    if stage.operation.automatic and source_back(stage.views):
        return _returned(stage)
    by = approved_by(stage)
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
        return fence(stage)
    silent = [v.volume.name for v in stage.views if heard_report(v, Role.SOURCE) is None]
    if silent and stage.waited >= PROVING_PATIENCE:
        text = f"The source agent of {', '.join(silent)} is not heard; nothing was touched."
        return end(stage, OperationPhase.ROLLED_BACK, Reason.SOURCE_NOT_HEARD, text)
    message = f"Both sides are compared by checksum while the application runs; {len(equality)} of "
    message += f"{len(stage.volumes)} volumes proven equal."
    return stay(stage, Reason.PROVING, message, again=SOON, also={"equality": equality})


def equal(stage: Stage, which: ProofStage) -> tuple[Equality, ...]:
    """All proofs that are in, those of this pass too."""
    found = {(e.volume, e.stage): e for e in stage.operation.equality}
    for view in stage.views:
        report = heard_report(view, Role.SOURCE)
        proof = report.proof if report is not None else None
        if proof is None or not proof.equal or (proof.attempt, proof.stage) != (stage.operation.attempt, which):
            continue
        found.setdefault(
            (view.volume.name, which),
            Equality(
                volume=view.volume.name,
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


def approved_by(stage: Stage) -> str | None:
    """Who says yes; None while nobody does."""
    spec = stage.failover.spec if stage.failover is not None else None
    if spec is not None and spec.approved and spec.approved_by:
        return spec.approved_by
    return BY_SPEC if stage.observed.pair.spec.failover.approval is Approval.AUTOMATIC else None


def fence(stage: Stage) -> Move:
    """Into Fencing: both sides closed in the same write that says so."""
    contact = worst_contact([contact_of(v) for v in stage.views])
    return go(
        stage,
        OperationPhase.FENCING,
        "Both sides are closed; the source is stopped, and the end of all that may write it is proven.",
        status={"closed_sides": (Side.SOURCE, Side.TARGET)},
        also={
            "replicas": _replicas(stage),
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
    """How many pods the source's workloads have now; kept where they were stored already."""
    sides = stage.observed.pair.spec.sides
    if sides is None or stage.operation.replicas:
        return stage.operation.replicas
    found = []
    for workload in sides.source.workloads:
        there = stage.observed.workloads.get((workload.kind, workload.name))
        if isinstance(there, WorkloadObject):
            found.append(StoredReplicas(kind=workload.kind, name=workload.name, replicas=there.spec.replicas))
    return tuple(found)


__all__ = ["approved_by", "awaiting_approval", "equal", "fence", "proving", "validating"]
