"""The tracer in the pod of a source agent: a container, and the directory that it shares with the engine.

A container of its own, and not the guard's work: the guard must stay so small that nothing keeps it from thawing, and
never waits; setting up a trace waits for locks of the kernel. And the guard keeps its AppArmor profile, which the
tracer cannot.
"""

from __future__ import annotations

from typing import Any

from storagemirror.api.agents import Agents

NAME = "tracer"

CAPABILITIES = ("DAC_READ_SEARCH", "SYS_ADMIN")
"""SYS_ADMIN mounts tracefs, in a mount that nobody else sees, and lists the subvolumes of a btrfs. DAC_READ_SEARCH: as
for the guards."""

DIRECTORY = "/tracer"
SHARED = {"name": NAME, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
"""Of its own: neither may the tracer touch the guards' lock and note, nor they its socket."""

_MEMORY = "32Mi"
_CPU_REQUEST, _CPU_LIMIT = "10m", "500m"
_CPU_GUARANTEED = "50m"


def tracer_container(image: str, pull_policy: str, agents: Agents) -> dict[str, Any]:
    """With the claim mounted read-only: which device is traced is read from that mount."""
    return {
        "name": NAME,
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": ["tracer"],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}],
        "resources": _resources(agents),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            # Kubernetes takes no SYS_ADMIN beside false.
            "allowPrivilegeEscalation": True,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": list(CAPABILITIES)},
            # The runtime's profile forbids to mount, and to write below /sys.
            "appArmorProfile": {"type": "Unconfined"},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "volume", "mountPath": "/volume", "readOnly": True},
            {"name": SHARED["name"], "mountPath": DIRECTORY},
        ],
    }


def _resources(agents: Agents) -> dict[str, Any]:
    """As a guard's (see there)."""
    request, limit = (_CPU_GUARANTEED, _CPU_GUARANTEED) if agents.resources.guaranteed else (_CPU_REQUEST, _CPU_LIMIT)
    return {"requests": {"cpu": request, "memory": _MEMORY}, "limits": {"cpu": limit, "memory": _MEMORY}}
