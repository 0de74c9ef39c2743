"""What a decision is: actions for the executor, verdicts for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from storagemirror.api.conditions import ConditionType
from storagemirror.api.failover import Failover, FailoverStatus
from storagemirror.api.reasons import Reason
from storagemirror.api.restore import Restore, RestoreStatus
from storagemirror.api.sides import WorkloadKind
from storagemirror.api.status import MirrorPairStatus, VolumeStatus
from storagemirror.contract import Order
from storagemirror.resources.names import AgentRef
from storagemirror.resources.order import Kept


class Effect(IntEnum):
    """What a verdict means for the agents, from least to most."""

    KEEP = 0
    """Change nothing: too little is known."""
    WAIT = 1
    """Make no new pods; those that are there stay."""
    STOP = 2
    """No pods."""


@dataclass(frozen=True)
class Verdict:
    """Why a volume does not go on, as a rule says."""

    condition: ConditionType
    reason: Reason | str
    message: str
    effect: Effect = Effect.WAIT
    stalled: bool = True
    """Whether it needs somebody to change something. False: it passes by itself."""


@dataclass(frozen=True)
class Apply:
    """Make `manifest` so, server-side."""

    ref: AgentRef
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class WriteOrder:
    """Store an order by compare-and-swap: with no version it must not exist yet."""

    ref: AgentRef
    order: Order
    resource_version: str | None
    kept: Kept


@dataclass(frozen=True)
class IssueCertificate:
    """Make a key, sign its certificate, store both."""

    ref: AgentRef


@dataclass(frozen=True)
class CreateClaim:
    """Make the target claim; one that is there already is left as it is."""

    ref: AgentRef
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class ProbePod:
    """Ask admission about a pod without making it."""

    ref: AgentRef
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class CreatePod:
    """Make a pod whose number the order names already."""

    ref: AgentRef
    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class DeletePod:
    """Delete exactly the pod of this UID."""

    ref: AgentRef
    name: str
    uid: str
    why: str


@dataclass(frozen=True)
class HoldWriter:
    """Put the finalizer `storagemirror.io/end-proof` on a pod, so that its end can be read whoever deletes it."""

    namespace: str
    name: str
    uid: str
    pair_uid: str


@dataclass(frozen=True)
class ReleaseWriter:
    """Take that finalizer off."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class EndWriter:
    """Delete exactly the pod of this UID, which mounts a claim of a side that is being fenced."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True)
class ScaleWorkload:
    """Set a workload's replicas, by compare-and-swap on the version that was read."""

    namespace: str
    kind: WorkloadKind
    name: str
    replicas: int
    resource_version: str
    why: str = ""


@dataclass(frozen=True)
class NudgeWorkload:
    """Set the annotation `storagemirror.io/nudge` to `mark`: its controller looks at once, whatever its back-off."""

    namespace: str
    kind: WorkloadKind
    name: str
    mark: str


@dataclass(frozen=True)
class ApplyService:
    """Make a Service of ours so, server-side."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class LabelPod:
    """Set (or with None remove) one label of exactly the pod of this UID."""

    namespace: str
    name: str
    uid: str
    label: str
    value: str | None


@dataclass(frozen=True)
class MakeFailover:
    """Make a Failover of the operator's own; one that is there already is left as it is."""

    manifest: Mapping[str, Any]


@dataclass(frozen=True)
class RemoveFailover:
    """Delete exactly the Failover of this UID (history limit; only what the operator made)."""

    namespace: str
    name: str
    uid: str


Failing = (
    HoldWriter
    | ReleaseWriter
    | EndWriter
    | ScaleWorkload
    | NudgeWorkload
    | ApplyService
    | LabelPod
    | MakeFailover
    | RemoveFailover
)
"""What is done for a failover, and belongs to no agent."""

Action = Failing | Apply | WriteOrder | IssueCertificate | CreateClaim | ProbePod | CreatePod | DeletePod


class EventType(StrEnum):
    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True)
class Note:
    """An event for people."""

    type: EventType
    reason: Reason | str
    message: str


@dataclass(frozen=True)
class Shown:
    """A Failover or Restore whose status is to say something new."""

    request: Failover | Restore
    status: FailoverStatus | RestoreStatus


@dataclass(frozen=True)
class Plan:
    """What to do, what to say, and when to look again (seconds; None: when something happens, or at the resync)."""

    actions: tuple[Action, ...]
    status: MirrorPairStatus
    requeue: float | None = None
    fresh: tuple[VolumeStatus, ...] = ()
    """The volumes as they are now: in `status` a sample stands for a while."""
    shown: tuple[Shown, ...] = ()
    """Failovers and Restores whose status is to say something new; written after the pair's."""
