"""A copy is called whole only while it is known to be: of these claims, and with nobody who may have written unseen."""

from __future__ import annotations

import pytest

from storagemirror.contract import Role
from tests.support.world import NAMESPACE, World


def idle() -> World:
    """Replicating, with the application at zero and the source's agent gone."""
    world = World()
    world.usual()
    world.settle()
    world.api.remove(("pods", NAMESPACE, "orders-0"))
    live(world, 90)
    assert world.agents(Role.SOURCE) == []
    assert world.condition("Ready") == ("True", "Replicating")
    return world


def live(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.tick()
        world.pass_once()
        world.check()


@pytest.mark.parametrize("name", ["orders-data", "orders-standby"])
def test_a_claim_made_anew_while_nobody_uses_the_source_is_mirrored_from_the_start(name: str) -> None:
    world = idle()
    world.api.remove(("persistentvolumeclaims", NAMESPACE, name))
    live(world, 20)
    assert world.condition("ClaimsReady") == ("False", "ClaimMissing")
    numbers = {role: world.order(role).instance for role in Role}
    sources = {name for name in world.worn if "-source-" in name}
    world.claim(name)
    world.pass_once()
    assert world.condition("Ready")[0] == "False", "the copy of another volume is called whole"
    assert "lastFullMirror" not in world.status()["volumes"][0]
    assert "syncedThrough" not in world.status()
    live(world, 20)
    assert {name for name in world.worn if "-source-" in name} > sources, "no agent has read the source"
    assert all(world.order(role).instance > numbers[role] for role in Role)
    assert world.condition("Ready") == ("True", "Replicating")
    live(world, 80)
    assert world.agents(Role.SOURCE) == []
    assert world.condition("Ready") == ("True", "Replicating")


def test_a_claim_made_anew_under_running_agents_replaces_both() -> None:
    world = World()
    world.usual()
    world.settle()
    before = {p["metadata"]["name"] for p in world.agents()}
    world.api.remove(("persistentvolumeclaims", NAMESPACE, "orders-standby"))
    world.claim("orders-standby")
    live(world, 20)
    assert before.isdisjoint(p["metadata"]["name"] for p in world.agents())
    assert world.replicates("node-a")


def test_what_was_written_while_no_operator_looked_is_mirrored() -> None:
    world = idle()
    world.clock.sleep(3600.0)  # a writer came and went
    world.start_operator()
    world.settle()
    assert len(world.agents(Role.SOURCE)) == 1
    live(world, 80)
    assert world.agents(Role.SOURCE) == []
    assert world.condition("Ready") == ("True", "Replicating")


def test_what_was_written_while_the_volume_was_out_of_the_pair_is_mirrored() -> None:
    other = {"name": "more", "source": {"claimName": "more-data"}, "target": {"claimName": "more-standby"}}
    data = {"name": "data", "source": {"claimName": "orders-data"}, "target": {"claimName": "orders-standby"}}
    world = idle()
    world.pair(volumes=[other])
    live(world, 10)
    world.pair(volumes=[data])
    live(world, 10)
    assert len(world.agents(Role.SOURCE)) == 1


def test_an_order_that_somebody_set_back_gives_out_no_number_twice() -> None:
    world = World()
    world.usual()
    world.settle()
    for _ in range(3):  # the application moves, its agent follows
        for node in ("node-b", "node-a"):
            world.api.remove(("pods", NAMESPACE, "orders-0"))
            world.writer("orders-0", node)
            live(world, 10)
    number = world.order(Role.SOURCE).instance
    found = next(c for c in world.api.all("configmaps") if c["metadata"]["labels"]["storagemirror.io/role"] == "source")
    text = found["data"]["order.json"].replace(f'"instance":{number}', '"instance":2')
    meta = {"name": found["metadata"]["name"], "namespace": NAMESPACE}
    world.api.put("configmaps", {"metadata": meta, "data": {"order.json": text}})
    live(world, 20)
    assert world.order(Role.SOURCE).instance >= number
    assert world.replicates("node-a")
