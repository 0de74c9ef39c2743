"""The phases in which both sides are closed, and which can still go back: Fencing, Draining, Promoting, RollingBack."""

from __future__ import annotations

from storagemirror.api.operation import Grade, Mode, OperationPhase, WriterProof
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Side, WorkloadKind
from storagemirror.contract import Phase as AgentPhase
from storagemirror.contract import ProofStage, Role
from storagemirror.plan.contact import contact_of, worst_contact
from storagemirror.plan.course import proven
from storagemirror.plan.decisions import Action, EndWriter, NudgeWorkload, ScaleWorkload
from storagemirror.plan.grouping import common_group, points_differ
from storagemirror.plan.objects import Pod, WorkloadObject
from storagemirror.plan.observed import GateSeen, Unseen
from storagemirror.plan.operating import SOON, Move, Stage, back, end, go, pace, stay
from storagemirror.plan.phases_before import equal
from storagemirror.plan.pointed import why_no_point
from storagemirror.plan.standby import nudge_mark
from storagemirror.plan.times import exact, read, written
from storagemirror.plan.validating import at_a_point, proof_can_be_had
from storagemirror.plan.view import View, is_agent
from storagemirror.plan.volumes import heard_report
from storagemirror.plan.writers import has_ended, hold_steps, proof_of
from storagemirror.resources import labels

GATE_SETTLES = 1.0
"""Seconds between the gate's first refusal and the look at pods that counts: a pod that admission had let through just
before is stored by then, and seen."""

RETURN_SECONDS = 30.0
"""For so long the source's controllers are woken until their pods are there: the gate opens a moment later than its
status says."""


def fencing(stage: Stage) -> Move:
    """Until every writer's end is proven while the gate keeps new ones away."""
    proofs = _proofs(stage)
    stopped_at, stops = _stop(stage)
    confirmed, gate_open = _gate(stage)
    also: dict[str, object] = {"proofs": proofs, "stopped_at": stopped_at, "gate_confirmed": confirmed}
    unproven = _unproven(stage, proofs)
    if not unproven and stopped_at is not None and gate_open is None and _settled(stage, confirmed):
        grades = sorted({p.grade.value for p in proofs})
        text = f"Nobody writes the {_side(stage)} any more ({', '.join(grades) or 'nobody did'}); the rest is taken in."
        return go(stage, OperationPhase.DRAINING, text, also=also)
    # The finalizers first: who is deleted without one may be gone before its end can be read.
    holds = hold_steps(stage.observed, stage.leaves)
    actions: tuple[Action, ...] = (*holds, *stops, *_end_writers(stage))
    if gate_open is not None:
        return stay(stage, Reason.GATE_NOT_IN_FORCE, gate_open, actions=actions, again=SOON, also=also)
    if unproven:
        reason = Reason.WRITERS_RUNNING if obstacle_to_proof(stage) is None else Reason.NO_PROOF
        return stay(stage, reason, unproven, actions=actions, again=pace(stage), also=also)
    text = f"The {_side(stage)}'s workloads are being stopped."
    return stay(stage, Reason.FENCING, text, actions=actions, also=also)


def _side(stage: Stage) -> str:
    """The side that is left, as people call it."""
    return stage.leaves.value.lower()


def draining(stage: Stage) -> Move:
    """Until the copy has all there is: planned, the rest is sent and proven first."""
    if (lost := _copy_lost(stage)) is not None:
        return back(stage, Reason.NOT_MIRRORED, lost)
    operation = stage.operation
    if operation.mode is Mode.PLANNED and not proven(operation, stage.volumes, ProofStage.FINAL):
        equality = equal(stage, ProofStage.FINAL)
        text = "What was left is sent and proven equal, by both sides on their own."
        return stay(stage, Reason.DRAINING, text, also={"equality": equality})
    waiting = [v.name for v in stage.views if not reports(stage, v, AgentPhase.DRAINED)]
    if waiting:
        return stay(stage, Reason.DRAINING, f"Volume {', '.join(waiting)} takes in what has come.")
    if (refused := _refused(stage)) is not None:
        return back(stage, *refused)
    if (none := at_a_point(stage.asked, drained=True)) is not None:
        return back(stage, none.reason, f"Not promoted. {none.message}")
    group = _common(stage)
    contact = worst_contact([contact_of(v, group) for v in stage.views])
    planned = operation.mode is Mode.PLANNED
    epoch = (stage.observed.pair.status.epoch or 1) + 1
    status: dict[str, object] = {"epoch": epoch, "active_side": stage.reaches}
    if not operation.homeward:
        status["cut_epoch"] = epoch
    return go(
        stage,
        OperationPhase.PROMOTING,
        f"The {stage.reaches.value.lower()} becomes the live side, of epoch {epoch}.{_doubts(stage)}",
        status=status,
        also={
            "group": group,
            "whole_on": (Side.SOURCE, Side.TARGET) if operation.homeward else (),
            "synced_through": contact.synced_through or operation.synced_through,
            "last_contact": contact.last_heard or operation.last_contact,
            "lag_seconds": 0 if planned else contact.lag_seconds,
            "rpo_seconds": 0 if planned else contact.lag_seconds,
        },
    )


def _common(stage: Stage) -> int | None:
    """The point that all copies are brought to; planned, they were proven equal instead. Stored with the phase: once
    the first volume is handed over its agent says nothing of points any more."""
    if stage.operation.mode is Mode.PLANNED:
        return None
    return common_group(stage.views, [heard_report(v, Role.TARGET) for v in stage.views])


def promoting(stage: Stage) -> Move:
    """Until every target volume bears the new epoch and is let go of. After that there is no way back."""
    if (lost := _copy_lost(stage)) is not None:
        return back(stage, Reason.NOT_MIRRORED, lost)
    waiting = [v.name for v in stage.views if not reports(stage, v, AgentPhase.PROMOTED)]
    if waiting:
        if (refused := _refused(stage)) is not None:
            return back(stage, *refused)
        text = f"Volume {', '.join(waiting)} is handed over: the epoch is written on it.{_in_the_way(stage)}"
        return stay(stage, Reason.PROMOTING, text)
    text = f"The volumes are handed over; the {stage.called} starts, the Services turn. From here on only forward."
    return go(stage, OperationPhase.SWITCHING, text, status={"closed_sides": (stage.leaves,)})


def rolling_back(stage: Stage) -> Move:
    """Until the workloads of the side that was left have their pods back."""
    actions: list[Action] = []
    for stored in stage.operation.replicas:
        found = stage.observed.workloads.get((stored.kind, stored.name))
        if not isinstance(found, WorkloadObject):
            continue
        if found.spec.replicas == 0 and stored.replicas:
            actions.append(_scale(stage, stored.kind, found, stored.replicas, "it is rolled back"))
        elif stored.replicas and (mark := nudge_mark(stage, found)) is not None:
            actions.append(NudgeWorkload(found.metadata.namespace, stored.kind, stored.name, mark))
    if any(isinstance(a, ScaleWorkload) for a in actions) or (actions and stage.waited < RETURN_SECONDS):
        return stay(stage, _why(stage), stage.operation.message, actions=tuple(actions))
    why = next((s.message for s in reversed(stage.operation.timeline) if s.phase is OperationPhase.ROLLING_BACK), "")
    whole = " and holds everything" if stage.operation.homeward else ""
    text = f"{why} The {_side(stage)} is the live side as before{whole}.".strip()
    return end(stage, OperationPhase.ROLLED_BACK, _why(stage), text)


def _why(stage: Stage) -> Reason:
    try:
        return Reason(stage.operation.reason)
    except ValueError:
        return Reason.ROLLED_BACK


def _proofs(stage: Stage) -> tuple[WriterProof, ...]:
    """All that are in, those of this pass too. A better one takes the place of a weaker one."""
    observed = stage.observed
    found = {p.uid: p for p in stage.operation.proofs}
    sufficient = observed.pair.spec.failover.sufficient_proof
    known = {w.uid: w for w in (*observed.pair.status.writers, *stage.writers)}
    for writer in known.values():
        if writer.side is not stage.leaves or (writer.uid in found and found[writer.uid].grade is Grade.PROVEN):
            continue
        proof = proof_of(writer, observed, sufficient, stage.accepted, stage.now)
        if proof is not None and (writer.uid not in found or proof.grade is Grade.PROVEN):
            found[writer.uid] = proof
    return tuple(found[uid] for uid in sorted(found))[:256]


def _unproven(stage: Stage, proofs: tuple[WriterProof, ...]) -> str:
    """Whose end is not proven; empty where everybody's is."""
    done = {p.uid for p in proofs}
    left = [w for w in stage.writers if w.side is stage.leaves and w.uid not in done]
    if not left:
        return ""
    names = ", ".join(f"{w.name}{f' on node {w.node}' if w.node else ''}" for w in left[:5])
    more = f" and {len(left) - 5} more" if len(left) > 5 else ""
    return f"Not proven to have ended: pod {names}{more}."


def obstacle_to_proof(stage: Stage) -> str | None:
    """Why the end of some writer cannot even be expected; None where it is a matter of waiting."""
    found = proof_can_be_had(stage.asked)
    return found.message if found is not None else None


def _stop(stage: Stage) -> tuple[str | None, tuple[Action, ...]]:
    """When the workloads of the side that is left were first seen at zero, and what brings them there."""
    before = stage.operation.stopped_at
    actions: list[Action] = []
    blind = False
    for workload in stage.workloads(stage.leaves):
        found = stage.observed.workloads.get((workload.kind, workload.name))
        blind = blind or isinstance(found, Unseen)
        if isinstance(found, WorkloadObject) and found.spec.replicas:
            actions.append(_scale(stage, workload.kind, found, 0, "its side is being fenced"))
    if before is None and not actions and not blind:
        before = written(stage.now)
    return before, tuple(actions)


def _scale(stage: Stage, kind: WorkloadKind, found: WorkloadObject, replicas: int, why: str) -> ScaleWorkload:
    meta = found.metadata
    return ScaleWorkload(stage.observed.pair.metadata.namespace, kind, meta.name, replicas, meta.resource_version, why)


def _end_writers(stage: Stage) -> tuple[EndWriter, ...]:
    """Unplanned: whoever else mounts the source is ended too: on a node that comes back its pod would start again.
    Planned: a person's pod is a person's to end, unless it only lies about (its kubelet refused it, say); those of the
    side's workloads go with their workload, which somebody may be scaling up again against us."""
    planned = stage.operation.mode is Mode.PLANNED
    stopped = stage.operation.stopped_at is not None and stage.operation.gate_confirmed is not None
    claims = {v.claim_name(Role.SOURCE) for v in stage.views}
    pods = stage.observed.pods if isinstance(stage.observed.pods, tuple) else ()
    return tuple(
        EndWriter(p.metadata.namespace, p.metadata.name, p.metadata.uid)
        for p in pods
        if p.claims & claims
        and not is_agent(p)
        and not p.leaving
        and not has_ended(p)
        and (p.over or not planned or (stopped and _of_a_workload(stage, p)))
        # Its finalizer first: its end must stay readable.
        and labels.END_PROOF in p.metadata.finalizers
    )


def _of_a_workload(stage: Stage, pod: Pod) -> bool:
    """Whether a workload of the side that is left selects the pod."""
    found = [stage.observed.workloads.get((w.kind, w.name)) for w in stage.workloads(stage.leaves)]
    return any(isinstance(w, WorkloadObject) and w.owns_by_labels(pod) for w in found)


def _gate(stage: Stage) -> tuple[str | None, str | None]:
    """Since when the gate was seen in force, and why it is not; both sides, in this very pass."""
    before = stage.operation.gate_confirmed
    for side in Side:
        seen = stage.observed.gate.get(side)
        if isinstance(seen, GateSeen) and seen.refused:
            continue
        if stage.accepted:
            return before or exact(stage.now), None
        said = seen.message if isinstance(seen, GateSeen) else seen.why if isinstance(seen, Unseen) else "not tried yet"
        return None, f"The admission gate does not refuse pods of the {side.value.lower()} side: {said}"
    return before or exact(stage.now), None


def _settled(stage: Stage, confirmed: str | None) -> bool:
    """Whether the refusal that counts was stored by an earlier pass, long enough ago."""
    since = read(stage.operation.gate_confirmed)
    if since is None or confirmed is None:
        return False
    return (stage.now - since).total_seconds() >= GATE_SETTLES


def reports(stage: Stage, view: View, phase: AgentPhase) -> bool:
    """Whether the agent that writes says that it is so far, under the pair's present epoch."""
    report = heard_report(view, Role.TARGET)
    return report is not None and report.phase is phase and report.epoch == stage.observed.pair.status.epoch


def _in_the_way(stage: Stage) -> str:
    """What agents say that keeps them from handing their volumes over."""
    reports = [(v, heard_report(v, Role.TARGET)) for v in stage.views]
    return "".join(
        f" Volume {view.name}: {report.problem.message}."
        for view, report in reports
        if report is not None and report.problem is not None and report.phase is AgentPhase.FAILED
    )


def _doubts(stage: Stage) -> str:
    """What the target agents say against their own copies, for whoever reads the timeline."""
    group = _common(stage)
    found = f" All volumes are brought to point {group} of their group." if group is not None else ""
    for view in stage.views:
        report = heard_report(view, Role.TARGET)
        if report is not None and report.problem is not None:
            found += f" Volume {view.volume.name}: {report.problem.message}."
        none = why_no_point(view, report, drained=True, group=group)
        if none is not None and stage.operation.mode is Mode.UNPLANNED:
            found += f" Accepted (acceptLoss.noPoint): {none.message}"
    differ = points_differ(stage.views, [heard_report(v, Role.TARGET) for v in stage.views], drained=True)
    if differ and stage.operation.mode is Mode.UNPLANNED and not stage.operation.homeward:
        found += f" Accepted (acceptLoss.noPoint): {differ}"
    return found


def _refused(stage: Stage) -> tuple[Reason, str] | None:
    """Restore: the agent of a volume that is not, or may not be, what the live side holds will not let it take its
    place, however long it is waited for. The application would stand still until the deadline."""
    if not stage.operation.homeward:
        return None
    for view in stage.views:
        report = heard_report(view, Role.TARGET)
        if report is None or report.problem is None or report.epoch != stage.observed.pair.status.epoch:
            continue
        for reason in (Reason.TARGET_IN_DOUBT, Reason.TARGET_NOT_MIRRORED):
            if report.problem.reason == reason:
                return reason, f"Volume {view.name}: {report.problem.message}. The application does not move there."
    return None


def _copy_lost(stage: Stage) -> str | None:
    """The target claim was made anew meanwhile: what is in it now is no copy."""
    gone = [j.view.volume.name for j in stage.judged if not j.whole]
    return f"The copy of volume {', '.join(gone)} is not there any more." if gone else None
