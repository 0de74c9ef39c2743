"""What a pass has seen. Everything is a value; so is "could not see"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from storagemirror.api.failover import Failover
from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.reasons import Reason
from storagemirror.api.restore import Restore
from storagemirror.api.sides import Side, WorkloadKind
from storagemirror.contract import Order, Report, Role
from storagemirror.plan.objects import (
    Claim,
    EndpointSlice,
    Node,
    Pod,
    ServiceObject,
    StorageClass,
    WorkloadObject,
)
from storagemirror.resources.names import AgentRef
from storagemirror.resources.order import Kept
from storagemirror.resources.pod import Image


@dataclass(frozen=True)
class Unseen:
    """It may be there or not: it could not be looked at."""

    why: str
    forbidden: bool = False
    """The operator lacks the right; it does not pass by itself."""
    spoiled: bool = False
    """It is there and makes no sense; somebody has changed it by hand."""


@dataclass(frozen=True)
class OrderSeen:
    """The order as it stands in the API, with the version that a change of it must name."""

    order: Order
    resource_version: str
    kept: Kept = field(default_factory=Kept)


@dataclass(frozen=True)
class BrokenOrder:
    """A ConfigMap in the order's place that holds no order of ours: somebody changed it by hand."""

    resource_version: str
    why: str
    instance: int = 0
    """The number that its annotation tells; 0 where that is gone too."""


@dataclass(frozen=True)
class Heard:
    """An agent's Lease. `silent_for`: seconds of our own clock, while we could listen, since it last changed."""

    report: Report | None
    renew_time: str | None
    silent_for: float


@dataclass(frozen=True)
class CertificateSeen:
    """What the Secret's annotations say of the certificate in it."""

    not_after: str
    issuer: str


class RefusalOf(StrEnum):
    POD = "Pod"
    CLAIM = "Claim"
    CHILD = "Child"


@dataclass(frozen=True)
class Refusal:
    """The API server said no to something that this pass tried."""

    what: RefusalOf
    volume: str
    role: Role
    reason: Reason
    message: str


@dataclass(frozen=True)
class AgentSeen:
    """Everything of one agent but its pods."""

    ref: AgentRef
    order: OrderSeen | BrokenOrder | Unseen | None = None
    heard: Heard | Unseen | None = None
    certificate: CertificateSeen | Unseen | None = None
    children: Mapping[str, Mapping[str, Any]] | Unseen = field(default_factory=dict)
    """ServiceAccount, Role, RoleBinding and Lease as they are, by kind."""


@dataclass(frozen=True)
class OtherPair:
    """What must be known of the other pairs of the namespace."""

    name: str
    uid: str
    created: str
    mirrors: frozenset[tuple[str, str]]
    """Claims: (source, target) of each volume."""
    deleting: bool = False

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(target for _, target in self.mirrors)


@dataclass(frozen=True)
class Authority:
    """The CA that signs the agents' certificates."""

    issuer: str
    """Digest of its certificate."""


@dataclass(frozen=True)
class GateSeen:
    """What admission said to a pod that mounts a claim of a side, asked by an account that is not exempt."""

    refused: bool
    """By the gate's own policy, by name; any other refusal proves nothing."""
    message: str = ""
    """What was said instead."""


@dataclass(frozen=True)
class Denial:
    """The API server said no to a step of a failover."""

    what: str
    """The object, as `Kind name`."""
    reason: Reason
    message: str


@dataclass(frozen=True)
class Reached:
    """What came of a TCP connection to an address of an endpoint."""

    address: str
    connected: bool
    why: str = ""


@dataclass(frozen=True)
class Observed:
    """Everything that a decision may rest on."""

    pair: MirrorPair
    image: Image
    authority: Authority | Unseen
    attentive_since: datetime
    """Since when the operator has been looking without a gap; who used a claim before that is not known."""
    others: tuple[OtherPair, ...] | Unseen = ()
    pods: tuple[Pod, ...] | Unseen = ()
    """The namespace's pods that are agents of this pair, or mount a claim of it."""
    claims: Mapping[str, Claim | Unseen | None] = field(default_factory=dict)
    classes: Mapping[str, StorageClass | Unseen | None] = field(default_factory=dict)
    """Storage classes of claims that are not bound."""
    nodes: Mapping[str, Node | Unseen | None] = field(default_factory=dict)
    """Nodes of silent agents."""
    agents: Mapping[tuple[str, Role], AgentSeen] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    failovers: tuple[Failover, ...] | Unseen = ()
    """The namespace's Failovers that name this pair."""
    restores: tuple[Restore, ...] | Unseen = ()
    """The namespace's Restores that name this pair."""
    failover_names: frozenset[str] = frozenset()
    """Of every Failover of the namespace, whichever pair it names."""
    denied: tuple[Denial, ...] = ()
    """What the API server refused of this pass's steps for a failover."""
    ended: frozenset[str] = frozenset()
    """UIDs of pods whose end a watch has told (an object of that UID with every container terminated), although their
    objects may be gone by now."""
    every_node: tuple[Node, ...] | Unseen | None = None
    """All nodes of the cluster; None where they were not asked for."""
    workloads: Mapping[tuple[WorkloadKind, str], WorkloadObject | Unseen | None] = field(default_factory=dict)
    """Of both sides, by kind and name."""
    services: Mapping[str, ServiceObject | Unseen | None] = field(default_factory=dict)
    endpoints: Mapping[str, tuple[EndpointSlice, ...] | Unseen] = field(default_factory=dict)
    """Slices of the pair's Services; read only while a failover is being verified."""
    reached: Mapping[str, tuple[Reached, ...]] = field(default_factory=dict)
    """By Service: connections tried in this pass, only while a failover is being verified."""
    consent: bool | Unseen = False
    """Whether the namespace allows agents that may freeze volumes; only where the pair asks for such."""
    gate: Mapping[Side, GateSeen | Unseen] = field(default_factory=dict)
    """Tried in this pass; empty where it was not."""

    def refusal(self, volume: str, role: Role) -> Refusal | None:
        """What was refused of this agent in this pass."""
        return next((r for r in self.refusals if r.volume == volume and r.role == role), None)
