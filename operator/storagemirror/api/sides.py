"""What of a pair is for failing over: the workloads of both sides, the Services in front, and the rules."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from storagemirror.api.durations import Duration
from storagemirror.api.model import ATOMIC, DNS_LABEL, DNS_SUBDOMAIN, ApiModel, map_by, rule, rules


class Side(StrEnum):
    """Which side the application runs on."""

    SOURCE = "Source"
    TARGET = "Target"

    @property
    def other(self) -> Side:
        """The one across."""
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


class WorkloadKind(StrEnum):
    """What can be scaled to zero and up again."""

    DEPLOYMENT = "Deployment"
    STATEFUL_SET = "StatefulSet"


class Workload(ApiModel):
    """A Deployment or StatefulSet of the pair's namespace."""

    kind: WorkloadKind = Field(description="Deployment or StatefulSet.")
    name: str = Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Name of the workload.")
    replicas: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="How many pods it gets when its side becomes the live one. Left out: as many as it had when its "
        "side was last live, or 1.",
    )


class SideSpec(ApiModel):
    """One side's workloads."""

    workloads: tuple[Workload, ...] = Field(
        min_length=1,
        max_length=16,
        description="What uses the volumes on this side. Stopped when the side is fenced, started when it becomes "
        "the live one.",
        json_schema_extra=map_by("kind", "name"),
    )


class Sides(ApiModel):
    """Both sides of the application."""

    model_config = rules(
        rule(
            "!self.source.workloads.exists(s, self.target.workloads.exists(t, s.kind == t.kind && s.name == t.name))",
            "a workload cannot be on both sides: the standby is one of its own, that mounts the target claims",
            field=".target.workloads",
        )
    )

    source: SideSpec = Field(description="The application as it is: it mounts the source claims.")
    target: SideSpec = Field(description="The standby: it mounts the target claims, and is started by a failover.")


class ServiceStrategy(StrEnum):
    """How a Service is turned to the live side."""

    MANAGED = "Managed"
    LABEL = "Label"


class PortProtocol(StrEnum):
    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"


class ServicePort(ApiModel):
    """One port of a managed Service."""

    name: str | None = Field(
        default=None, max_length=63, pattern=DNS_LABEL, description="Needed where there are several ports."
    )
    port: int = Field(ge=1, le=65535, description="Port of the Service.")
    target_port: int | None = Field(
        default=None, ge=1, le=65535, description="Port of the pods. Left out: the same as port."
    )
    protocol: PortProtocol = Field(default=PortProtocol.TCP, description="TCP (default), UDP or SCTP.")


class ServiceWorkloads(ApiModel):
    """Which workload of each side answers."""

    source: str = Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Of the source side.")
    target: str = Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Of the target side.")


class Service(ApiModel):
    """A Service that follows the live side."""

    model_config = rules(
        rule(
            "(self.strategy == 'Managed') == (has(self.ports) && size(self.ports) > 0)",
            "a Managed Service needs ports; a Label Service is your own and has its ports already",
            field=".ports",
        ),
        rule(
            "!has(self.ports) || size(self.ports) < 2 || self.ports.all(p, has(p.name))",
            "with several ports each needs a name",
            field=".ports",
        ),
    )

    name: str = Field(min_length=1, max_length=63, pattern=DNS_LABEL, description="Name of the Service.")
    strategy: ServiceStrategy = Field(
        default=ServiceStrategy.MANAGED,
        description="Managed (default): the operator makes the Service and turns its selector to the live side; a "
        "Service of that name that it did not make is refused. Label: the Service is yours, with the constant "
        "selector storagemirror.io/live: PAIR; the operator sets that label on the pods of the live side.",
    )
    ports: tuple[ServicePort, ...] = Field(
        default=(), max_length=16, description="Ports of a Managed Service.", json_schema_extra=ATOMIC
    )
    workloads: ServiceWorkloads | None = Field(
        default=None,
        description="Which workload of each side answers. Left out: the first of each side.",
    )


class Monitoring(ApiModel):
    """When the source counts as not heard any more."""

    model_config = rules(
        rule(
            "duration(self.interval) >= duration('500ms') && duration(self.interval) <= duration('60s')",
            "interval must be between 500ms and 60s",
            field=".interval",
        )
    )

    interval: Duration = Field(
        default="1s", description="The two agents hear each other at least this often while all is well."
    )
    missed: int = Field(
        default=5,
        ge=2,
        le=100,
        description="So many intervals without a word, and the source counts as not heard. That alone never fails "
        "over: its node must be out of touch as well.",
    )


class Approval(StrEnum):
    """Who decides."""

    MANUAL = "Manual"
    AUTOMATIC = "Automatic"


class ProofGrade(StrEnum):
    """What a fence is worth."""

    PROVEN = "Proven"
    ATTESTED = "Attested"


class Start(StrEnum):
    """How the standby is started."""

    SCALE = "Scale"
    GATE = "Gate"


class FailoverPolicy(ApiModel):
    """The rules of a failover."""

    model_config = rules(
        rule(
            "duration(self.maxLag) >= duration('0s')",
            "maxLag must be a duration such as 30s",
            field=".maxLag",
        )
    )

    approval: Approval = Field(
        default=Approval.MANUAL,
        description="Manual (default): when the source fails, a Failover is made that waits until a person sets "
        "spec.approved. Automatic: it goes on by itself, as far as the proofs reach.",
    )
    sufficient_proof: tuple[ProofGrade, ...] = Field(
        default=(ProofGrade.PROVEN,),
        min_length=1,
        max_length=4,
        description="Which proofs that a pod of the old side writes no more are enough. Proven (always): its kubelet "
        "reported every container ended. Attested: its node was deleted, or given the out-of-service taint, by a "
        "person or a fencing controller that knows that it is off; a wrong word there makes two writers.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    max_lag: Duration = Field(
        default="30s",
        description="A copy that was further behind than this when the source was last heard is not promoted, unless "
        "the Failover accepts the loss. 0s: no limit.",
    )
    start: Start = Field(
        default=Start.SCALE,
        description="Scale (default): the standby's workloads stand at zero, and are scaled up. Gate: they stand at "
        "full count in Git, and the admission gate keeps their pods away until the side is live.",
    )
