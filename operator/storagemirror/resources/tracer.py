"""The tracer in the pod of a source agent: a container, and the directory that it shares with the engine.

A container of its own, and not the guard's work: the guard must stay so small that nothing keeps it from thawing, and
never waits; setting up a trace waits for locks of the kernel. And the guard keeps its AppArmor profile, which the
tracer cannot.
"""

from __future__ import annotations

from typing import Any

from storagemirror.api.agents import Agents
from storagemirror.resources.beside import container, shared

NAME = "tracer"

CAPABILITIES = ("DAC_READ_SEARCH", "SYS_ADMIN")
"""SYS_ADMIN mounts tracefs, in a mount that nobody else sees, and lists the subvolumes of a btrfs. DAC_READ_SEARCH: as
for the guards."""

DIRECTORY = "/tracer"
SHARED = shared(NAME)
"""Of its own: neither may the tracer touch the guards' lock and note, nor they its socket."""


def tracer_container(image: str, pull_policy: str, agents: Agents) -> dict[str, Any]:
    """With the claim mounted read-only: which device is traced is read from that mount."""
    made = container(
        NAME, NAME, agents, image=image, pull_policy=pull_policy, capabilities=CAPABILITIES, directory=DIRECTORY
    )
    made["env"] = [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}]
    # The runtime's profile forbids to mount, and to write below /sys.
    made["securityContext"]["appArmorProfile"] = {"type": "Unconfined"}
    return made
