"""Where agents belong: the source's beside a writer that stays, the target's away from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from storagemirror.api.agents import Privilege
from storagemirror.contract import Action, Phase, Role
from storagemirror.plan.course import elsewhere_action, source_leaves, source_stays
from storagemirror.plan.grouping import others_are_written
from storagemirror.plan.objects import Claim, Container, Pod, SecurityContext
from storagemirror.plan.observed import OrderSeen
from storagemirror.plan.runs import run_of
from storagemirror.plan.times import read, seconds_since, written
from storagemirror.plan.verifying import verify_of
from storagemirror.plan.view import View, node_of
from storagemirror.resources import labels
from storagemirror.resources.placement import ANYWHERE, NO_WRITER, Apart, Placement, WriterTraits

LIVE_ELSEWHERE = "the target is the live side"
COPIED = "nothing is copied there now"
IDLE_LINGER = 60.0
"""Seconds that a source agent stays after the last writer has gone: a restart of the application is shorter."""
SKEW = 5.0
"""Seconds by which two nodes' clocks may differ before "everything up to then is copied" could be wrong."""
SCHEDULING_PATIENCE = 60.0
"""Seconds for which a writer without a node is left the choice of one."""
UNSCHEDULABLE_PATIENCE = 15.0
"""Seconds after which a target agent that finds no other node may go to the source's."""
UNSCHEDULABLE_CALLS = 120.0
"""Seconds after which an agent that finds no node calls somebody: a drain or a restart of a node is shorter."""


@dataclass(frozen=True)
class Run:
    """The agent belongs to `placement`."""

    placement: Placement
    writer: WriterTraits = NO_WRITER
    writer_known: bool = False


@dataclass(frozen=True)
class Leave:
    """The agent does not belong anywhere now."""

    why: str


@dataclass(frozen=True)
class Hesitate:
    """No new agent yet; one that is there stays."""

    why: str
    again: float | None = None
    """Seconds until it is worth another look."""


Where = Run | Leave | Hesitate


def source_place(view: View) -> Where:
    """A writer that stays draws the agent to its node. With none, it runs only while there is something to mirror.

    The agent's own node wins as long as any staying writer is there. A writer that has no node yet is left the choice
    for a while. With no writer at all, the agent lingers until a minute has passed and its copy is whole up to a time
    when nobody wrote any more; its last report stays readable, so it does not come back before a writer does, or a
    verification or a run is due. Where points of several volumes are of one moment, it stays while any is written.
    """
    status = view.observed.pair.status
    if view.resting:
        return Leave(LIVE_ELSEWHERE)
    if view.elsewhere:
        if elsewhere_action(view.observed.pair, Role.SOURCE) is Action.STOP:
            return Leave(COPIED)
    elif source_leaves(status):
        return Leave("the copy is being taken")
    drawing, pod = view.drawing, view.current_pod(Role.SOURCE)
    traits = known_traits(view) or NO_WRITER
    stays = bool(view.elsewhere) or source_stays(status)
    if stays and pod is not None and not pod.leaving and node_of(pod):
        return Run(Placement(node=node_of(pod)), traits)
    if drawing:
        nodes = [p.spec.node_name for p in drawing]
        here = node_of(pod) if pod is not None and not pod.leaving else ""
        return Run(Placement(node=here if here in nodes else nodes[0]), traits, writer_known=True)
    coming = [p for p in view.writers if not p.leaving]
    if coming and pod is None:
        age = seconds_since(coming[-1].metadata.creation_timestamp, view.now)
        if age is not None and age < SCHEDULING_PATIENCE:
            return Hesitate("a pod that uses the source is waiting for its node", SCHEDULING_PATIENCE - age)
    due = not view.elsewhere and verify_of(view.observed.pair, Role.SOURCE, view.before.verify, view.now) is not None
    due = due or run_of(view) is not None
    if nothing_to_mirror(view) and not stays and not due and not others_are_written(view):
        return Leave("no pod uses the source, and its copy is whole")
    return Run(ANYWHERE, traits)


def idle_since(view: View) -> str | None:
    """Since when no writer stays; kept beside the source's order. None while one does."""
    if view.staying:
        return None
    kept = view.kept(Role.SOURCE).idle_since
    return kept if _known_idle_since(view) is not None else written(view.now)


def _known_idle_since(view: View) -> datetime | None:
    """Since when nobody has been using the source, as far as somebody looked: a writer may have come and gone while no
    operator ran, or while the volume was out of the pair."""
    since = read(view.kept(Role.SOURCE).idle_since)
    if since is None or not view.known or since < view.observed.attentive_since:
        return None
    return since


def nothing_to_mirror(view: View) -> bool:
    """Whether everything that the last writer can have written is on the target."""
    since = _known_idle_since(view)
    report = view.report(Role.SOURCE)
    if since is None or report is None or view.writers:
        return False
    through = read(report.synced_through)
    whole = report.mirrored_at is not None and report.problem is None
    settled = report.phase in (Phase.REPLICATING, Phase.IDLE, Phase.STOPPED)
    lingered = view.now >= since + timedelta(seconds=IDLE_LINGER)
    return whole and settled and lingered and through is not None and through >= since + timedelta(seconds=SKEW)


def target_place(view: View, source: Where) -> Where:
    """Away from the source's node: for sure while the volume is not bound, if it can be helped afterwards."""
    if view.resting:
        return Leave(LIVE_ELSEWHERE)
    if view.elsewhere and elsewhere_action(view.observed.pair, Role.TARGET) is Action.STOP:
        return Leave(COPIED)
    away = source_node(view, source)
    claim = view.target_claim
    bound = isinstance(claim, Claim) and claim.bound
    traits = known_traits(view) or NO_WRITER
    known = bool(view.staying)
    if away is None:
        if not bound and isinstance(source, Run | Hesitate):
            return Hesitate("the source's node is not known yet, and the target must not be bound there")
        return Run(ANYWHERE, traits, known)
    strict = not bound and not nowhere_else(view)
    return Run(Placement(avoid=away, apart=Apart.REQUIRED if strict else Apart.PREFERRED), traits, known)


def source_node(view: View, source: Where) -> str | None:
    """Where the source is read, or will be."""
    if isinstance(source, Run) and source.placement.node is not None:
        return source.placement.node
    pod = view.current_pod(Role.SOURCE)
    return (node_of(pod) or None) if pod is not None else None


def nowhere_else(view: View) -> bool:
    """Whether the scheduler has said for a while that no node but the source's will do. Kept beside the order: the
    next pod must know it, when the one that found it out is gone."""
    seen = view.agent(Role.TARGET).order
    if isinstance(seen, OrderSeen) and seen.kept.nowhere_else:
        return True
    pod = view.current_pod(Role.TARGET)
    if pod is None or pod.metadata.annotations.get(labels.APART) != Apart.REQUIRED:
        return False
    waited = unschedulable_for(view, pod)
    return waited is not None and waited >= UNSCHEDULABLE_PATIENCE


def unschedulable_for(view: View, pod: Pod) -> float | None:
    """Seconds since the scheduler first said that no node will do; None when it did not."""
    if pod.spec.node_name:
        return None
    said = [c for c in pod.status.conditions if c.type == "PodScheduled" and c.status == "False"]
    if not said or said[0].reason != "Unschedulable":
        return None
    return seconds_since(said[0].last_transition_time, view.now)


def known_traits(view: View) -> WriterTraits | None:
    """Of the writer that is there; with none, of the last one that was seen; None when none ever was."""
    if view.drawing:
        return traits_of(view, view.drawing[0])
    orders = [view.agent(role).order for role in Role]
    return next((o.kept.traits for o in orders if isinstance(o, OrderSeen) and o.kept.traits is not None), None)


def traits_of(view: View, writer: Pod) -> WriterTraits:
    """What an agent takes over from `writer`."""
    context = writer.spec.security_context or SecurityContext()
    own = _writing_container(writer, view.claim_name(Role.SOURCE)).security_context or SecurityContext()
    groups = [*context.supplemental_groups, *([context.fs_group] if context.fs_group is not None else [])]
    user = own.run_as_user if own.run_as_user is not None else context.run_as_user
    group = own.run_as_group if own.run_as_group is not None else context.run_as_group
    restricted = view.observed.pair.spec.agents.privilege is Privilege.RESTRICTED
    return WriterTraits(
        run_as_user=user if restricted else None,
        run_as_group=group if restricted else None,
        groups=tuple(sorted(set(groups))) if restricted else (),
        se_linux=tuple(sorted((own.se_linux_options or context.se_linux_options or {}).items())),
        tolerations=tuple(tuple(sorted(t.items())) for t in writer.spec.tolerations),
        priority_class=writer.spec.priority_class_name,
    )


def _writing_container(writer: Pod, claim: str) -> Container:
    """The container that mounts the claim (for writing, where there is a choice)."""
    volumes = {
        v.name
        for v in writer.spec.volumes
        if v.persistent_volume_claim is not None and v.persistent_volume_claim.claim_name == claim
    }
    mounting = [
        (m.read_only, i) for i, c in enumerate(writer.spec.containers) for m in c.volume_mounts if m.name in volumes
    ]
    return writer.spec.containers[min(mounting)[1]] if mounting else Container()
