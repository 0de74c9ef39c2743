"""One volume of what was observed: what the rules look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from storagemirror.api.mirrorpair import Volume
from storagemirror.api.sides import Side
from storagemirror.api.status import VolumeStatus
from storagemirror.contract import Report, Role
from storagemirror.plan.course import over, returning
from storagemirror.plan.objects import Claim, Pod
from storagemirror.plan.observed import AgentSeen, BrokenOrder, Heard, Observed, OrderSeen, Unseen
from storagemirror.plan.times import read
from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef
from storagemirror.resources.order import Kept

_FRESH_SECONDS = 30.0
_SET_BACK = timedelta(seconds=60)
"""What was told later than the last heartbeat was told within this."""


@dataclass(frozen=True)
class View:
    """One volume, and the moment at which it is judged."""

    observed: Observed
    volume: Volume
    now: datetime
    elsewhere: str = ""
    """The pair's volume of which this is a copy elsewhere, no volume of the pair's own; empty: it is its own."""
    homeward: bool | None = None
    """Whether the target is copied to the source. None: as the status has it now."""

    @property
    def name(self) -> str:
        """What people call it."""
        return self.elsewhere or self.volume.name

    @cached_property
    def turned(self) -> bool:
        """Whether the target is read and the source is written."""
        if self.homeward is not None:
            return self.homeward
        return not self.elsewhere and returning(self.observed.pair.status) is not None

    @property
    def resting(self) -> bool:
        """Whether nobody copies it: the target is the live side, and nothing brings it back."""
        return not self.elsewhere and not self.turned and over(self.observed.pair.status)

    def side(self, role: Role) -> Side:
        """The side whose claim the agent of `role` mounts."""
        own = Side.SOURCE if role is Role.SOURCE else Side.TARGET
        return own.other if self.turned else own

    @property
    def source_claim(self) -> Claim | Unseen | None:
        """The claim that is read."""
        return self.claim(Role.SOURCE)

    @property
    def target_claim(self) -> Claim | Unseen | None:
        """The claim that is written."""
        return self.claim(Role.TARGET)

    def claim_name(self, role: Role) -> str:
        volume = self.volume
        return volume.source.claim_name if self.side(role) is Side.SOURCE else volume.target.claim_name

    def claim(self, role: Role) -> Claim | Unseen | None:
        return self.observed.claims.get(self.claim_name(role))

    @property
    def before(self) -> VolumeStatus:
        """What the status says of this volume so far; nothing of a copy where that was of other claims."""
        found = self._said or VolumeStatus(name=self.volume.name)
        old = any(self.claims_changed(role) or _number(found, role) < self.kept(role).fresh_from for role in Role)
        if not old:
            return found
        of_the_copy = {
            "synced_through": None,
            "last_full_mirror": None,
            "not_kept": (),
            "left_alone": (),
            "hold": None,
            "last_contact": None,
            "source_time": None,
            "verify": None,
            "run": None,
            "drift": None,
            "missed": None,
            "queue": None,
            "copy_point": None,
        }
        return found.model_copy(update=of_the_copy)

    @property
    def known(self) -> bool:
        """Whether the status names this volume: the pair had it in the pass before."""
        return self._said is not None

    @property
    def _said(self) -> VolumeStatus | None:
        return next((v for v in self.observed.pair.status.volumes if v.name == self.volume.name), None)

    @property
    def claims_mark(self) -> str | None:
        """Which two claims these are: a claim made anew has the name of the old one and another volume."""
        source, target = self.source_claim, self.target_claim
        if not isinstance(source, Claim) or not isinstance(target, Claim):
            return None
        return f"{source.metadata.uid}/{target.metadata.uid}"

    def claims_changed(self, role: Role) -> bool:
        """Whether the agent's order, and all that the agent has said, is of claims that are not there any more."""
        kept, mark = self.kept(role).claims, self.claims_mark
        return kept is not None and mark is not None and kept != mark

    def kept(self, role: Role) -> Kept:
        """What is kept beside the agent's order."""
        seen = self.agent(role).order
        return seen.kept if isinstance(seen, OrderSeen) else Kept()

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

        The highest number that anything remembers: a number must never be given out twice, also where somebody has
        removed the order, spoiled it or set it back.
        """
        return self._instances[role]

    @cached_property
    def _instances(self) -> dict[Role, int]:
        return {role: self._instance(role) for role in Role}

    def _instance(self, role: Role) -> int:
        seen = self.agent(role)
        known = [instance_of(p) for p in self.agent_pods(role)]
        if isinstance(seen.order, OrderSeen):
            known.append(seen.order.order.instance)
        if isinstance(seen.order, BrokenOrder):
            known.append(seen.order.instance)
        if isinstance(seen.heard, Heard) and seen.heard.report is not None:
            known.append(seen.heard.report.instance)
        if self._said is not None:
            known.append(_number(self._said, role))
        return max(known, default=0)

    def agent_pods(self, role: Role) -> tuple[Pod, ...]:
        """Pods of this agent, of whatever number."""
        return self._agent_pods[role]

    @cached_property
    def _agent_pods(self) -> dict[Role, tuple[Pod, ...]]:
        mine = (labels.PAIR, labels.VOLUME, labels.ROLE)
        wanted = {role: self.ref(role).labels for role in Role}
        return {
            role: tuple(p for p in self.pods if all(p.metadata.labels.get(k) == wanted[role][k] for k in mine))
            for role in Role
        }

    def current_pod(self, role: Role) -> Pod | None:
        """The pod that the order means, where there is one (it may be leaving)."""
        name = self.ref(role).pod_name(self.instance(role))
        return next((p for p in self.agent_pods(role) if p.metadata.name == name), None)

    def heard(self, role: Role) -> Heard | None:
        """The agent's Lease, where there is one."""
        found = self.agent(role).heard
        return found if isinstance(found, Heard) else None

    def past(self, through: str | None) -> str | None:
        """A time of the source's clock that the status remembers; None where that clock says an earlier one now: it was
        set back, and what it said before is no measure of what comes after."""
        heard, then = self.heard(Role.SOURCE), read(through)
        now = read(heard.renew_time) if heard is not None and heard.silent_for < _FRESH_SECONDS else None
        return None if then is not None and now is not None and then > now + _SET_BACK else through

    def report(self, role: Role) -> Report | None:
        """What the pod that the order means says of itself; None for what an older one left behind."""
        heard = self.heard(role)
        if self.claims_changed(role) or heard is None or heard.report is None:
            return None
        return heard.report if heard.report.instance == self.instance(role) else None

    def last_report(self, role: Role) -> Report | None:
        """The last word of any pod of this agent about these claims."""
        heard = self.heard(role)
        if self.claims_changed(role) or heard is None or heard.report is None:
            return None
        return heard.report if heard.report.instance >= self.kept(role).fresh_from else None

    def broken_order(self, role: Role) -> BrokenOrder | None:
        found = self.agent(role).order
        return found if isinstance(found, BrokenOrder) else None

    @property
    def writers(self) -> tuple[Pod, ...]:
        """Pods that mount the claim that is read, are no agents, and have not ended; the oldest first."""
        name = self.claim_name(Role.SOURCE)
        found = [p for p in self.pods if p.mounts(name) and not is_agent(p) and not p.over]
        return tuple(sorted(found, key=lambda p: (p.metadata.creation_timestamp or "", p.metadata.name)))

    @property
    def staying(self) -> tuple[Pod, ...]:
        """Writers that have a node and are not on their way out."""
        return tuple(p for p in self.writers if p.spec.node_name and not p.leaving)

    @property
    def drawing(self) -> tuple[Pod, ...]:
        """Of those that stay, the ones that can write: what they do is only seen on their node. With none, the rest."""
        name = self.claim_name(Role.SOURCE)
        return tuple(p for p in self.staying if p.writes(name)) or self.staying


def _number(status: VolumeStatus, role: Role) -> int:
    """The number that the status remembers; 0 for none."""
    agent = status.source if role is Role.SOURCE else status.target
    return (agent.instance or 0) if agent is not None else 0


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
