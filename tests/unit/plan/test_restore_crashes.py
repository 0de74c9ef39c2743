"""The operator is killed after every single write of a restore, and always comes to the same end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.failover_world import FailoverWorld
from tests.support.world import NAMESPACE


def home(world: FailoverWorld) -> None:
    world.restore()


def cancelled_while_fencing(world: FailoverWorld) -> None:
    """The Restore is deleted when the live side has been stopped."""
    world.restore()
    world.until("Draining")
    world.api.remove(("restores", NAMESPACE, "home"))


def cancelled_while_mirroring(world: FailoverWorld) -> None:
    world.keeps = False
    world.restore()
    world.until("Mirroring")
    world.run(3)
    world.api.remove(("restores", NAMESPACE, "home"))


def elsewhere(world: FailoverWorld) -> None:
    world.claim("copy")
    world.restore(epoch=None, to={"volumes": [{"name": "data", "claimName": "copy"}]})


SCENARIOS: dict[str, tuple[Callable[[FailoverWorld], None], str]] = {
    "home": (home, "Completed"),
    "cancelled while fencing": (cancelled_while_fencing, "RolledBack"),
    "cancelled while mirroring": (cancelled_while_mirroring, "RolledBack"),
    "elsewhere": (elsewhere, "Completed"),
}


@pytest.fixture(scope="module")
def away() -> FailoverWorld:
    """A pair that has been failed over."""
    world = FailoverWorld()
    world.protected()
    world.run(15)
    world.failover()
    world.ends()
    assert world.status()["phase"] == "FailedOver"
    return world


def run(
    away: FailoverWorld, scenario: Callable[[FailoverWorld], None], kill_at: int | None
) -> tuple[FailoverWorld, bool]:
    """The scenario to its end; the operator dies right after its write number `kill_at`."""
    world = away.copy()
    scenario(world)
    died = world.dies_after(kill_at) if kill_at is not None else False
    world.ends()
    world.run(12)
    return world, died


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_write_it_comes_to_the_same_end(away: FailoverWorld, name: str) -> None:
    scenario, phase = SCENARIOS[name]
    straight, _ = run(away, scenario, None)
    assert straight.outcome()["operation"][0] == phase
    number = 0
    while True:
        number += 1
        world, died = run(away, scenario, number)
        if not died:
            break
        assert world.two_writers == []
        assert world.outcome() == straight.outcome(), f"killed after write {number}"
    assert number > 2
