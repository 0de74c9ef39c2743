"""The heartbeat: a Lease that the operator makes and the agent alone fills."""

from __future__ import annotations

from typing import Any

from storagemirror.resources.names import AgentRef


def heartbeat_lease(ref: AgentRef) -> dict[str, Any]:
    """An empty Lease: its spec and its report belong to the agent."""
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": ref.metadata()}
