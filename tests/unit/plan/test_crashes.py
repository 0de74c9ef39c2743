"""The operator is killed before and after every single write, and always comes to the same end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.world import NAMESPACE, World


def made(world: World) -> None:
    """A pair is made from nothing."""
    world.usual()


def made_with_a_template(world: World) -> None:
    """The target claim has to be made first."""
    world.claim("orders-data")
    world.writer("orders-0", "node-a")
    template = {"resources": {"requests": {"storage": "10Gi"}}}
    target = {"claimName": "orders-standby", "claimTemplate": template}
    world.pair(volumes=[{"name": "data", "source": {"claimName": "orders-data"}, "target": target}])


def moved(world: World) -> None:
    """The application moves to another node."""
    world.usual()
    world.settle()
    world.api.remove(("pods", NAMESPACE, "orders-0"))
    world.writer("orders-1", "node-c")


def changed(world: World) -> None:
    """Both agents get other settings."""
    world.usual()
    world.settle()
    world.pair(agents={"podLabels": {"team": "shop"}})


def confirmed(world: World) -> None:
    """A hold is let through: only orders change."""
    world.usual()
    world.settle()
    world.pair(mirror={"confirm": "token"})


SCENARIOS = (made, made_with_a_template, moved, changed, confirmed)


def _binding(world: World) -> None:
    """The storage binds what was made."""
    for claim in world.api.all("persistentvolumeclaims"):
        if claim["status"].get("phase") != "Bound":
            world.claim(claim["metadata"]["name"])


def run(scenario: Callable[[World], None], kill_at: tuple[int, bool] | None) -> tuple[World, bool]:
    world = World()
    scenario(world)
    died = False
    if kill_at is not None:
        died = world.killed_at(*kill_at)
    world.settle()
    _binding(world)
    world.settle()
    return world, died


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
def test_killed_at_any_write_it_comes_to_the_same_end(scenario: Callable[[World], None]) -> None:
    straight, _ = run(scenario, None)
    assert straight.end()["phase"] == "Replicating"
    number = 0
    while True:
        number += 1
        worlds = [run(scenario, (number, after)) for after in (False, True)]
        for world, died in worlds:
            world.check()
            if died:
                assert world.end() == straight.end()
        if not any(died for _, died in worlds):
            break
    assert number > 3
