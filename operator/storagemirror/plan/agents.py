"""Rules about one agent: why is it not doing its work?

Each rule is `(Agent) -> Verdict | None`; the first that speaks is heard. The list `RULES` is the specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storagemirror.api.conditions import ConditionType
from storagemirror.api.reasons import Reason, advised
from storagemirror.contract import Problem, Role
from storagemirror.plan.decisions import Verdict
from storagemirror.plan.lifecycle import LEAVING_PATIENCE, SILENT_SECONDS, started_ago
from storagemirror.plan.objects import ContainerStatus, Node, Pod
from storagemirror.plan.observed import RefusalOf
from storagemirror.plan.times import seconds_since
from storagemirror.plan.view import View
from storagemirror.plan.where import UNSCHEDULABLE_CALLS, Leave, Where, unschedulable_for

STARTING_PATIENCE = 60.0
"""Seconds that a pod may take from its node to its first process before somebody is asked to look."""
FIRST_WORD_PATIENCE = 20.0
"""Seconds from an agent's start to its first heartbeat."""

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


@dataclass(frozen=True)
class Agent:
    """One agent of a volume, and where it belongs."""

    view: View
    role: Role
    place: Where

    @property
    def pod(self) -> Pod | None:
        return self.view.current_pod(self.role)

    @property
    def called(self) -> str:
        return f"The {self.role.value.lower()} agent of volume {self.view.volume.name}"

    @property
    def container(self) -> ContainerStatus | None:
        pod = self.pod
        found = pod.status.container_statuses if pod is not None else ()
        return next((s for s in found if s.name == "agent"), None)


Rule = Callable[[Agent], Verdict | None]


def verdict_of(agent: Agent) -> Verdict | None:
    """Why this agent is not doing its work; None where it is, or is not meant to."""
    if isinstance(agent.place, Leave):
        return None
    return next((verdict for rule in RULES if (verdict := rule(agent)) is not None), None)


def refused(agent: Agent) -> Verdict | None:
    found = agent.view.observed.refusal(agent.view.volume.name, agent.role)
    if found is None or found.what is RefusalOf.CLAIM:
        return None
    # Admission that could not be asked passes by itself; a no has to be changed by somebody.
    stalled = found.reason not in (Reason.API_UNAVAILABLE, Reason.DELETING)
    return _agents(found.reason, f"{agent.called} was refused: {found.message}", stalled=stalled)


def old_one_leaving(agent: Agent) -> Verdict | None:
    leaving = [p for p in agent.view.agent_pods(agent.role) if p.leaving]
    if agent.role is Role.SOURCE or not leaving:
        return None
    since = seconds_since(leaving[0].metadata.deletion_timestamp, agent.view.now) or 0.0
    name, node = leaving[0].metadata.name, leaving[0].spec.node_name
    if since < LEAVING_PATIENCE:
        return _agents(Reason.STARTING, f"{agent.called} is being replaced.", stalled=False)
    message = f"{agent.called} cannot be replaced: pod {name} has not ended on node {node}."
    return _agents(Reason.OLD_AGENT_NOT_GONE, message, stalled=True)


def missing(agent: Agent) -> Verdict | None:
    if agent.pod is not None:
        return None
    why = getattr(agent.place, "why", "")
    message = f"{agent.called} is not there yet{f': {why}' if why else ''}."
    return _agents(Reason.AGENTS_STARTING, message, stalled=False)


def unschedulable(agent: Agent) -> Verdict | None:
    pod = agent.pod
    waited = unschedulable_for(agent.view, pod) if pod is not None else None
    if pod is None or waited is None:
        return None
    said = next(c.message for c in pod.status.conditions if c.type == "PodScheduled")
    lasts = waited >= UNSCHEDULABLE_CALLS
    return _agents(Reason.AGENT_UNSCHEDULABLE, f"{agent.called} finds no node: {said}", stalled=lasts)


def ended(agent: Agent) -> Verdict | None:
    pod = agent.pod
    if pod is None or not pod.over:
        return None
    why = (pod.status.message or pod.status.reason or pod.status.phase).strip().rstrip(".")
    message = f"{agent.called} has ended ({why}); another one is started by itself."
    return _agents(Reason.AGENT_NOT_STARTING, message, stalled=False)


def image_missing(agent: Agent) -> Verdict | None:
    waiting = agent.container.state.waiting if agent.container is not None else None
    if waiting is None or waiting.reason not in _IMAGE:
        return None
    image = agent.view.observed.image.name
    return _agents(Reason.IMAGE_NOT_PULLED, f"{agent.called} cannot start: image {image} was not pulled.", stalled=True)


def crashing(agent: Agent) -> Verdict | None:
    found = agent.container
    if found is None or found.state.running is not None:
        return None
    last = found.state.terminated or found.last_state.terminated
    backing_off = found.state.waiting is not None and found.state.waiting.reason == "CrashLoopBackOff"
    if last is None or not (backing_off or found.state.terminated is not None):
        return None
    last_words = last.message.strip().splitlines()[-1:] or [""]
    message = f"{agent.called} ended with {last.reason or 'Error'} (exit status {last.exit_code})"
    return _agents(Reason.AGENT_CRASHED, f"{message}: {last_words[0]}".rstrip(": ") + ".", stalled=False)


def not_starting(agent: Agent) -> Verdict | None:
    pod, found = agent.pod, agent.container
    if pod is None or (found is not None and found.state.running is not None):
        return None
    waiting = found.state.waiting if found is not None else None
    why = f": {waiting.message or waiting.reason}" if waiting is not None and waiting.reason in _CONFIG else ""
    age = seconds_since(pod.metadata.creation_timestamp, agent.view.now) or 0.0
    if why or age >= STARTING_PATIENCE:
        return _agents(Reason.AGENT_NOT_STARTING, f"{agent.called} does not start{why}.", stalled=bool(why))
    return _agents(Reason.AGENTS_STARTING, f"{agent.called} is starting.", stalled=False)


def silent(agent: Agent) -> Verdict | None:
    view, pod = agent.view, agent.pod
    heard, report = view.heard(agent.role), view.report(agent.role)
    if pod is None:
        return None
    if report is None:
        age = started_ago(view, pod) or 0.0
        if age < FIRST_WORD_PATIENCE:
            return _agents(Reason.AGENTS_STARTING, f"{agent.called} is starting.", stalled=False)
        return _agents(Reason.AGENT_SILENT, f"{agent.called} has not said a word.", stalled=False)
    if heard is None or heard.silent_for < SILENT_SECONDS:
        return None
    node = view.observed.nodes.get(pod.spec.node_name)
    if node is None or (isinstance(node, Node) and not node.ready):
        state = "gone" if node is None else "not Ready"
        message = f"{agent.called} is not heard: its node {pod.spec.node_name} is {state}."
        return _agents(Reason.NODE_NOT_READY, message, stalled=False)
    message = f"{agent.called} on node {pod.spec.node_name} is not heard since {heard.renew_time}."
    return _agents(Reason.AGENT_SILENT, message, stalled=False)


def says_why(agent: Agent) -> Verdict | None:
    report = agent.view.report(agent.role)
    return None if report is None or report.problem is None else of_problem(agent, report.problem)


RULES: tuple[Rule, ...] = (
    refused,
    old_one_leaving,
    missing,
    ended,
    unschedulable,
    image_missing,
    crashing,
    not_starting,
    silent,
    says_why,
)

_LINK = (
    Reason.DISCONNECTED,
    Reason.CONNECTING,
    Reason.RETRYING,
    Reason.WRONG_PEER,
    Reason.API_UNAVAILABLE,
    # While certificates or releases are being replaced, one agent is ahead of the other.
    Reason.PEER_NOT_TRUSTED,
    Reason.PEER_TOO_OLD,
    # One of the agents has the new order, the other has not.
    Reason.TERMS_DIFFER,
)
_HEALING = (
    Reason.TARGET_BUSY,
    Reason.ORDER_INVALID,
    Reason.SUPERSEDED,
    Reason.CHANGED,
    Reason.CONFLICT,
    Reason.MISSING,
    Reason.WATCH_EXPIRED,
)
"""What an agent gets over without anybody's help."""


def of_problem(agent: Agent, problem: Problem) -> Verdict:
    """What an agent says is wrong, passed on in its own words."""
    message = advised(f"Volume {agent.view.volume.name}: {problem.message}", problem.reason, problem.hint)
    if problem.token is not None:
        return Verdict(ConditionType.HELD, problem.reason, message, stalled=True)
    if problem.reason in _LINK:
        return Verdict(ConditionType.CONNECTED, problem.reason, message, stalled=False)
    return Verdict(ConditionType.REPLICATING, problem.reason, message, stalled=problem.reason not in _HEALING)


def _agents(reason: Reason, message: str, *, stalled: bool) -> Verdict:
    return Verdict(ConditionType.AGENTS_READY, reason, message, stalled=stalled)
