"""Containers with a privilege beside a source agent's engine: each does one thing, and has the volume read-only."""

from __future__ import annotations

from typing import Any

from storagemirror.api.agents import Agents

_MEMORY = "32Mi"
_CPU_REQUEST, _CPU_LIMIT = "10m", "500m"
_CPU_GUARANTEED = "50m"


def shared(name: str) -> dict[str, Any]:
    """A volume that such a container and the engine share. In memory: nobody must wait for a disk. Survives its
    containers, and goes with the pod."""
    return {"name": name, "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}


def container(
    name: str, verb: str, agents: Agents, *, image: str, pull_policy: str, capabilities: tuple[str, ...], directory: str
) -> dict[str, Any]:
    """Runs `storagemirror VERB`, as root with these capabilities alone; `directory`: where `shared(verb)` is."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": pull_policy,
        "args": [verb],
        "resources": _resources(agents),
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            # Kubernetes takes no SYS_ADMIN beside false.
            "allowPrivilegeEscalation": True,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": list(capabilities)},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "volume", "mountPath": "/volume", "readOnly": True},
            {"name": verb, "mountPath": directory},
        ],
    }


def _resources(agents: Agents) -> dict[str, Any]:
    """Memory set aside whole. CPU too where the agent's own is: then the pod is Guaranteed, and the last to be killed
    where a node runs out of memory."""
    request, limit = (_CPU_GUARANTEED, _CPU_GUARANTEED) if agents.resources.guaranteed else (_CPU_REQUEST, _CPU_LIMIT)
    return {"requests": {"cpu": request, "memory": _MEMORY}, "limits": {"cpu": limit, "memory": _MEMORY}}
