"""Carries out what was decided, in order. Each step can be repeated; none looks at more than its own action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from storagemirror.api.reasons import Reason
from storagemirror.kube import paths
from storagemirror.kube.authority import CertificateAuthority
from storagemirror.kube.client import Api
from storagemirror.kube.execute_failover import carry_out, subject
from storagemirror.kube.faults import Conflict, Denied, Missing, reason_of
from storagemirror.plan.decisions import (
    Action,
    Apply,
    CreateClaim,
    CreatePod,
    DeletePod,
    EventType,
    Failing,
    IssueCertificate,
    Note,
    ProbePod,
    WriteOrder,
)
from storagemirror.plan.observed import Denial, Refusal, RefusalOf
from storagemirror.resources.certificate import certificate_secret
from storagemirror.resources.names import AgentRef
from storagemirror.resources.order import order_config_map


@dataclass
class Outcome:
    """What became of the actions."""

    refusals: list[Refusal] = field(default_factory=list)
    denied: list[Denial] = field(default_factory=list)
    """Steps of a failover that were refused; the others go on."""
    notes: list[Note] = field(default_factory=list)
    done: int = 0

    def refused(self, ref: AgentRef) -> bool:
        """Whether something of this agent was refused; then nothing more of it is tried."""
        return any(r.volume == ref.volume and r.role == ref.role for r in self.refusals)


class Executor:
    """Writes to the API server."""

    def __init__(self, api: Api, authority: CertificateAuthority) -> None:
        self._api = api
        self._authority = authority

    def execute(self, actions: Sequence[Action], *, still_leading: Callable[[], bool]) -> Outcome:
        """All actions, until one is refused (then the rest of the same agent is left out).

        `Conflict` and `ApiUnavailable` end it: the next pass looks again. `still_leading` is asked before each step.
        """
        outcome = Outcome()
        for action in actions:
            if not still_leading():
                raise Conflict("no longer the leader")
            if isinstance(action, Failing):
                self._failover(action, outcome)
                continue
            if outcome.refused(action.ref):
                continue
            try:
                self._one(action, outcome)
            except Denied as e:
                kind = _refusal_kind(action)
                ref = action.ref
                outcome.refusals.append(Refusal(kind, ref.volume, ref.role, reason_of(e), e.message))
            else:
                outcome.done += 0 if isinstance(action, ProbePod) else 1
        return outcome

    def _failover(self, action: Failing, outcome: Outcome) -> None:
        try:
            done = carry_out(self._api, action)
        except Denied as e:
            outcome.denied.append(Denial(subject(action), reason_of(e), e.message))
            return
        if done:
            outcome.done += 1

    def _one(self, action: Action, outcome: Outcome) -> None:
        api = self._api
        match action:
            case Apply(_, manifest):
                api.apply(paths.resource_of(manifest), manifest)
            case IssueCertificate(ref):
                api.apply(paths.SECRETS, certificate_secret(ref, self._authority.issue(ref)))
            case WriteOrder(ref, order, version, kept):
                manifest = order_config_map(ref, order, resource_version=version, kept=kept)
                (api.create if version is None else api.replace)(paths.CONFIG_MAPS, manifest)
            case CreateClaim(_, manifest):
                if _made(lambda: api.create(paths.CLAIMS, manifest)):
                    text = f"Made the target claim {manifest['metadata']['name']} from its template."
                    outcome.notes.append(Note(EventType.NORMAL, Reason.CLAIM_CREATED, text))
            case ProbePod(_, manifest):
                # A pod of another's may have the name: the number is given out all the same, and the next one is tried.
                _made(lambda: api.create(paths.PODS, manifest, dry_run=True))
            case CreatePod(_, manifest):
                if _made(lambda: api.create(paths.PODS, manifest)):
                    text = f"Made the agent's pod {manifest['metadata']['name']}."
                    outcome.notes.append(Note(EventType.NORMAL, Reason.AGENT_CREATED, text))
            case DeletePod(ref, name, uid, why):
                if _gone(lambda: api.delete(paths.PODS, ref.namespace, name, uid=uid)):
                    text = f"Removed the agent's pod {name}: {why}."
                    outcome.notes.append(Note(EventType.NORMAL, Reason.AGENT_REPLACED, text))


def _made(create: Callable[[], object]) -> bool:
    """False when it was there already: somebody was faster, or an answer of ours was lost."""
    try:
        create()
    except Conflict:
        return False
    return True


def _gone(delete: Callable[[], object]) -> bool:
    """False when it was gone already, or its name is another's by now."""
    try:
        delete()
    except (Missing, Conflict):
        return False
    return True


def _refusal_kind(action: Action) -> RefusalOf:
    match action:
        case ProbePod() | CreatePod():
            return RefusalOf.POD
        case CreateClaim():
            return RefusalOf.CLAIM
    return RefusalOf.CHILD
