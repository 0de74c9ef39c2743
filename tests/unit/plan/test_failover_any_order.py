"""Whatever happens around a failover and a restore, in whatever order: never two writers, and rules that always hold.

Left out of the histories are the things after which two writers are somebody's own fault, and said so: a word that a
node is off which is on, a person's `acceptSplitBrain`, and a gate that is taken away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagemirror.api.operation import ENDED, FENCED, OperationPhase
from tests.support.failover_world import SOURCE, TARGET, FailoverWorld
from tests.support.world import NAMESPACE, Killed

EXAMPLES = int(os.environ.get("STORAGEMIRROR_EXAMPLES", "15"))
"""How many histories; a campaign tries thousands."""
Step = Callable[[FailoverWorld], None]
NODES = st.sampled_from(("node-a", "node-b"))


def _power_off(called: bool) -> Step:
    def step(world: FailoverWorld) -> None:
        if "node-a" in world.cut_nodes:
            return
        world.power_off("node-a")
        if called:
            world.attest("node-a")

    return step


def _boot(world: FailoverWorld) -> None:
    """The old node is back: its kubelet has heard nothing and starts what the API still binds to it."""
    if "node-a" not in world.dead_nodes:
        return
    world.dead_nodes.discard("node-a")
    for name, (_, node) in list(world._containers.items()):
        if node == "node-a" and ("pods", NAMESPACE, name) not in world.api.objects:
            del world._containers[name]
        pod = world.api.objects.get(("pods", NAMESPACE, name))
        if pod is not None and node == "node-a" and "deletionTimestamp" in pod["metadata"]:
            del world._containers[name]
    world.heal("node-a")
    world.api.put("nodes", {"metadata": {"name": "node-a"}, "spec": {"taints": []}})


def _cut(node: str) -> Step:
    def step(world: FailoverWorld) -> None:
        if node not in world.dead_nodes and "node-a" not in world.dead_nodes:
            world.cut(node)

    return step


def _heal(world: FailoverWorld) -> None:
    for node in list(world.cut_nodes):
        world.heal(node)


def _asked(mode: str, epoch: int, approved: bool) -> Step:
    def step(world: FailoverWorld) -> None:
        name = f"f{len(world.api.all('failovers'))}"
        world.failover(name, mode=mode, epoch=epoch, approved=approved)

    return step


def _restored(epoch: int, cut_over: str) -> Step:
    def step(world: FailoverWorld) -> None:
        world.restore(f"r{len(world.api.all('restores'))}", epoch=epoch, cutOver=cut_over)

    return step


def _deleted(world: FailoverWorld) -> None:
    for kind in ("failovers", "restores"):
        for one in world.api.all(kind):
            world.api.remove((kind, NAMESPACE, one["metadata"]["name"]))


def _scaled(name: str, replicas: int) -> Step:
    return lambda world: world.workload(name, replicas)


def _forced(world: FailoverWorld) -> None:
    world.force_delete(SOURCE)


def _called_failed(world: FailoverWorld) -> None:
    for pod in world.api.all("pods"):
        if pod["metadata"].get("labels", {}).get("app") == SOURCE:
            named = {"name": pod["metadata"]["name"], "namespace": NAMESPACE}
            world.api.put("pods", {"metadata": named, "status": {"phase": "Failed", "reason": "NodeLost"}})


def _paused(paused: bool) -> Step:
    def step(world: FailoverWorld) -> None:
        spec = world.api.objects[("mirrorpairs", NAMESPACE, "orders")]["spec"]
        world.api.put(
            "mirrorpairs", {"metadata": {"name": "orders", "namespace": NAMESPACE}, "spec": {**spec, "paused": paused}}
        )

    return step


def _ready(ready: bool) -> Step:
    def step(world: FailoverWorld) -> None:
        world.ready = ready

    return step


def _restart(world: FailoverWorld) -> None:
    world.start_operator()


def _killed(number: int) -> Step:
    def step(world: FailoverWorld) -> None:
        world.api.kill_at = (world.api.writes + number, True)

    return step


@dataclass
class Watcher:
    """What must hold at every moment."""

    epoch: int = 0
    attempt: int = 0
    ended: dict[str, str] = field(default_factory=dict)

    def look(self, world: FailoverWorld) -> None:
        status = world.status()
        assert world.two_writers == [], world.two_writers
        assert status.get("epoch", 0) >= self.epoch
        assert status.get("attempt", 0) >= self.attempt
        self.epoch, self.attempt = status.get("epoch", 0), status.get("attempt", 0)
        phase = OperationPhase(world.operation().get("phase", "Pending"))
        if phase in FENCED - {OperationPhase.ROLLING_BACK}:
            assert status["closedSides"] == ["Source", "Target"]
        elif status.get("closedSides"):
            assert status["closedSides"] == (["Source"] if status["activeSide"] == "Target" else ["Target"])
        for one in (*world.api.all("failovers"), *world.api.all("restores")):
            uid, shown = one["metadata"]["uid"], one.get("status", {}).get("phase", "")
            assert self.ended.get(uid, shown) == shown, "an end is for ever"
            if shown in {p.value for p in ENDED}:
                self.ended[uid] = shown


def _time(seconds: int) -> Step:
    return lambda world: world.run(seconds)


steps = st.one_of(
    st.booleans().map(_power_off),
    st.just(_boot),
    NODES.map(_cut),
    st.just(_heal),
    st.builds(_asked, st.sampled_from(("Planned", "Unplanned")), st.integers(1, 3), st.booleans()),
    st.builds(_restored, st.integers(2, 4), st.sampled_from(("Automatic", "Manual"))),
    st.just(_deleted),
    st.builds(_scaled, st.sampled_from((SOURCE, TARGET)), st.integers(0, 2)),
    st.just(_forced),
    st.just(_called_failed),
    st.booleans().map(_paused),
    st.booleans().map(_ready),
    st.just(_restart),
    st.integers(1, 12).map(_killed),
    st.integers(1, 60).map(_time),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(("Manual", "Automatic")), st.lists(steps, max_size=16))
def test_two_sides_never_write_at_once(approval: str, history: list[Step]) -> None:
    world = FailoverWorld()
    world.protected(failover={"approval": approval, "sufficientProof": ["Proven", "Attested"]})
    world.run(15)
    watcher = Watcher()
    for step in history:
        try:
            step(world)
            world.run(1)
        except Killed:
            world.start_operator()
        watcher.look(world)
    world.api.kill_at = None
    for _ in range(30):
        world.run(1)
        watcher.look(world)


@settings(max_examples=max(4, EXAMPLES // 3), deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, max_size=12))
def test_nor_on_the_way_home(history: list[Step]) -> None:
    """The same from where the application has been moved, and is on its way back."""
    world = FailoverWorld()
    world.protected(failover={"sufficientProof": ["Proven", "Attested"]})
    world.run(15)
    world.failover()
    world.ends()
    world.restore()
    watcher = Watcher()
    for step in history:
        try:
            world.run(2)
            step(world)
        except Killed:
            world.start_operator()
        watcher.look(world)
    world.api.kill_at = None
    for _ in range(30):
        world.run(1)
        watcher.look(world)
