"""Is the source missed, by either of those who listen for it? Cheap: from the agents' Leases alone."""

from __future__ import annotations

from storagemirror.contract import PeerState, Role
from storagemirror.plan.lifecycle import SILENT_SECONDS
from storagemirror.plan.observed import AgentSeen, Heard, Observed


def source_missed(observed: Observed) -> bool:
    """Whether a target agent has lost its source agent, or a source agent's Lease has not moved for long."""
    return any(_missed(agent) for agent in observed.agents.values())


def _missed(agent: AgentSeen) -> bool:
    if not isinstance(agent.heard, Heard):
        return False
    if agent.ref.role is Role.SOURCE:
        return agent.heard.silent_for >= SILENT_SECONDS
    report = agent.heard.report
    return report is not None and report.peer is not None and report.peer.state is PeerState.LOST
