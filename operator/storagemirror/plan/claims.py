"""Rules about claims: may this volume be mirrored at all?

Each rule is `(View) -> Verdict | None`; the first that speaks is heard. The list `RULES` is the specification.
"""

from __future__ import annotations

from collections.abc import Callable

from storagemirror.api.conditions import ConditionType
from storagemirror.api.reasons import Reason
from storagemirror.contract import Role
from storagemirror.errors import BadInput
from storagemirror.plan.course import fenced
from storagemirror.plan.decisions import Effect, Verdict
from storagemirror.plan.objects import Claim, StorageClass
from storagemirror.plan.observed import OtherPair, RefusalOf, Unseen
from storagemirror.plan.quantities import quantity
from storagemirror.plan.times import seconds_since
from storagemirror.plan.view import View, is_agent

Rule = Callable[[View], Verdict | None]

PROVISIONING_SECONDS = 60
"""How long a claim may be unbound before somebody is asked to look."""

TARGET_SMALLER = "TargetSmaller"


def first(rules: tuple[Rule, ...], view: View) -> Verdict | None:
    """The verdict of the first rule that has one."""
    return next((verdict for rule in rules if (verdict := rule(view)) is not None), None)


def could_look(view: View) -> Verdict | None:
    """What could not be looked at is neither there nor gone: everything stays as it is."""
    observed = view.observed
    seen = (
        observed.authority,
        observed.others,
        observed.pods,
        view.source_claim,
        view.target_claim,
        *observed.classes.values(),
        *(part for role in Role for part in _parts(view, role)),
    )
    blind = next((s for s in seen if isinstance(s, Unseen)), None)
    if blind is None:
        return None
    reason = Reason.FORBIDDEN if blind.forbidden else Reason.BAD_INPUT if blind.spoiled else Reason.API_UNAVAILABLE
    lasts = blind.forbidden or blind.spoiled
    return Verdict(ConditionType.CLAIMS_READY, reason, blind.why, Effect.KEEP, stalled=lasts)


def _parts(view: View, role: Role) -> tuple[object, ...]:
    seen = view.agent(role)
    return (seen.order, seen.heard, seen.certificate, seen.children)


def two_claims(view: View) -> Verdict | None:
    """The CRD refuses it too; a guard that decides over data stands twice."""
    name = view.claim_name(Role.SOURCE)
    if name != view.claim_name(Role.TARGET):
        return None
    return _stop(Reason.SAME_CLAIM, f"Source and target of volume {view.volume.name} are both the claim {name}.")


def target_is_ours(view: View) -> Verdict | None:
    """Of two pairs that write one claim the older goes on. (A target may be another pair's source: a chain.)"""
    if isinstance(view.observed.others, Unseen):
        return None
    name = view.claim_name(Role.TARGET)
    meta = view.observed.pair.metadata
    ours = (meta.creation_timestamp or "", meta.uid)
    older = [o for o in view.observed.others if name in o.targets and (o.created, o.uid) < ours]
    if not older:
        return None
    winner = min(older, key=_age)
    return _stop(
        Reason.TARGET_CLAIM_TAKEN,
        f"The claim {name} is already the target of MirrorPair {winner.name}, which is older.",
    )


def no_loop(view: View) -> Verdict | None:
    """A copy that is mirrored back onto what it is the copy of would undo what the application has just written. Of a
    loop of pairs the youngest is refused. (With Adopt nothing else would stop it.)"""
    if isinstance(view.observed.others, Unseen) or view.turned:
        return None  # A way home is no loop: forward nothing is copied meanwhile.
    meta = view.observed.pair.metadata
    ours = (meta.creation_timestamp or "", meta.uid)
    older = [o for o in view.observed.others if (o.created, o.uid) < ours]
    source, target = view.volume.source.claim_name, view.volume.target.claim_name
    reached, before = {target}, set[str]()
    while reached != before:
        before = set(reached)
        reached |= {to for pair in older for at, to in pair.mirrors if at in before}
    if source not in reached:
        return None
    names = ", ".join(sorted(o.name for o in older if any(at in reached and to in reached for at, to in o.mirrors)))
    message = f"The claim {target} is mirrored to {source} already, by MirrorPair {names}, which is older."
    return _stop(Reason.MIRROR_LOOP, message)


def _age(pair: OtherPair) -> tuple[str, str]:
    return (pair.created, pair.uid)


def source_exists(view: View) -> Verdict | None:
    if view.source_claim is not None:
        return None
    return _stop(Reason.CLAIM_MISSING, f"{_which(view, Role.SOURCE)} does not exist.")


def source_usable(view: View) -> Verdict | None:
    return _usable(view, Role.SOURCE)


def source_bound(view: View) -> Verdict | None:
    """An agent must not be a source's first consumer: it would choose the application's node."""
    claim = view.source_claim
    if not isinstance(claim, Claim) or claim.bound:
        return None
    if _binds_late(view, claim):
        return Verdict(
            ConditionType.CLAIMS_READY,
            Reason.WAITING_FOR_FIRST_CONSUMER,
            f"{_which(view, Role.SOURCE)} is bound when the first pod of the application uses it.",
            stalled=False,
        )
    return _unbound(view, claim, Role.SOURCE)


def target_exists(view: View) -> Verdict | None:
    made = view.volume.target.claim_template is not None and not view.turned
    if view.target_claim is not None or made:
        return None
    return _stop(Reason.CLAIM_MISSING, f"{_which(view, Role.TARGET)} does not exist.")


def target_made(view: View) -> Verdict | None:
    """Between making the claim and seeing it."""
    if view.target_claim is not None:
        return None
    name = view.claim_name(Role.TARGET)
    refusal = view.observed.refusal(view.volume.name, Role.TARGET)
    if refusal is not None and refusal.what is RefusalOf.CLAIM:
        return Verdict(ConditionType.CLAIMS_READY, refusal.reason, f"Claim {name} was refused: {refusal.message}")
    message = f"The target claim {name} is being made."
    return Verdict(ConditionType.CLAIMS_READY, Reason.CLAIM_UNBOUND, message, stalled=False)


def target_usable(view: View) -> Verdict | None:
    return _usable(view, Role.TARGET)


def target_bound(view: View) -> Verdict | None:
    """A target that binds late is bound by its agent, which is kept off the source's node for that."""
    claim = view.target_claim
    if not isinstance(claim, Claim) or claim.bound or _binds_late(view, claim):
        return None
    return _unbound(view, claim, Role.TARGET)


RULES: tuple[Rule, ...] = (
    could_look,
    two_claims,
    target_is_ours,
    no_loop,
    source_exists,
    source_usable,
    target_exists,
    target_usable,
    source_bound,
    target_made,
    target_bound,
)


TO_BEGIN: tuple[Rule, ...] = tuple(rule for rule in RULES if rule not in (could_look, target_made))
"""What must hold before a restore begins: nothing has been made for it yet."""

_OF_THE_COPY: tuple[Rule, ...] = (could_look, two_claims, target_is_ours, target_exists, target_usable, target_bound)
"""What counts while a failover takes the copy: whatever has become of the source claim."""


def rules_for(view: View) -> tuple[Rule, ...]:
    """Which rules count now."""
    if view.resting:
        return (could_look,)
    return _OF_THE_COPY if fenced(view.observed.pair.status) and not view.elsewhere else RULES


def warning(view: View) -> tuple[Reason | str, str] | None:
    """What works, but is not as it should be: a reason and a message."""
    if view.resting:
        # The target is the live side: that its claim is written is as it should be.
        return None
    text = smaller_target(view)
    if text is not None:
        return TARGET_SMALLER, text
    name = view.claim_name(Role.TARGET)
    others = [p.metadata.name for p in view.pods if p.writes(name) and not is_agent(p) and not p.over]
    if others:
        return (
            Reason.TARGET_IN_USE,
            f"{_which(view, Role.TARGET)} can be written by pod {', '.join(sorted(others)[:3])}.",
        )
    source = view.claim_name(Role.SOURCE)
    nodes = sorted({p.spec.node_name for p in view.staying if p.writes(source)})
    if len(nodes) > 1:
        text = f"Pods on {len(nodes)} nodes ({', '.join(nodes[:5])}) can write the claim {source}: only what one "
        text += "node writes is seen at once, the rest by the full comparison every ten minutes."
        return Reason.WRITERS_ON_SEVERAL_NODES, text
    return None


def smaller_target(view: View) -> str | None:
    """A warning, no verdict: it works for as long as the data fits."""
    source, target = view.source_claim, view.target_claim
    if not isinstance(source, Claim) or not isinstance(target, Claim):
        return None
    try:
        have, want = quantity(_size(target)), quantity(_size(source))
    except BadInput:
        return None
    if have >= want:
        return None
    return (
        f"{_which(view, Role.TARGET)} ({_size(target)}) is smaller than the {view.side(Role.SOURCE).value.lower()} "
        f"claim {source.metadata.name} ({_size(source)}): the copy stops when it is full. Grow it."
    )


def _size(claim: Claim) -> str:
    return claim.status.capacity.get("storage") or claim.spec.resources.requests.storage


def _binds_late(view: View, claim: Claim) -> bool:
    """Whether a pod that uses the claim gets it bound. A claim that names its volume waits for that volume instead."""
    if claim.spec.volume_name:
        return False
    found = view.observed.classes.get(claim.spec.storage_class_name or "")
    return isinstance(found, StorageClass) and found.volume_binding_mode == "WaitForFirstConsumer"


def _usable(view: View, role: Role) -> Verdict | None:
    claim = view.claim(role)
    if not isinstance(claim, Claim):
        return None
    which = _which(view, role)
    if claim.metadata.deletion_timestamp is not None:
        # An agent that stayed would hold the deletion up for ever.
        return _stop(Reason.CLAIM_DELETING, f"{which} is being deleted.")
    if claim.status.phase == "Lost":
        return _stop(Reason.CLAIM_LOST, f"{which} has lost its volume {claim.spec.volume_name}.")
    if claim.spec.volume_mode == "Block":
        return _stop(Reason.VOLUME_MODE_UNSUPPORTED, f"{which} is a block device; only file systems are mirrored.")
    modes = set(claim.spec.access_modes)
    if "ReadWriteOncePod" in modes:
        return _stop(Reason.ACCESS_MODE_UNSUPPORTED, f"{which} is ReadWriteOncePod: only one pod may ever use it.")
    if role is Role.TARGET and not modes & {"ReadWriteOnce", "ReadWriteMany"}:
        return _stop(Reason.ACCESS_MODE_UNSUPPORTED, f"{which} cannot be written: it is {', '.join(sorted(modes))}.")
    return None


def _which(view: View, role: Role) -> str:
    """The claim that an agent mounts, as a sentence begins."""
    kind = "claim" if view.elsewhere and role is Role.TARGET else f"{view.side(role).value.lower()} claim"
    return f"The {kind} {view.claim_name(role)}"


def _unbound(view: View, claim: Claim, role: Role) -> Verdict:
    age = seconds_since(claim.metadata.creation_timestamp, view.now)
    volume = f"the volume {claim.spec.volume_name} that it names" if claim.spec.volume_name else "a volume"
    message = f"{_which(view, role)} is not bound to {volume}."
    patient = age is not None and age < PROVISIONING_SECONDS
    return Verdict(ConditionType.CLAIMS_READY, Reason.CLAIM_UNBOUND, message, stalled=not patient)


def _stop(reason: Reason, message: str) -> Verdict:
    return Verdict(ConditionType.CLAIMS_READY, reason, message, Effect.STOP)
