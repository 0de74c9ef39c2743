"""The two guards in the pod of a source agent: containers, and the directory that they share with it."""

from __future__ import annotations

from typing import Any

from storagemirror.api.agents import Agents

NAMES = ("guard-1", "guard-2")
"""Which of them is the guard, they make out between themselves; the other takes over when it dies."""

CAPABILITIES = ("DAC_READ_SEARCH", "IPC_LOCK", "SYS_ADMIN")
"""SYS_ADMIN freezes and thaws. IPC_LOCK keeps the guard in memory, so that it can thaw on a node that has none left.
DAC_READ_SEARCH opens the volume's root where that is another user's alone (mode 0700), as databases have it."""

DIRECTORY = "/guard"
SHARED = {"name": "guard", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}
"""In memory: the guard must not wait for a disk. Survives its containers, and goes with the pod."""

_MEMORY = "32Mi"
_CPU_REQUEST, _CPU_LIMIT = "10m", "500m"
_CPU_GUARANTEED = "50m"


def guard_containers(image: str, pull_policy: str, agents: Agents) -> list[dict[str, Any]]:
    """Both. With the claim mounted read-only: what freezes needs not write."""
    return [
        {
            "name": name,
            "image": image,
            "imagePullPolicy": pull_policy,
            "args": ["guard"],
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
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": "volume", "mountPath": "/volume", "readOnly": True},
                {"name": SHARED["name"], "mountPath": DIRECTORY},
            ],
        }
        for name in NAMES
    ]


def _resources(agents: Agents) -> dict[str, Any]:
    """Memory set aside whole. CPU too where the agent's own is: then the pod is Guaranteed, and the last to be killed
    where a node runs out of memory."""
    request, limit = (_CPU_GUARANTEED, _CPU_GUARANTEED) if agents.resources.guaranteed else (_CPU_REQUEST, _CPU_LIMIT)
    return {"requests": {"cpu": request, "memory": _MEMORY}, "limits": {"cpu": limit, "memory": _MEMORY}}
