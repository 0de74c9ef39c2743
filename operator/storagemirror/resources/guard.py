"""The two guards in the pod of a source agent: containers, and the directory that they share with it."""

from __future__ import annotations

from typing import Any

from storagemirror.api.agents import Agents
from storagemirror.resources.beside import container, shared

NAMES = ("guard-1", "guard-2")
"""Which of them is the guard, they make out between themselves; the other takes over when it dies."""

CAPABILITIES = ("DAC_READ_SEARCH", "IPC_LOCK", "SYS_ADMIN")
"""SYS_ADMIN freezes and thaws. IPC_LOCK keeps the guard in memory, so that it can thaw on a node that has none left.
DAC_READ_SEARCH opens the volume's root where that is another user's alone (mode 0700), as databases have it."""

DIRECTORY = "/guard"
SHARED = shared("guard")


def guard_containers(image: str, pull_policy: str, agents: Agents) -> list[dict[str, Any]]:
    """Both. With the claim mounted read-only: what freezes needs not write."""
    return [
        container(
            name,
            "guard",
            agents,
            image=image,
            pull_policy=pull_policy,
            capabilities=CAPABILITIES,
            directory=DIRECTORY,
        )
        for name in NAMES
    ]
