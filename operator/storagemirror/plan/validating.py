"""May this failover be done? Asked before anything is touched; the list `RULES` is the specification.

Each rule is `(Asked) -> Obstacle | None`; the first that speaks is heard. An obstacle may pass: the failover waits, and
nothing is closed, stopped or promoted meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from storagemirror.api.durations import seconds
from storagemirror.api.failover import AcceptLoss
from storagemirror.api.operation import Mode
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Side, WorkloadKind
from storagemirror.api.status import Phase, Writer
from storagemirror.contract import Consistency, Role
from storagemirror.contract import Phase as AgentPhase
from storagemirror.plan.contact import connected, contact_of, worst_contact
from storagemirror.plan.decisions import Effect
from storagemirror.plan.grouping import common_group, points_differ
from storagemirror.plan.living import workloads_of
from storagemirror.plan.objects import PodSpec, WorkloadObject
from storagemirror.plan.observed import Observed
from storagemirror.plan.pointed import why_no_point
from storagemirror.plan.view import View
from storagemirror.plan.volumes import Judged, heard_report
from storagemirror.plan.writers import attainable


@dataclass(frozen=True)
class Obstacle:
    """Why it is not begun (yet)."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Asked:
    """A failover, and what it meets."""

    observed: Observed
    judged: Sequence[Judged]
    writers: tuple[Writer, ...]
    """As this pass sees them."""
    known_since: str | None
    mode: Mode
    accept_loss: AcceptLoss
    accept_split_brain: bool
    now: datetime
    leaves: Side = Side.SOURCE
    """The side whose writers must have ended."""

    @property
    def views(self) -> list[View]:
        return [j.view for j in self.judged]


Rule = Callable[[Asked], Obstacle | None]


def obstacle(asked: Asked) -> Obstacle | None:
    """What stands in the way; None where nothing does."""
    return next((found for rule in RULES if (found := rule(asked)) is not None), None)


def not_paused(asked: Asked) -> Obstacle | None:
    if not asked.observed.pair.spec.paused or asked.mode is Mode.UNPLANNED:
        return None
    return Obstacle(Reason.PAUSED, "The pair is paused: both sides cannot be proven equal.")


def workloads_exist(asked: Asked) -> Obstacle | None:
    sides = asked.observed.pair.spec.sides
    if sides is None:
        return Obstacle(Reason.NO_SIDES, "The pair does not say which workloads are on its sides.")
    for workload in sides.target.workloads:
        if asked.observed.workloads.get((workload.kind, workload.name)) is None:
            return Obstacle(Reason.WORKLOAD_MISSING, f"The standby {workload.kind} {workload.name} does not exist.")
    return None


def standby_mounts_the_copy(asked: Asked) -> Obstacle | None:
    """A standby that does not mount the copy would start on nothing."""
    missing = unmounted(asked.observed, Side.TARGET)
    if not missing:
        return None
    return Obstacle(Reason.STANDBY_MISMATCH, f"No standby workload's pods mount the target claim {missing}.")


def unmounted(observed: Observed, side: Side) -> str:
    """The claims of a side that none of its workloads mounts; empty where all are mounted, or it could not be seen."""
    volumes = observed.pair.spec.volumes
    wanted = {v.source.claim_name if side is Side.SOURCE else v.target.claim_name for v in volumes}
    mounted: set[str] = set()
    for workload in workloads_of(observed.pair, side):
        found = observed.workloads.get((workload.kind, workload.name))
        if not isinstance(found, WorkloadObject):
            return ""
        mounted |= _claims(found.spec.template.spec, workload.kind, found)
    return ", ".join(sorted(wanted - mounted)) if observed.pair.spec.sides is not None else ""


def _claims(spec: PodSpec, kind: WorkloadKind, found: WorkloadObject) -> set[str]:
    own = {v.persistent_volume_claim.claim_name for v in spec.volumes if v.persistent_volume_claim is not None}
    if kind is WorkloadKind.STATEFUL_SET:
        own |= {f"{t.metadata.name}-{found.metadata.name}-0" for t in found.spec.volume_claim_templates}
    return own


def claims_usable(asked: Asked) -> Obstacle | None:
    """What the rules of mirroring say against the claims stands against a failover too."""
    for judged in asked.judged:
        for verdict in judged.verdicts:
            if verdict.effect is Effect.STOP and isinstance(verdict.reason, Reason):
                return Obstacle(verdict.reason, verdict.message)
    return None


def copy_is_whole(asked: Asked) -> Obstacle | None:
    behind = [j.view.volume.name for j in asked.judged if not j.whole]
    if not behind:
        return None
    return Obstacle(Reason.NOT_MIRRORED, f"The first mirror of {', '.join(behind)} is not finished: no whole copy.")


def not_held(asked: Asked) -> Obstacle | None:
    """Planned: a hold says that the two sides differ by more than may be made equal."""
    held = [j.view.volume.name for j in asked.judged if j.view.before.hold is not None]
    if not held or asked.mode is Mode.UNPLANNED:
        return None
    return Obstacle(Reason.HELD, f"Volume {', '.join(held)} is held: see status.volumes[].hold of the pair.")


def target_is_heard(asked: Asked) -> Obstacle | None:
    silent = [v.volume.name for v in asked.views if heard_report(v, Role.TARGET) is None]
    if not silent:
        return None
    return Obstacle(Reason.TARGET_NOT_HEARD, f"The target agent of {', '.join(silent)} is not heard.")


def at_a_point(asked: Asked, *, drained: bool = False) -> Obstacle | None:
    """Copies that are to be one moment of the source are promoted as one, or not without a person's word. Planned: both
    sides are proven equal instead; but a proof reads what is in memory, and says nothing of a disk that failed."""
    if asked.accept_loss.no_point:
        return None
    targets = [heard_report(v, Role.TARGET) for v in asked.views]
    group = common_group(asked.views, targets)
    for view, target in zip(asked.views, targets, strict=True):
        found = why_no_point(view, target, drained=drained, group=group)
        if found is not None and (asked.mode is Mode.UNPLANNED or found.reason is Reason.SYNC_FAILED):
            return Obstacle(found.reason, found.message)
    if asked.mode is Mode.PLANNED:
        return None
    differ = points_differ(asked.views, targets, drained=drained)
    return Obstacle(Reason.POINTS_DIFFER, differ) if differ else None


def source_is_heard(asked: Asked) -> Obstacle | None:
    if asked.mode is Mode.UNPLANNED:
        return None
    for view in asked.views:
        report = heard_report(view, Role.SOURCE)
        if report is None or not connected(view) or report.phase is not AgentPhase.REPLICATING:
            name = view.volume.name
            return Obstacle(Reason.SOURCE_NOT_HEARD, f"The source agent of {name} is not heard, or does not replicate.")
    return None


def near_enough(asked: Asked) -> Obstacle | None:
    """What would be lost, as of the last contact. Unknown is not zero."""
    if asked.mode is Mode.PLANNED:
        return None
    contact = worst_contact([contact_of(v) for v in asked.views])
    accepted, limit = asked.accept_loss, seconds(asked.observed.pair.spec.failover.max_lag)
    if accepted.bytes is not None and (contact.lag_bytes is None or contact.lag_bytes > accepted.bytes):
        known = "not known how many" if contact.lag_bytes is None else str(contact.lag_bytes)
        text = f"Bytes of known changes that are not on the copy: {known}; the Failover accepts {accepted.bytes}."
        return Obstacle(Reason.REFUSED_LOSS, text)
    if limit == 0:
        return None
    if contact.lag_seconds is None:
        if accepted.unknown:
            return None
        return Obstacle(
            Reason.LAG_UNKNOWN, "It is not known how far the copy was behind when the source was last heard."
        )
    if contact.lag_seconds <= max(limit, float(accepted.seconds or 0)):
        return None
    behind, over = contact.lag_seconds, contact.lag_seconds - limit
    return Obstacle(
        Reason.TARGET_BEHIND,
        f"The copy was {behind} s behind when the source was last heard ({contact.last_heard or 'unknown when'}): "
        f"{over:g} s more than maxLag allows.{_from_point(asked)}",
    )


def _from_point(asked: Asked) -> str:
    by_points = asked.observed.pair.spec.replication.consistency is Consistency.POINT
    return " It counts from the copy's last point." if by_points else ""


def writers_are_known(asked: Asked) -> Obstacle | None:
    if asked.known_since is not None or asked.accept_split_brain:
        return None
    return Obstacle(
        Reason.WRITERS_UNKNOWN, "Not every node has been Ready since the pair was made: a pod may write unseen."
    )


def proof_can_be_had(asked: Asked) -> Obstacle | None:
    sufficient = asked.observed.pair.spec.failover.sufficient_proof
    for writer in asked.writers:
        if writer.side is not asked.leaves:
            continue
        why = attainable(writer, asked.observed, sufficient, asked.accept_split_brain)
        if why is not None:
            return Obstacle(
                Reason.NO_PROOF, f"No proof that nobody writes the {asked.leaves.value.lower()} any more: {why}."
            )
    return None


RULES: tuple[Rule, ...] = (
    workloads_exist,
    standby_mounts_the_copy,
    claims_usable,
    not_paused,
    copy_is_whole,
    not_held,
    target_is_heard,
    at_a_point,
    source_is_heard,
    near_enough,
    writers_are_known,
    proof_can_be_had,
)


def promotable(asked: Asked) -> Obstacle | None:
    """What of these rules speaks of the copy alone: shown as a condition all the time."""
    rules = (workloads_exist, standby_mounts_the_copy, copy_is_whole, target_is_heard, at_a_point)
    found = next((o for rule in rules if (o := rule(asked)) is not None), None)
    if found is None and any(j.view.before.phase is Phase.HELD for j in asked.judged):
        return Obstacle(Reason.HELD, "A volume is held: the copy is of the time before.")
    return found
