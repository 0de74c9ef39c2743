"""From where an agent belongs to what must be done about its pod, its order and its other objects.

How a number is given out: admission is asked first (a dry run, which writes nothing), then the order is stored with
the raised number by compare-and-swap, then the pod of that number is made. Stopped between any two of these, the next
pass sees an order without its pod and raises the number again; so no number is ever worn by two pods, and an agent
that was forgotten on a node that is cut off finds itself outdated wherever it looks.
"""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror.api.agents import Privilege
from storagemirror.api.durations import seconds
from storagemirror.contract import (
    FIRST_EPOCH,
    HEARTBEAT_SECONDS,
    BeatOrder,
    Order,
    Peer,
    ReplicationOrder,
    Role,
    TransferOrder,
)
from storagemirror.plan.children import missing_children
from storagemirror.plan.course import (
    action_of,
    elsewhere_action,
    elsewhere_prove,
    fenced,
    prove_of,
    proven_of,
    restore_of,
    settle_of,
)
from storagemirror.plan.decisions import (
    Action,
    CreateClaim,
    CreatePod,
    DeletePod,
    Effect,
    ProbePod,
    Verdict,
    WriteOrder,
)
from storagemirror.plan.grouping import group_order
from storagemirror.plan.mirroring import mirror_order
from storagemirror.plan.objects import Node, Pod
from storagemirror.plan.observed import BrokenOrder, OrderSeen, RefusalOf, Unseen
from storagemirror.plan.replication import replication_order
from storagemirror.plan.runs import mode_of, run_of
from storagemirror.plan.times import seconds_since
from storagemirror.plan.transfer import transfer_order
from storagemirror.plan.verifying import verify_of
from storagemirror.plan.view import View, instance_of, node_of
from storagemirror.plan.where import (
    UNSCHEDULABLE_CALLS,
    UNSCHEDULABLE_PATIENCE,
    Leave,
    Run,
    Where,
    idle_since,
    known_traits,
    nowhere_else,
    unschedulable_for,
)
from storagemirror.resources import labels
from storagemirror.resources.claim import target_claim
from storagemirror.resources.order import Kept
from storagemirror.resources.placement import Apart
from storagemirror.resources.pod import PodInput, agent_pod, settings_digest, writer_digest

SILENT_SECONDS = 3.0 * HEARTBEAT_SECONDS
"""Silent for so long: the agent is not heard."""
DEAF_SECONDS = 60.0
"""Silent for so long on a node that is Ready: the process hangs, and its pod is made anew."""
LEAVING_PATIENCE = 60.0
"""Seconds that a pod may take to go."""
RESTART_SECONDS = 10.0
"""A pod that ended is made anew no sooner than this after it was made: its node may refuse the next one just so."""


@dataclass(frozen=True)
class Steps:
    """What to do about one agent, in order, and when to look again by itself (seconds)."""

    actions: tuple[Action, ...] = ()
    again: float | None = None


def agent_steps(view: View, which: Role, place: Where, verdict: Verdict | None) -> Steps:
    """Everything about one agent."""
    if verdict is not None and verdict.effect is Effect.KEEP:
        return Steps()
    gone = _remove_outdated(view, which)
    pod = view.current_pod(which)
    if isinstance(place, Leave) or (verdict is not None and verdict.effect is Effect.STOP):
        why = place.why if isinstance(place, Leave) else (verdict.message if verdict is not None else "")
        return Steps((*gone, *_delete(view, which, pod, why), *_standing_order(view, which)))
    children = missing_children(view, which) if pod is not None or _wanted(view, place, verdict) else ()
    if pod is None:
        if not isinstance(place, Run) or not _wanted(view, place, verdict):
            return Steps((*gone, *_standing_order(view, which)), again=getattr(place, "again", None))
        return Steps((*gone, *children, *_new_pod(view, which, place)), again=_after_refusal(view, which))
    why_not = replaced_because(view, which, pod, place)
    if why_not is None:
        return Steps((*gone, *children, *_standing_order(view, which)), again=_look_again(view, which, pod))
    removed = _delete(view, which, pod, why_not)
    if which is Role.TARGET or not isinstance(place, Run) or not _wanted(view, place, verdict):
        # Two agents must not write one volume: the next one is made when the object of this one is gone.
        again = _leaving_again(view, pod)
        return Steps((*gone, *children, *removed, *_standing_order(view, which)), again=again)
    return Steps((*gone, *children, *removed, *_new_pod(view, which, place)), again=_after_refusal(view, which))


def claim_steps(view: View) -> tuple[Action, ...]:
    """Make the target claim from its template where it does not exist."""
    template = None if view.turned else view.volume.target.claim_template
    if view.target_claim is not None or template is None:
        return ()
    ref = view.ref(Role.TARGET)
    return (CreateClaim(ref, target_claim(ref, view.claim_name(Role.TARGET), template)),)


def replaced_because(view: View, which: Role, pod: Pod, place: Where) -> str | None:
    """Why the pod that the order means must be another one; None where it is right."""
    if pod.leaving:
        return "it is being deleted"
    if pod.over:
        rested = _age(view, pod) >= RESTART_SECONDS
        return f"it has ended: {pod.status.reason or pod.status.phase}" if rested else None
    notes, spec = pod.metadata.annotations, view.observed.pair.spec
    if notes.get(labels.SETTINGS) != _settings(view, which, guarded(view, which, pod)):
        return "its settings have changed"
    if isinstance(place, Run):
        if place.writer_known and notes.get(labels.WRITER) != writer_digest(spec.agents, place.writer):
            return "the application's user has changed"
        if place.placement.node is not None and node_of(pod) != place.placement.node:
            return f"the application runs on {place.placement.node}"
        # The scheduler binds the claim a moment before it gives the pod its node: that alone is no refusal.
        strict = notes.get(labels.APART) == Apart.REQUIRED and not pod.spec.node_name
        if strict and place.placement.apart is Apart.PREFERRED and nowhere_else(view):
            return "no node but the source's will do"
    if view.claims_changed(which):
        return "a claim of its volume was made anew"
    if _deaf(view, which, pod):
        return "it has not been heard although its node is Ready"
    return None


def guarded(view: View, which: Role, pod: Pod | None) -> bool:
    """Whether guards belong beside the agent. While nobody can say whether the namespace allows them, it stays as it is
    in its present pod."""
    if which is not Role.SOURCE or view.observed.pair.spec.agents.privilege is not Privilege.FREEZE:
        return False
    consent = view.observed.consent
    if isinstance(consent, Unseen):
        return pod is not None and pod.metadata.annotations.get(labels.SETTINGS) == _settings(view, which, True)
    return consent


def _settings(view: View, which: Role, with_guards: bool) -> str:
    agents = view.observed.pair.spec.agents
    return settings_digest(view.claim_name(which), view.observed.image, agents, with_guards)


def _deaf(view: View, which: Role, pod: Pod) -> bool:
    heard = view.heard(which)
    node = view.observed.nodes.get(pod.spec.node_name)
    age = started_ago(view, pod)
    if heard is None or not isinstance(node, Node) or not node.ready or age is None or age < DEAF_SECONDS:
        return False
    # A node that has just come back brings its agents with it: they are given the time to be heard.
    back = seconds_since(node.ready_since, view.now)
    return heard.silent_for >= DEAF_SECONDS and (back is None or back >= DEAF_SECONDS)


def started_ago(view: View, pod: Pod) -> float | None:
    """Seconds since the agent's container was last started; None while it does not run."""
    running = [s.state.running for s in pod.status.container_statuses if s.name == "agent" and s.state.running]
    return seconds_since(running[0].started_at, view.now) if running else None


def _wanted(view: View, place: Where, verdict: Verdict | None) -> bool:
    """Whether a pod that is missing is to be made now."""
    pair = view.observed.pair
    paused = pair.spec.paused and (bool(view.elsewhere) or not fenced(pair.status))
    return verdict is None and isinstance(place, Run) and not paused


def _remove_outdated(view: View, which: Role) -> tuple[Action, ...]:
    """Pods whose number is not the order's."""
    name = view.ref(which).pod_name(view.instance(which))
    return tuple(
        action
        for pod in view.agent_pods(which)
        if pod.metadata.name != name
        for action in _delete(view, which, pod, f"its number {instance_of(pod)} is outdated")
    )


def _delete(view: View, which: Role, pod: Pod | None, why: str) -> tuple[Action, ...]:
    if pod is None or pod.leaving:
        return ()
    return (DeletePod(view.ref(which), pod.metadata.name, pod.metadata.uid, why),)


def _new_pod(view: View, which: Role, place: Run) -> tuple[Action, ...]:
    others = [p for p in view.agent_pods(which) if which is Role.TARGET]
    refused = view.observed.refusal(view.volume.name, which)
    if others or refused is not None:
        return ()
    ref, instance = view.ref(which), view.instance(which) + 1
    given = PodInput(
        ref=ref,
        instance=instance,
        claim=view.claim_name(which),
        image=view.observed.image,
        agents=view.observed.pair.spec.agents,
        writer=place.writer,
        placement=place.placement,
        guarded=guarded(view, which, view.current_pod(which)),
    )
    manifest = agent_pod(given)
    return (ProbePod(ref, manifest), _order(view, which, instance), CreatePod(ref, manifest))


def _standing_order(view: View, which: Role) -> tuple[Action, ...]:
    """The order of the number that is meant now, where it is not written so already."""
    seen = view.agent(which).order
    if seen is None and view.current_pod(which) is None:
        return ()
    # A spoiled order is written again with a number that nothing has worn; so is one of claims that are gone.
    outdated = isinstance(seen, BrokenOrder) or view.claims_changed(which)
    instance = view.instance(which) + (1 if outdated else 0)
    wanted = _order(view, which, instance)
    if isinstance(seen, OrderSeen) and seen.order == wanted.order and seen.kept == wanted.kept:
        return ()
    return (wanted,)


def _order(view: View, which: Role, instance: int) -> WriteOrder:
    """The order as it should read; its revision is one more than the last where anything else differs."""
    pair, seen = view.observed.pair, view.agent(which).order
    spec = pair.spec
    last = seen.order if isinstance(seen, OrderSeen) else None
    wanted = Order(
        pair_uid=pair.metadata.uid,
        pair_name=pair.metadata.name,
        namespace=pair.metadata.namespace,
        volume=view.volume.name,
        role=which,
        revision=last.revision if last is not None else _revision(view, which),
        instance=instance,
        epoch=pair.status.epoch or FIRST_EPOCH,
        action=elsewhere_action(pair, which) if view.elsewhere else action_of(pair, which),
        peer=_peer(view) if which is Role.SOURCE else None,
        beat=BeatOrder(interval_seconds=seconds(spec.monitoring.interval), missed=spec.monitoring.missed),
        prove=elsewhere_prove(pair, which) if view.elsewhere else prove_of(pair, which),
        restore=None if view.elsewhere else restore_of(pair, which),
        verify=None if view.elsewhere else verify_of(pair, which, view.before.verify, view.now),
        mirror=mirror_order(view),
        transfer=transfer_order(spec.transfer, len(spec.volumes)) if which is Role.SOURCE else TransferOrder(),
        replication=_replication(view, which),
        group=group_order(view, which),
        proven=not view.elsewhere and proven_of(pair, which),
        settle=None if view.elsewhere else settle_of(pair, which),
    )
    if last is not None and last != wanted:
        wanted = _raised(wanted)
    version = seen.resource_version if isinstance(seen, OrderSeen | BrokenOrder) else None
    return WriteOrder(view.ref(which), wanted, version, _kept(view, which, instance))


def _replication(view: View, which: Role) -> ReplicationOrder:
    """Points are made on the way to the target alone: a restore is about what the live side is in the end."""
    if which is not Role.SOURCE or view.turned or view.elsewhere:
        return ReplicationOrder()
    return replication_order(view.observed.pair.spec.replication, mode_of(view), run_of(view))


def _kept(view: View, which: Role, instance: int) -> Kept:
    before = view.kept(which)
    return Kept(
        idle_since=idle_since(view) if which is Role.SOURCE else None,
        traits=known_traits(view),
        nowhere_else=which is Role.TARGET and not view.claims_changed(which) and nowhere_else(view),
        claims=view.claims_mark or before.claims,
        fresh_from=instance if view.claims_changed(which) else before.fresh_from,
    )


def _revision(view: View, which: Role) -> int:
    """Of a first order; where an order was lost, one more than what the agent has taken up."""
    report = view.last_report(which)
    return report.revision + 1 if report is not None else 1


def _raised(order: Order) -> Order:
    fields = {name: getattr(order, name) for name in order.__struct_fields__}
    return Order(**(fields | {"revision": order.revision + 1}))


def _peer(view: View) -> Peer | None:
    pod = view.current_pod(Role.TARGET)
    if pod is None or pod.leaving or not pod.status.pod_ip:
        return None
    return Peer(address=pod.status.pod_ip)


def _after_refusal(view: View, which: Role) -> float | None:
    refused = view.observed.refusal(view.volume.name, which)
    return REFUSED_AGAIN if refused is not None and refused.what is not RefusalOf.CLAIM else None


REFUSED_AGAIN = 10.0
"""Seconds until admission is asked again: whoever raised a quota waits no longer than this."""


def _look_again(view: View, which: Role, pod: Pod) -> float | None:
    """When the passing of time alone changes what is to be done or said."""
    if pod.over:
        return max(1.0, RESTART_SECONDS - _age(view, pod))
    waited = unschedulable_for(view, pod)
    if waited is None:
        return None
    limits = (UNSCHEDULABLE_PATIENCE if which is Role.TARGET else UNSCHEDULABLE_CALLS, UNSCHEDULABLE_CALLS)
    return min((max(1.0, limit - waited) for limit in limits if limit > waited), default=None)


def _leaving_again(view: View, pod: Pod) -> float:
    """A pod on a node that is dead may be leaving for hours."""
    since = seconds_since(pod.metadata.deletion_timestamp, view.now) or 0.0
    return 2.0 if since < LEAVING_PATIENCE else LEAVING_PATIENCE / 4


def _age(view: View, pod: Pod) -> float:
    return seconds_since(pod.metadata.creation_timestamp, view.now) or 0.0
