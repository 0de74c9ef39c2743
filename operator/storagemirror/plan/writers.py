"""Who may be writing, and what proves that a pod writes no more.

Absence proves nothing: an application wrote on behind a cut network while its pod's object was force-deleted, while
PodGC had written `phase: Failed`, while its Node object was deleted. So every pod that was ever seen mounting a claim
of the pair stays on a list, `status.writers`, until its end is proven.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from storagemirror.api.conditions import ConditionStatus
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.operation import FENCED, Grade, OperationPhase, WriterProof
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import ProofGrade, Side
from storagemirror.api.status import Writer
from storagemirror.plan import ending
from storagemirror.plan.decisions import HoldWriter, ReleaseWriter
from storagemirror.plan.missed import source_missed
from storagemirror.plan.objects import Node, Pod
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.plan.times import seconds_since, written
from storagemirror.plan.view import is_agent
from storagemirror.resources import labels

has_ended = ending.has_ended

END_PROOF = labels.END_PROOF
"""The finalizer of a writer while its side is fenced: it keeps the end readable, whoever deletes the pod."""

IN_TOUCH_SECONDS = 120.0
"""A kubelet in touch ends the pods that the API no longer has: seen up to 51 s after a cut network healed."""
MOST_WRITERS = 256
"""As many as status.writers holds."""

_DECIDING = FENCED | {OperationPhase.SWITCHING, OperationPhase.VERIFYING}
"""Open in one of these, an operation rests on proofs alone."""
_HOLDING = _DECIDING - {OperationPhase.ROLLING_BACK}
"""In these the end of a writer must stay readable."""


@dataclass(frozen=True)
class Fence:
    """What the condition Fenceable says."""

    status: ConditionStatus
    reason: Reason
    message: str


def mounting_side(observed: Observed, pod: Pod) -> Side | None:
    """The side whose claim the pod mounts; Source for one that mounts claims of both; None for agents and others."""
    if is_agent(pod):
        return None
    volumes = observed.pair.spec.volumes
    if any(pod.mounts(v.source.claim_name) for v in volumes):
        return Side.SOURCE
    return Side.TARGET if any(pod.mounts(v.target.claim_name) for v in volumes) else None


def tracked(observed: Observed, now: datetime) -> tuple[Writer, ...]:
    """status.writers as they are now: those of the pass before in their order, then new ones by name.

    A pod is taken off only on a proof of its end: its object was read as ended (now, or by a watch); or, while no
    operation decides over both sides, it and every doubt have been gone long enough on a node in touch. More than
    `MOST_WRITERS` do not fit, and those that stood there first stay: see `overflow`.
    """
    return _all(observed, now)[:MOST_WRITERS]


def overflow(observed: Observed, now: datetime) -> bool:
    """Whether there are more writers than the status holds."""
    return len(_all(observed, now)) > MOST_WRITERS


def _all(observed: Observed, now: datetime) -> tuple[Writer, ...]:
    before = observed.pair.status.writers
    if isinstance(observed.pods, Unseen):
        return before
    there = {p.metadata.uid: p for p in observed.pods}
    kept = [_seen(observed, w, there.get(w.uid), now) for w in before]
    known = {w.uid for w in before}
    fresh = [
        Writer(uid=p.metadata.uid, name=p.metadata.name, side=side, node=p.spec.node_name, since=written(now))
        for p in observed.pods
        if p.metadata.uid not in known and (side := mounting_side(observed, p)) is not None and not _over(observed, p)
    ]
    return (*(w for w in kept if w is not None), *sorted(fresh, key=lambda w: (w.name, w.uid)))


def _over(observed: Observed, pod: Pod) -> bool:
    return pod.metadata.uid in observed.ended or has_ended(pod)


def _seen(observed: Observed, writer: Writer, pod: Pod | None, now: datetime) -> Writer | None:
    """One writer of the pass before, as it is now; None once its end is proven."""
    if writer.uid in observed.ended:
        return None
    if pod is not None:
        if has_ended(pod):
            return None
        side = mounting_side(observed, pod) or writer.side
        return writer.model_copy(
            update={"node": pod.spec.node_name or writer.node, "side": side, "gone_since": None},
        )
    if writer.gone_since is None:
        return writer.model_copy(update={"gone_since": written(now)})
    return None if _ended_unseen(observed, writer, now) else writer


def _ended_unseen(observed: Observed, writer: Writer, now: datetime) -> bool:
    """Whether a pod that is gone from the API must have ended: its kubelet has been in touch since.

    One that had no node when it was last seen may have been bound before it went: then it is every node's word that
    counts. While an operation decides over both sides neither does; a node may be cut off again at any moment, and
    only what was read counts.
    """
    operation = observed.pair.status.operation
    if operation is not None and operation.phase in _DECIDING:
        return False
    gone = seconds_since(writer.gone_since, now)
    if gone is None or gone < IN_TOUCH_SECONDS:
        return False
    if writer.node:
        return _in_touch(observed.nodes.get(writer.node), now)
    nodes = observed.every_node
    return isinstance(nodes, tuple) and bool(nodes) and all(_in_touch(n, now) for n in nodes)


def _in_touch(node: Node | Unseen | None, now: datetime) -> bool:
    """Whether it is Ready and has been for long enough. One that is deleted or could not be read is not."""
    if not isinstance(node, Node) or not node.ready:
        return False
    since = seconds_since(node.ready_since, now)
    return since is not None and since >= IN_TOUCH_SECONDS


def known_since(observed: Observed, now: datetime) -> str | None:
    """Since when every writer is known; None while a node that is not Ready may run a pod from before this pair, or
    where there are more writers than fit: one that is not on the list could go unseen."""
    if overflow(observed, now):
        return None
    before = observed.pair.status.writers_known_since
    if before is not None:
        return before
    return written(now) if _all_nodes_ready(observed) else None


def _all_nodes_ready(observed: Observed) -> bool:
    nodes = observed.every_node
    return isinstance(nodes, tuple) and bool(nodes) and all(n.ready for n in nodes)


def fenceable(observed: Observed) -> Fence:
    """Whether every pod that may write is known, and the gate keeps others away."""
    status = observed.pair.status
    if _too_many(observed):
        message = f"More than {MOST_WRITERS} pods mount the claims of this pair; not all of them can be watched."
        return Fence(ConditionStatus.UNKNOWN, Reason.WRITERS_UNKNOWN, message)
    if status.writers_known_since is None and not _all_nodes_ready(observed):
        return Fence(ConditionStatus.UNKNOWN, Reason.WRITERS_UNKNOWN, _unknown(observed))
    if status.gate is not None and not status.gate.in_force:
        message = "The admission gate did not refuse a pod that mounts a closed side"
        said = f": {status.gate.message}" if status.gate.message else "."
        return Fence(ConditionStatus.FALSE, Reason.GATE_NOT_IN_FORCE, message + said)
    return Fence(ConditionStatus.TRUE, Reason.WRITERS_TRACKED, _told(observed))


def _too_many(observed: Observed) -> bool:
    listed = {w.uid for w in observed.pair.status.writers}
    more = {
        p.metadata.uid for p in _pods(observed) if mounting_side(observed, p) is not None and not _over(observed, p)
    }
    return len(listed | more) > MOST_WRITERS


def _unknown(observed: Observed) -> str:
    nodes = observed.every_node
    down = [n.metadata.name for n in nodes if not n.ready] if isinstance(nodes, tuple) else []
    which = f": {', '.join(sorted(down)[:8])} {'is' if len(down) == 1 else 'are'} not Ready" if down else ""
    return f"A node that is out of touch may still run a pod from before this pair{which}."


def _told(observed: Observed) -> str:
    live = observed.pair.status.active_side or Side.SOURCE
    writers = [w for w in observed.pair.status.writers if w.side is live]
    count = f"{len(writers)} pod{'' if len(writers) == 1 else 's'} may write the {live.value.lower()}"
    gone = [w for w in writers if w.gone_since is not None]
    if not gone:
        return f"{count}."
    names = ", ".join(f"{w.name} on {w.node or 'a node that is not known'}" for w in gone[:8])
    return f"{count}; gone from the API without having been seen to end: {names}{', ...' if len(gone) > 8 else ''}."


def proof_of(
    writer: Writer, observed: Observed, sufficient: Collection[ProofGrade], accepted: bool, now: datetime
) -> WriterProof | None:
    """Why the writer counts as ended; None where nothing says so. `accepted`: a person took the risk."""
    found = _evidence(writer, observed, sufficient, accepted)
    if found is None:
        return None
    grade, evidence = found
    return WriterProof(
        uid=writer.uid, name=writer.name, node=writer.node, grade=grade, evidence=evidence, at=written(now)
    )


def _evidence(
    writer: Writer, observed: Observed, sufficient: Collection[ProofGrade], accepted: bool
) -> tuple[Grade, str] | None:
    """The best there is."""
    pod = _pod_of(writer, observed)
    if pod is not None and has_ended(pod):
        return Grade.PROVEN, ending.last_words(pod)
    if writer.uid in observed.ended:
        how = (
            "its kubelet reported every container ended" if writer.node else "it was being deleted and never had a node"
        )
        return Grade.PROVEN, f"{how}, before its object went"
    off = _called_off(writer, observed)
    if off is not None and ProofGrade.ATTESTED in sufficient:
        return Grade.ATTESTED, off
    if accepted:
        return Grade.ACCEPTED, "a person took the risk that it still writes (acceptSplitBrain)"
    return None


def _called_off(writer: Writer, observed: Observed) -> str | None:
    """Who says that the writer's node is off. A taint on a node that is Ready while its agent is heard says nothing: it
    is on. (For a while after its power is cut a node is called Ready all the same: then its agent tells.)"""
    if not writer.node or writer.node not in observed.nodes:
        return None
    node = observed.nodes[writer.node]
    if node is None:
        return f"node {writer.node} was deleted"
    if isinstance(node, Node) and node.out_of_service and (not node.ready or source_missed(observed)):
        return f"node {writer.node} bears the taint out-of-service"
    return None


def _pods(observed: Observed) -> tuple[Pod, ...]:
    return () if isinstance(observed.pods, Unseen) else observed.pods


def _pod_of(writer: Writer, observed: Observed) -> Pod | None:
    return next((p for p in _pods(observed) if p.metadata.uid == writer.uid), None)


def attainable(writer: Writer, observed: Observed, sufficient: Collection[ProofGrade], accepted: bool) -> str | None:
    """Why no proof of the writer's end is to be expected, in one sentence; None where there is one or one will come."""
    if _evidence(writer, observed, sufficient, accepted) is not None:
        return None
    pod = _pod_of(writer, observed)
    where = f" on node {writer.node}" if writer.node else ""
    off = _called_off(writer, observed)
    if off is not None:
        return f"pod {writer.name}{where}: {off}, and sufficientProof does not list Attested"
    if pod is None and (not isinstance(observed.pods, Unseen) or writer.gone_since is not None):
        return f"pod {writer.name} is gone from the API, and nobody saw it end{where}"
    if not writer.node:
        return None
    node = observed.nodes.get(writer.node)
    if not isinstance(node, Node):
        why = f": {node.why}" if isinstance(node, Unseen) else ""
        return f"pod {writer.name}{where}: the node could not be looked at{why}"
    if not node.ready:
        return f"pod {writer.name}{where}: the node is not Ready and nobody has said that it is off"
    # One that its kubelet refused tells of no container until it is deleted: fencing does that.
    return None


def hold_steps(observed: Observed, side: Side) -> tuple[HoldWriter, ...]:
    """The finalizer for every pod that may write `side` and has it not. (A pod that is leaving takes none.)"""
    meta = observed.pair.metadata
    return tuple(
        HoldWriter(meta.namespace, p.metadata.name, p.metadata.uid, meta.uid)
        for p in _pods(observed)
        if mounting_side(observed, p) is side
        and END_PROOF not in p.metadata.finalizers
        and not p.leaving
        and not _over(observed, p)
    )


def release_steps(observed: Observed, pair: MirrorPair) -> tuple[ReleaseWriter, ...]:
    """Off with the finalizer where nothing hangs on it: no operation of the pair is fencing, or the pair itself goes;
    or the pod has ended and the status as it is stored knows, so that the end is not forgotten with the object."""
    operation = pair.status.operation
    going = pair.metadata.deletion_timestamp is not None
    holding = operation is not None and operation.phase in _HOLDING and not going
    stored = {proof.uid for proof in operation.proofs} if operation is not None else set()
    waiting = {w.uid for w in pair.status.writers} - stored
    return tuple(
        ReleaseWriter(pair.metadata.namespace, p.metadata.name, p.metadata.uid)
        for p in _pods(observed)
        if END_PROOF in p.metadata.finalizers
        and _held_by(observed, pair, p)
        and (not holding or (_over(observed, p) and p.metadata.uid not in waiting))
    )


def _held_by(observed: Observed, pair: MirrorPair, pod: Pod) -> bool:
    """Whether the finalizer is this pair's, or nobody's: a claim may be the source of several pairs."""
    holder = pod.metadata.labels.get(END_PROOF, pair.metadata.uid)
    if holder == pair.metadata.uid:
        return True
    return not isinstance(observed.others, Unseen) and all(o.uid != holder for o in observed.others)
