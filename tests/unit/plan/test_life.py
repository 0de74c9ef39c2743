"""A pair's life around the whole of gather, decide, execute, publish, in memory."""

from __future__ import annotations

from storagemirror.contract import Role
from tests.support.world import World


def test_a_pair_comes_to_replicate() -> None:
    world = World()
    world.usual()
    world.settle()
    assert world.status()["phase"] == "Replicating"
    assert world.condition("Ready") == ("True", "Replicating")
    assert [p["spec"]["nodeName"] for p in world.agents(Role.SOURCE)] == ["node-a"]
    assert world.condition("SeparateNodes") == ("True", "DifferentNodes")


def test_the_first_write_says_which_side_is_live() -> None:
    world = World()
    world.usual()
    world.pass_once()
    assert [address[0] for _, address in world.api.history if address[0] != "secrets"] == ["mirrorpairs"]
    assert (world.status()["epoch"], world.status()["activeSide"]) == (1, "Source")


def test_a_pass_with_nothing_to_do_writes_nothing() -> None:
    world = World()
    world.usual()
    world.settle()
    world.passes()
    before = world.api.writes
    for _ in range(5):
        world.pass_once()
    assert world.api.writes == before
