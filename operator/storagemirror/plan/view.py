"""One volume of what was observed: what the rules look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storagemirror.api.mirrorpair import Volume
from storagemirror.api.status import VolumeStatus
from storagemirror.contract import Report, Role
from storagemirror.plan.objects import Claim, Pod
from storagemirror.plan.observed import AgentSeen, BrokenOrder, Heard, Observed, OrderSeen, Unseen
from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef


@dataclass(frozen=True)
class View:
    """One volume, and the moment at which it is judged."""

    observed: Observed
    volume: Volume
    now: datetime

    @property
    def source_claim(self) -> Claim | Unseen | None:
        return self.observed.claims.get(self.volume.source.claim_name)

    @property
    def target_claim(self) -> Claim | Unseen | None:
        return self.observed.claims.get(self.volume.target.claim_name)

    def claim_name(self, role: Role) -> str:
        return self.volume.source.claim_name if role is Role.SOURCE else self.volume.target.claim_name

    def claim(self, role: Role) -> Claim | Unseen | None:
        return self.observed.claims.get(self.claim_name(role))

    @property
    def before(self) -> VolumeStatus:
        """What the status says of this volume so far."""
        found = (v for v in self.observed.pair.status.volumes if v.name == self.volume.name)
        return next(found, VolumeStatus(name=self.volume.name))

    @property
    def pods(self) -> tuple[Pod, ...]:
        """All that were seen; none when they could not be looked at (a rule of its own stops everything then)."""
        return () if isinstance(self.observed.pods, Unseen) else self.observed.pods

    def ref(self, role: Role) -> AgentRef:
        meta = self.observed.pair.metadata
        return AgentRef(meta.name, meta.uid, meta.namespace, self.volume.name, role)

    def agent(self, role: Role) -> AgentSeen:
        return self.observed.agents.get((self.volume.name, role)) or AgentSeen(self.ref(role))

    def instance(self, role: Role) -> int:
        """Number of the last pod that was ordered; 0 when none ever was.

        Where the order is gone or spoiled, the highest number that anything remembers: a number must never be given
        out twice.
        """
        seen = self.agent(role)
        if isinstance(seen.order, OrderSeen):
            return seen.order.order.instance
        known = [instance_of(p) for p in self.agent_pods(role)]
        if isinstance(seen.order, BrokenOrder):
            known.append(seen.order.instance)
        if isinstance(seen.heard, Heard) and seen.heard.report is not None:
            known.append(seen.heard.report.instance)
        status = self.before.source if role is Role.SOURCE else self.before.target
        if status is not None and status.instance is not None:
            known.append(status.instance)
        return max(known, default=0)

    def agent_pods(self, role: Role) -> tuple[Pod, ...]:
        """Pods of this agent, of whatever number."""
        wanted = self.ref(role).labels
        mine = (labels.PAIR, labels.VOLUME, labels.ROLE)
        return tuple(p for p in self.pods if all(p.metadata.labels.get(k) == wanted[k] for k in mine))

    def current_pod(self, role: Role) -> Pod | None:
        """The pod that the order means, where there is one (it may be leaving)."""
        name = self.ref(role).pod_name(self.instance(role))
        return next((p for p in self.agent_pods(role) if p.metadata.name == name), None)

    def heard(self, role: Role) -> Heard | None:
        """The agent's Lease, where there is one."""
        found = self.agent(role).heard
        return found if isinstance(found, Heard) else None

    def report(self, role: Role) -> Report | None:
        """What the pod that the order means says of itself; None for what an older one left behind."""
        heard = self.heard(role)
        if heard is None or heard.report is None or heard.report.instance != self.instance(role):
            return None
        return heard.report

    def last_report(self, role: Role) -> Report | None:
        """The last word of any pod of this agent."""
        heard = self.heard(role)
        return heard.report if heard is not None else None

    def broken_order(self, role: Role) -> BrokenOrder | None:
        found = self.agent(role).order
        return found if isinstance(found, BrokenOrder) else None

    @property
    def writers(self) -> tuple[Pod, ...]:
        """Pods that mount the source claim, are no agents, and have not ended; the oldest first."""
        name = self.volume.source.claim_name
        found = [p for p in self.pods if p.mounts(name) and not is_agent(p) and not p.over]
        return tuple(sorted(found, key=lambda p: (p.metadata.creation_timestamp or "", p.metadata.name)))

    @property
    def staying(self) -> tuple[Pod, ...]:
        """Writers that have a node and are not on their way out."""
        return tuple(p for p in self.writers if p.spec.node_name and not p.leaving)


def is_agent(pod: Pod) -> bool:
    """Whether it is an agent of any pair: made by an operator, not just labelled like one."""
    by_label = pod.metadata.labels.get(labels.APP_COMPONENT) == labels.AGENT and labels.PAIR in pod.metadata.labels
    return by_label and any(o.controller and o.kind == "MirrorPair" for o in pod.metadata.owner_references)


def instance_of(pod: Pod) -> int:
    """An agent pod's number; 0 where it says none."""
    text = pod.metadata.annotations.get(labels.INSTANCE, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def node_of(pod: Pod) -> str:
    """The node that an agent's pod is on or may only go to; empty when the scheduler has yet to choose."""
    return pod.spec.node_name or pod.metadata.annotations.get(labels.NODE, "")
