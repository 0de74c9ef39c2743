"""Whatever happens, in whatever order: rules that always hold, and one end when all is quiet again."""

from __future__ import annotations

import os
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from storagemirror.contract import Role
from tests.support.fake_api import Killed
from tests.support.world import NAMESPACE, NODES, World

EXAMPLES = int(os.environ.get("STORAGEMIRROR_EXAMPLES", "25"))
"""How many histories; a campaign tries thousands."""
nodes = st.sampled_from(NODES)
Step = Callable[[World], None]


def _writer_on(node: str) -> Step:
    def step(world: World) -> None:
        world.api.remove(("pods", NAMESPACE, "orders-0"))
        world.writer("orders-0", node)

    return step


def _second_writer_on(node: str) -> Step:
    return lambda world: world.writer(f"other-{node}", node)


def _no_writer(world: World) -> None:
    for pod in world.api.all("pods"):
        if "storagemirror.io/pair" not in pod["metadata"].get("labels", {}):
            world.api.remove(("pods", NAMESPACE, pod["metadata"]["name"]))


def _force_delete(role: Role) -> Step:
    def step(world: World) -> None:
        for pod in world.agents(role):
            world.api.remove(("pods", NAMESPACE, pod["metadata"]["name"]))

    return step


def _evict(role: Role) -> Step:
    def step(world: World) -> None:
        for pod in world.agents(role):
            name = {"name": pod["metadata"]["name"], "namespace": NAMESPACE}
            world.api.put("pods", {"metadata": name, "status": {"phase": "Failed", "reason": "Evicted"}})

    return step


def _lose_order(role: Role) -> Step:
    def step(world: World) -> None:
        # The status remembers the number, once a pass has seen it.
        world.api.down = False
        world.pass_once()
        for found in world.api.all("configmaps"):
            if found["metadata"]["labels"]["storagemirror.io/role"] == role.value.lower():
                world.api.remove(("configmaps", NAMESPACE, found["metadata"]["name"]))

    return step


def _spoil_order(world: World) -> None:
    for found in world.api.all("configmaps"):
        name = {"name": found["metadata"]["name"], "namespace": NAMESPACE}
        world.api.put("configmaps", {"metadata": name, "data": {"order.json": "{}"}})


def _paused(paused: bool) -> Step:
    return lambda world: world.pair(paused=paused)


def _settings(team: str) -> Step:
    return lambda world: world.pair(agents={"podLabels": {"team": team}})


def _down(down: bool) -> Step:
    def step(world: World) -> None:
        world.api.down = down

    return step


def _restart(world: World) -> None:
    world.start_operator()


def _node_dies(node: str) -> Step:
    return lambda world: world.dead_nodes.add(node)


def _nodes_back(world: World) -> None:
    world.dead_nodes.clear()


def _time(seconds: int) -> Step:
    def step(world: World) -> None:
        for _ in range(seconds):
            if world.api.down:
                world.clock.sleep(1.0)
            else:
                world.tick()
            if not world.api.down:
                world.pass_once()

    return step


def _killed_at(number: int, after: bool) -> Step:
    def step(world: World) -> None:
        world.api.kill_at = (world.api.writes + number, after)

    return step


steps = st.one_of(
    nodes.map(_writer_on),
    nodes.map(_second_writer_on),
    st.just(_no_writer),
    st.sampled_from(Role).map(_force_delete),
    st.sampled_from(Role).map(_evict),
    st.sampled_from(Role).map(_lose_order),
    st.just(_spoil_order),
    st.booleans().map(_paused),
    st.sampled_from(("a", "b")).map(_settings),
    st.booleans().map(_down),
    st.just(_restart),
    nodes.map(_node_dies),
    st.just(_nodes_back),
    st.integers(1, 20).map(_time),
    st.builds(_killed_at, st.integers(1, 6), st.booleans()),
)


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.lists(steps, max_size=14))
def test_after_any_history_a_healthy_world_replicates(history: list[Step]) -> None:
    world = World()
    world.usual()
    for step in history:
        try:
            step(world)
        except Killed:
            world.start_operator()
    world.api.kill_at = None
    world.api.down = False
    world.dead_nodes.clear()
    _no_writer(world)
    world.writer("orders-0", "node-b")
    world.pair(paused=False)
    for _ in range(100):
        world.tick()
        world.pass_once()
        if world.replicates("node-b"):
            break
    assert world.replicates("node-b")
    world.check()
    world.settle()
    assert len(world.agents(Role.TARGET)) == 1
    before = world.api.writes
    world.passes()
    world.passes()
    assert world.api.writes == before
