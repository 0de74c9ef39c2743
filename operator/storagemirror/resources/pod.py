"""The agent's pod."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from storagemirror.api.agents import Agents, Privilege
from storagemirror.contract import AGENT_PORT, Role
from storagemirror.resources import guard, labels, tracer
from storagemirror.resources.names import AgentRef, digest
from storagemirror.resources.placement import ANYWHERE, NO_WRITER, Placement, WriterTraits

NOBODY = 65532
"""User of a Restricted agent where the writer's is not known, or is root."""

SOURCE_CAPABILITIES = ("DAC_OVERRIDE", "FOWNER")
"""Read every file, without touching its access time. DAC_OVERRIDE covers what DAC_READ_SEARCH would, and is within
the PodSecurity level baseline, which DAC_READ_SEARCH is not."""
TARGET_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP")
"""Write every file with its owner, mode (FSETID: the setuid bits too), file capabilities and device nodes."""

GRACE_SECONDS = {Role.SOURCE: 3, Role.TARGET: 10}
"""A source agent must be off a node within 5 s; a target agent may finish writing what it has received."""

NO_MESH = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
}
"""Agents speak TLS of their own, and a sidecar would keep a stopped one alive."""

UNEVICTABLE = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "true"}
"""Scratch space is no reason to keep a node."""


@dataclass(frozen=True)
class Image:
    """What agents run."""

    name: str
    pull_policy: str = "IfNotPresent"


@dataclass(frozen=True)
class PodInput:
    """Everything that an agent's pod is made of."""

    ref: AgentRef
    instance: int
    claim: str
    image: Image
    agents: Agents
    writer: WriterTraits = NO_WRITER
    placement: Placement = ANYWHERE
    guarded: bool = False
    """With guards, which can freeze the volume, and a tracer, which opens the kernel's trace of it. Of a source agent,
    where pair and namespace allow it."""


def settings_digest(claim: str, image: Image, agents: Agents, guarded: bool = False) -> str:
    """Of what a person (or an upgrade) can change: a pod with another digest is made anew."""
    return digest((claim, image, agents.model_dump_json(), *(("guarded", "traced") if guarded else ())))


def writer_digest(agents: Agents, writer: WriterTraits) -> str:
    """Of what is taken over from the writer and decides what the agent can read."""
    if agents.privilege is not Privilege.RESTRICTED:
        return digest(writer.se_linux)
    return digest((writer.se_linux, writer.run_as_user, writer.run_as_group, writer.groups))


def agent_pod(given: PodInput) -> dict[str, Any]:
    """The pod, controlled by the pair (`kubectl drain` refuses pods without a controller)."""
    ref, agents = given.ref, given.agents
    annotations = {
        **agents.pod_annotations,
        **NO_MESH,
        **UNEVICTABLE,
        labels.INSTANCE: str(given.instance),
        labels.SETTINGS: settings_digest(given.claim, given.image, agents, given.guarded),
        labels.WRITER: writer_digest(agents, given.writer),
    }
    if given.placement.avoid is not None:
        annotations[labels.APART] = given.placement.apart.value
    if given.placement.node is not None:
        annotations[labels.NODE] = given.placement.node
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": ref.pod_name(given.instance),
            "namespace": ref.namespace,
            # The label as well as the annotation: newer meshes read only that.
            "labels": {**agents.pod_labels, "sidecar.istio.io/inject": "false", **ref.labels},
            "annotations": annotations,
            "ownerReferences": [ref.owner(controller=True)],
        },
        "spec": _pod_spec(given),
    }


def _pod_spec(given: PodInput) -> dict[str, Any]:
    ref, agents = given.ref, given.agents
    spec: dict[str, Any] = {
        "serviceAccountName": ref.base,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": GRACE_SECONDS[ref.role],
        "securityContext": _pod_security(given),
        "containers": [_container(given)],
        "volumes": [
            # Never the claim's own readOnly: it would attach the whole volume read-only, under the application too.
            {"name": "volume", "persistentVolumeClaim": {"claimName": given.claim}},
            {"name": "tls", "secret": {"secretName": ref.base}},
            {"name": "scratch", "emptyDir": {}},
        ],
    }
    if given.guarded:
        spec["containers"] += guard.guard_containers(given.image.name, given.image.pull_policy, agents)
        spec["containers"].append(tracer.tracer_container(given.image.name, given.image.pull_policy, agents))
        spec["volumes"] += [dict(guard.SHARED), dict(tracer.SHARED)]
    if agents.image_pull_secrets:
        spec["imagePullSecrets"] = [{"name": secret.name} for secret in agents.image_pull_secrets]
    tolerations = [t.dump() for t in agents.tolerations]
    tolerations += [found for t in given.writer.tolerations if (found := dict(t)) not in tolerations]
    if tolerations:
        spec["tolerations"] = tolerations
    priority = agents.priority_class_name or given.writer.priority_class
    if priority:
        spec["priorityClassName"] = priority
    affinity = given.placement.affinity()
    if affinity is not None:
        spec["affinity"] = affinity
    return spec


def _pod_security(given: PodInput) -> dict[str, Any]:
    """Never fsGroup: the kubelet would change owners all over the volume."""
    found: dict[str, Any] = {"seccompProfile": {"type": "RuntimeDefault"}}
    writer = given.writer
    if writer.se_linux:
        found["seLinuxOptions"] = dict(writer.se_linux)
    if given.agents.privilege is not Privilege.RESTRICTED:
        found |= {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}
        return found
    user = writer.run_as_user or NOBODY
    found |= {"runAsNonRoot": True, "runAsUser": user, "runAsGroup": writer.run_as_group or user}
    if writer.groups:
        found["supplementalGroups"] = list(writer.groups)
    return found


def _container(given: PodInput) -> dict[str, Any]:
    ref = given.ref
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if given.agents.privilege is not Privilege.RESTRICTED:
        added = SOURCE_CAPABILITIES if ref.role is Role.SOURCE else TARGET_CAPABILITIES
        capabilities["add"] = list(added)
    found: dict[str, Any] = {
        "name": "agent",
        "image": given.image.name,
        "imagePullPolicy": given.image.pull_policy,
        "args": ["agent"],
        "env": _environment(given),
        "resources": given.agents.resources.dump(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": capabilities,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "volume", "mountPath": "/volume", "readOnly": ref.role is Role.SOURCE},
            {"name": "tls", "mountPath": "/tls", "readOnly": True},
            {"name": "scratch", "mountPath": "/scratch"},
        ],
    }
    if given.guarded:
        for beside in (guard, tracer):
            mount = {"name": beside.SHARED["name"], "mountPath": beside.DIRECTORY, "readOnly": True}
            found["volumeMounts"].append(mount)
    if ref.role is Role.TARGET or given.guarded:
        # Of the sources of several volumes one listens, to have all of them stand still together.
        found["ports"] = [{"name": "mirror", "containerPort": AGENT_PORT, "protocol": "TCP"}]
    return found


def _environment(given: PodInput) -> list[dict[str, Any]]:
    ref = given.ref
    plain = {
        "STORAGEMIRROR_NAMESPACE": ref.namespace,
        "STORAGEMIRROR_ORDER": ref.base,
        "STORAGEMIRROR_LEASE": ref.base,
        "STORAGEMIRROR_INSTANCE": str(given.instance),
        "STORAGEMIRROR_ROLE": ref.role.value,
        "TMPDIR": "/scratch",
    }
    if given.guarded:
        plain["STORAGEMIRROR_GUARD_PATH"] = guard.DIRECTORY
        plain["STORAGEMIRROR_TRACER_PATH"] = tracer.DIRECTORY
    fields = {
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
        "POD_IP": "status.podIP",
        "NODE_NAME": "spec.nodeName",
    }
    return [{"name": k, "value": v} for k, v in plain.items()] + [
        {"name": k, "valueFrom": {"fieldRef": {"fieldPath": v}}} for k, v in fields.items()
    ]
