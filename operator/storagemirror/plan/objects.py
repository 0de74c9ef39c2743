"""What is read of Kubernetes' own objects: only the fields that decisions need, decoded straight from JSON."""

from __future__ import annotations

import msgspec


class _Read(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what is read: unknown fields are skipped, absent ones have a default."""


class OwnerReference(_Read, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(_Read, frozen=True, kw_only=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()
    generation: int = 0


class PersistentVolumeClaimSource(_Read, frozen=True, kw_only=True):
    claim_name: str = ""
    read_only: bool = False


class PodVolume(_Read, frozen=True, kw_only=True):
    name: str = ""
    persistent_volume_claim: PersistentVolumeClaimSource | None = None


class VolumeMount(_Read, frozen=True, kw_only=True):
    name: str = ""
    read_only: bool = False


class SecurityContext(_Read, frozen=True, kw_only=True):
    run_as_user: int | None = None
    run_as_group: int | None = None
    fs_group: int | None = None
    supplemental_groups: tuple[int, ...] = ()
    se_linux_options: dict[str, str] | None = None


class Container(_Read, frozen=True, kw_only=True):
    name: str = ""
    security_context: SecurityContext | None = None
    volume_mounts: tuple[VolumeMount, ...] = ()


class PodSpec(_Read, frozen=True, kw_only=True):
    node_name: str = ""
    volumes: tuple[PodVolume, ...] = ()
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    security_context: SecurityContext | None = None
    tolerations: tuple[dict[str, str | int], ...] = ()
    priority_class_name: str = ""


class Waiting(_Read, frozen=True, kw_only=True):
    reason: str = ""
    message: str = ""


class Terminated(_Read, frozen=True, kw_only=True):
    reason: str = ""
    message: str = ""
    exit_code: int = 0


class Running(_Read, frozen=True, kw_only=True):
    started_at: str | None = None


class ContainerState(_Read, frozen=True, kw_only=True):
    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(_Read, frozen=True, kw_only=True):
    name: str = ""
    container_id: str = msgspec.field(default="", name="containerID")
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodCondition(_Read, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class PodStatus(_Read, frozen=True, kw_only=True):
    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: tuple[PodCondition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    ephemeral_container_statuses: tuple[ContainerStatus, ...] = ()

    @property
    def all_statuses(self) -> tuple[ContainerStatus, ...]:
        """Of every container, init and ephemeral ones too."""
        return (*self.init_container_statuses, *self.container_statuses, *self.ephemeral_container_statuses)


class Pod(_Read, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def claims(self) -> frozenset[str]:
        """Names of the claims that the pod mounts (of its own namespace)."""
        found = (v.persistent_volume_claim for v in self.spec.volumes)
        return frozenset(source.claim_name for source in found if source is not None)

    def mounts(self, claim: str) -> bool:
        """Whether the pod mounts the claim of that name."""
        return claim in self.claims

    def writes(self, claim: str) -> bool:
        """Whether a container of it may write the claim of that name."""
        volumes = {
            v.name
            for v in self.spec.volumes
            if v.persistent_volume_claim
            and v.persistent_volume_claim.claim_name == claim
            and not v.persistent_volume_claim.read_only
        }
        containers = (*self.spec.init_containers, *self.spec.containers)
        return any(m.name in volumes and not m.read_only for c in containers for m in c.volume_mounts)

    @property
    def over(self) -> bool:
        """Whether its phase says that it has ended. Good for placing an agent; proves nothing about writing."""
        return self.status.phase in ("Succeeded", "Failed")

    @property
    def leaving(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def ready(self) -> bool:
        """Whether its kubelet calls it Ready, and it is not on its way out."""
        return not self.leaving and any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class ClaimRequests(_Read, frozen=True, kw_only=True):
    storage: str = ""


class ClaimResources(_Read, frozen=True, kw_only=True):
    requests: ClaimRequests = ClaimRequests()


class ClaimSpec(_Read, frozen=True, kw_only=True):
    access_modes: tuple[str, ...] = ()
    volume_mode: str = "Filesystem"
    volume_name: str = ""
    storage_class_name: str | None = None
    resources: ClaimResources = ClaimResources()


class ClaimStatus(_Read, frozen=True, kw_only=True):
    phase: str = ""
    capacity: dict[str, str] = {}


class Claim(_Read, frozen=True, kw_only=True):
    """A PersistentVolumeClaim."""

    metadata: Meta = Meta()
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def bound(self) -> bool:
        return self.status.phase == "Bound"


class StorageClass(_Read, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    volume_binding_mode: str = "Immediate"


class Taint(_Read, frozen=True, kw_only=True):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(_Read, frozen=True, kw_only=True):
    taints: tuple[Taint, ...] = ()


OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
"""Taint by which a person or a fencing controller says that a node is off."""


class NodeStatus(_Read, frozen=True, kw_only=True):
    conditions: tuple[PodCondition, ...] = ()


class Node(_Read, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def out_of_service(self) -> bool:
        """Whether it bears the taint by which somebody says that it is off."""
        return any(t.key == OUT_OF_SERVICE for t in self.spec.taints)

    @property
    def ready(self) -> bool:
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    @property
    def ready_since(self) -> str | None:
        """When its readiness last changed, RFC 3339; None where nobody says."""
        return next((c.last_transition_time for c in self.status.conditions if c.type == "Ready"), None)


class ConfigMap(_Read, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    data: dict[str, str] = {}


class LeaseSpec(_Read, frozen=True, kw_only=True):
    holder_identity: str | None = None
    renew_time: str | None = None


class Lease(_Read, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    spec: LeaseSpec = LeaseSpec()


class PartialObject(_Read, frozen=True, kw_only=True):
    """Of anything, only its metadata."""

    metadata: Meta = Meta()


class LabelSelector(_Read, frozen=True, kw_only=True):
    match_labels: dict[str, str] = {}
    match_expressions: tuple[dict[str, object], ...] = ()


class PodTemplate(_Read, frozen=True, kw_only=True):
    metadata: Meta = Meta()
    spec: PodSpec = PodSpec()


class ClaimTemplateObject(_Read, frozen=True, kw_only=True):
    metadata: Meta = Meta()


class WorkloadSpec(_Read, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: PodTemplate = PodTemplate()
    volume_claim_templates: tuple[ClaimTemplateObject, ...] = ()


class WorkloadStatus(_Read, frozen=True, kw_only=True):
    replicas: int = 0
    ready_replicas: int = 0
    observed_generation: int = 0


class WorkloadObject(_Read, frozen=True, kw_only=True):
    """A Deployment or StatefulSet."""

    metadata: Meta = Meta()
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    def owns_by_labels(self, pod: Pod) -> bool:
        """Whether the pod bears all labels of its selector (matchLabels)."""
        wanted = self.spec.selector.match_labels
        return bool(wanted) and all(pod.metadata.labels.get(k) == v for k, v in wanted.items())


class ServicePortObject(_Read, frozen=True, kw_only=True):
    name: str = ""
    port: int = 0
    target_port: int | str | None = None
    protocol: str = "TCP"


class ServiceSpec(_Read, frozen=True, kw_only=True):
    selector: dict[str, str] = {}
    ports: tuple[ServicePortObject, ...] = ()
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    publish_not_ready_addresses: bool = False
    type: str = "ClusterIP"


class ServiceObject(_Read, frozen=True, kw_only=True):
    """A Service."""

    metadata: Meta = Meta()
    spec: ServiceSpec = ServiceSpec()


class TargetReference(_Read, frozen=True, kw_only=True):
    kind: str = ""
    name: str = ""
    uid: str = ""


class EndpointConditions(_Read, frozen=True, kw_only=True):
    ready: bool | None = None
    terminating: bool | None = None


class Endpoint(_Read, frozen=True, kw_only=True):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    target_ref: TargetReference | None = None


class EndpointPort(_Read, frozen=True, kw_only=True):
    name: str | None = None
    port: int | None = None
    protocol: str = "TCP"


class EndpointSlice(_Read, frozen=True, kw_only=True):
    """Its lists are null where they are empty."""

    metadata: Meta = Meta()
    endpoints: tuple[Endpoint, ...] | None = ()
    ports: tuple[EndpointPort, ...] | None = ()


class RequestSpecNames(_Read, frozen=True, kw_only=True):
    pair_name: str = ""


class RequestStatusNames(_Read, frozen=True, kw_only=True):
    ended_at: str | None = None


class RequestNames(_Read, frozen=True, kw_only=True):
    """Of a Failover or Restore: which pair it names, and whether it has ended."""

    metadata: Meta = Meta()
    spec: RequestSpecNames = RequestSpecNames()
    status: RequestStatusNames = RequestStatusNames()
