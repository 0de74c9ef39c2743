"""spec.agents: rights, size and placement of the agent pods."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from storagemirror.api.model import ATOMIC, DNS_SUBDOMAIN, ApiModel, Quantity, map_by, rule, rules

_OURS = "'storagemirror.io/'"
_KEPT = (
    rule(
        f"!self.exists(k, k.startsWith({_OURS}) || k.startsWith('app.kubernetes.io/'))",
        "keys that begin with storagemirror.io/ or app.kubernetes.io/ are set by the operator",
    ),
)


class Privilege(StrEnum):
    """What an agent may do inside its container."""

    RESTRICTED = "Restricted"
    BASELINE = "Baseline"
    FREEZE = "Freeze"


class TolerationOperator(StrEnum):
    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """As in a pod."""

    key: str | None = Field(default=None, max_length=316, description="The taint's key. Left out: every key.")
    operator: TolerationOperator | None = Field(
        default=None, description="Equal (default): key and value must match. Exists: the key is enough."
    )
    value: str | None = Field(default=None, max_length=63, description="The taint's value, with operator Equal.")
    effect: TaintEffect | None = Field(default=None, description="The taint's effect. Left out: every effect.")
    toleration_seconds: int | None = Field(
        default=None,
        description="With NoExecute: how long the pod stays after the taint appeared. Left out: for ever.",
        json_schema_extra={"format": "int64"},
    )


class SecretName(ApiModel):
    """A Secret of the pair's namespace."""

    name: str = Field(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN, description="Name of the Secret.")


class ResourceRequests(ApiModel):
    """What is set aside for an agent."""

    cpu: Quantity = Field(default="25m", description="CPU set aside for an agent; an idle one needs next to none.")
    memory: Quantity = Field(
        default="64Mi", description="Memory set aside for an agent; an idle one needs 45 MB or less."
    )
    ephemeral_storage: Quantity | None = Field(
        default=None,
        alias="ephemeral-storage",
        description="Node disk set aside for an agent's scratch space. Set it where a quota asks for it.",
    )


class ResourceLimits(ApiModel):
    """What an agent may use at most."""

    cpu: Quantity = Field(default="2", description="CPU that an agent may use at most, while it mirrors.")
    memory: Quantity = Field(
        default="512Mi",
        description="Memory that an agent may use at most. Volumes with many millions of files need more.",
    )
    ephemeral_storage: Quantity | None = Field(
        default=None,
        alias="ephemeral-storage",
        description="Node disk that an agent's scratch space may use at most. Set it where a quota asks for it.",
    )


class AgentResources(ApiModel):
    """Requests and limits, always both, so that quotas that ask for them are met."""

    model_config = rules(
        rule(
            "quantity(string(self.requests.cpu)).compareTo(quantity(string(self.limits.cpu))) <= 0",
            "requests.cpu must not be more than limits.cpu",
            field=".requests.cpu",
        ),
        rule(
            "quantity(string(self.requests.memory)).compareTo(quantity(string(self.limits.memory))) <= 0",
            "requests.memory must not be more than limits.memory",
            field=".requests.memory",
        ),
    )

    requests: ResourceRequests = Field(default=ResourceRequests(), description="What is set aside for each agent.")
    limits: ResourceLimits = Field(default=ResourceLimits(), description="What each agent may use at most.")

    @property
    def guaranteed(self) -> bool:
        """Whether CPU and memory are set aside whole."""
        return self.requests.cpu == self.limits.cpu and self.requests.memory == self.limits.memory


LabelValue = Annotated[str, Field(max_length=63)]
AnnotationValue = Annotated[str, Field(max_length=4096)]


class Agents(ApiModel):
    """The agent pods."""

    privilege: Privilege = Field(
        default=Privilege.BASELINE,
        description="What agents may do inside their containers. Baseline (default): root with just the "
        "capabilities that keep owners, modes and device files (DAC_OVERRIDE, CHOWN, FOWNER, FSETID, SETFCAP, MKNOD); "
        "works where the namespace enforces the PodSecurity level baseline. Restricted: no root, the user of the "
        "pod that writes the source; works everywhere, but owners and files that this user cannot read or set are "
        "not kept, and counted in status.volumes[].notKept. Freeze: as Baseline, with small containers beside the "
        "source's agent: two that may freeze the source's file system for a moment (SYS_ADMIN, IPC_LOCK, "
        "DAC_READ_SEARCH), so that points in time can be taken, and one that opens the kernel's trace of it for the "
        "agent (SYS_ADMIN, DAC_READ_SEARCH, AppArmor unconfined). Needs a namespace that allows it: the annotation "
        'storagemirror.io/privileged-agents: "true", and the PodSecurity level privileged.',
    )
    resources: AgentResources = Field(
        default=AgentResources(), description="CPU and memory of each agent. What is left out has a default."
    )
    tolerations: tuple[Toleration, ...] = Field(
        default=(),
        max_length=16,
        description="Taints that agents tolerate, besides those that the pod that writes the source tolerates.",
        json_schema_extra=ATOMIC,
    )
    priority_class_name: str | None = Field(
        default=None,
        max_length=253,
        pattern=DNS_SUBDOMAIN,
        description="Priority class of the agents. Left out: that of the pod that writes the source, so that an "
        "agent never pushes the application off its node. Do not set a higher one.",
    )
    pod_labels: dict[str, LabelValue] = Field(
        default_factory=dict,
        max_length=32,
        description="More labels for the agent pods, such as your network policies or accounting ask for.",
        json_schema_extra={"x-kubernetes-validations": list(_KEPT)},
    )
    pod_annotations: dict[str, AnnotationValue] = Field(
        default_factory=dict,
        max_length=32,
        description="More annotations for the agent pods.",
        json_schema_extra={"x-kubernetes-validations": list(_KEPT)},
    )
    image_pull_secrets: tuple[SecretName, ...] = Field(
        default=(),
        max_length=8,
        description="Secrets of this namespace with which the agents' image is pulled.",
        json_schema_extra=map_by("name"),
    )
