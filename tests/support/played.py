"""What most tests of the operator begin with: a pair, and a pair that replicates."""

from __future__ import annotations

from typing import Any

from tests.support.operator_process import eventually
from tests.support.pairs import Playground


def usual(play: Playground, **spec: Any) -> None:
    """Two claims, a writer on node-a, a pair."""
    play.claim("orders-data")
    play.claim("orders-standby")
    play.writer("orders-0", "orders-data")
    play.pair(**spec)


def live(play: Playground, role: str) -> list[dict[str, Any]]:
    """Agents that are not on their way out."""
    return [p for p in play.agents(role) if "deletionTimestamp" not in p["metadata"]]


def replicating(play: Playground, **spec: Any) -> None:
    usual(play, **spec)
    eventually("both agents", lambda: len(play.agents()) == 2)
    play.replicate()
    eventually("Replicating", lambda: play.says("Ready", "True", "Replicating"))
