"""A world whose copies are points, or not, and whose source's node dies: for tests of what may be promoted."""

from __future__ import annotations

from typing import Any

from storagemirror.clock import rfc3339
from storagemirror.contract import CopyPoint
from tests.support.failover_world import SOURCE, TARGET, FailoverWorld
from tests.support.world import World

AUTOMATIC = {"approval": "Automatic", "sufficientProof": ["Proven", "Attested"]}
BETWEEN = CopyPoint(promotable=False, reason="BetweenPoints", message="point 8 was not applied to its end yet")


def ago(world: World, seconds: float) -> str:
    """So many seconds before now."""
    return rfc3339(world.clock.now_ns() - int(seconds * 1e9))


def dies(world: FailoverWorld, seconds: int = 30) -> dict[str, Any]:
    """The source's node dies, and is called dead; what its Failover shows then."""
    world.power_off("node-a")
    world.attest("node-a")
    world.run(seconds)
    return dict(world.told("orders-1"))


def untouched(world: FailoverWorld) -> None:
    """Nothing was moved."""
    status = world.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Source", 1, ["Target"])
    assert (world.replicas(SOURCE), world.replicas(TARGET)) == (1, 0)
