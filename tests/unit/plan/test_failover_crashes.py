"""The operator is killed before and after every single write of a failover, and always comes to the same end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.failover_world import FailoverWorld
from tests.support.world import NAMESPACE

ATTESTED = {"approval": "Automatic", "sufficientProof": ["Proven", "Attested"]}


def planned(world: FailoverWorld) -> None:
    world.failover()


def unplanned_by_hand(world: FailoverWorld) -> None:
    world.failover(mode="Unplanned")


def node_dies_and_is_called_dead(world: FailoverWorld) -> None:
    world.power_off("node-a")
    world.attest("node-a")


def cancelled_while_fencing(world: FailoverWorld) -> None:
    """The Failover is deleted when the source has been stopped."""
    world.failover()
    world.until("Draining")
    world.api.remove(("failovers", NAMESPACE, "now"))


SCENARIOS: dict[str, tuple[Callable[[FailoverWorld], None], str]] = {
    "planned": (planned, "Completed"),
    "unplanned by hand": (unplanned_by_hand, "Completed"),
    "node dies and is called dead": (node_dies_and_is_called_dead, "Completed"),
    "cancelled while fencing": (cancelled_while_fencing, "RolledBack"),
}


@pytest.fixture(scope="module")
def calm() -> FailoverWorld:
    """A pair that replicates."""
    world = FailoverWorld()
    world.protected(failover=ATTESTED)
    world.run(15)
    assert world.status()["phase"] == "Replicating"
    return world


def run(
    calm: FailoverWorld, scenario: Callable[[FailoverWorld], None], kill_at: int | None
) -> tuple[FailoverWorld, bool]:
    """The scenario to its end; the operator dies right after its write number `kill_at`. (Dying before a write is dying
    after the one before it.)"""
    world = calm.copy()
    scenario(world)
    died = world.dies_after(kill_at) if kill_at is not None else False
    world.ends()
    return world, died


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_write_it_comes_to_the_same_end(calm: FailoverWorld, name: str) -> None:
    scenario, phase = SCENARIOS[name]
    straight, _ = run(calm, scenario, None)
    assert straight.outcome()["operation"][0] == phase
    number = 0
    while True:
        number += 1
        world, died = run(calm, scenario, number)
        if not died:
            break
        assert world.two_writers == []
        assert world.outcome() == straight.outcome(), f"killed after write {number}"
    assert number > 6
