"""A node dies while the application is on its way home: the data is whole on a side that is named, and it goes on."""

from __future__ import annotations

import threading

import pytest

from tests.cluster.faults import Slowness
from tests.support import operators
from tests.support.case import Case
from tests.support.failover_case import Nodes
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.homeward import came_home, go_away, whole
from tests.support.operations import operation_is

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

BULK = 32 << 20
"""Takes half a minute at RATE."""
RATE = "8mbit"
BIG = "96Mi"


def test_home_dies_while_it_is_filled_or_waits_or_is_cut_over_to(case: Case, stages: Stages) -> None:
    filled, waiting, fenced = stages(filled=Shape(size=BIG), waiting=Shape(), fenced=Shape())
    node = filled.nodes.source
    go_away(filled, waiting, fenced)
    waiting.restore("waiting-home", cut_over="Manual")
    waiting.until_phase("waiting-home", "AwaitingCutOver")
    fenced.debug(side="target")
    fenced.restore("fenced-home")
    fenced.until_phase("fenced-home", "Fencing")
    case.cluster.slow(node, Slowness(rate=RATE))
    (filled.target.path() / "bulk").write_bytes(bytes(range(256)) * (BULK // 256))
    filled.restore("filled-home")
    filled.until_phase("filled-home", "Mirroring")
    half = filled.source.path() / "bulk"
    filled.until("the bulk to be on its way", lambda: "progress" in filled.volume() or half.exists(), 30)

    case.cluster.power_off(node)
    case.cluster.slow(node, Slowness())
    filled.until_reason("filled-home", "HomeNotHeard")
    for stage in (filled, waiting):
        stage.until_answers("target")
        assert stage.operation()["wholeOn"] == ["Target"]
        whole(stage, {"wholeOn": ["Target"]})
    assert fenced.status()["activeSide"] == "Target"
    assert "Target" in fenced.operation()["wholeOn"]
    case.cluster.boot(node)
    filled.until_phase("filled-home", "Completed", seconds=120)
    came_home(filled)
    waiting.until_phase("waiting-home", "AwaitingCutOver", seconds=90)
    waiting.approve("waiting-home")
    case.kubectl("delete", "pod", "debug", "--timeout=60s")
    for stage in (waiting, fenced):
        stage.until_phase(f"{stage.name}-home", "Completed", seconds=120)
        came_home(stage)


def test_the_live_side_dies_while_it_is_copied_and_when_it_is_cut_over(case: Case, stages: Stages) -> None:
    first, second = operators.settled(case.cluster)
    free = next(node for node in case.cluster.node_names if node not in {first.node, second.node})
    copied, drained = stages(
        copied=Shape(size=BIG), drained=Shape(), nodes=Nodes(source=first.node, target=free, witness=second.node)
    )
    go_away(copied, drained)
    dead = threading.Event()

    def power_off(_: object) -> None:
        case.cluster.power_off(free)
        dead.set()

    case.cluster.slow(free, Slowness(rate=RATE))
    (copied.target.path() / "bulk").write_bytes(bytes(range(256)) * (BULK // 256))
    copied.restore("copied-home")
    copied.until_phase("copied-home", "Mirroring")
    drained.watch_pair().once(operation_is("Draining"), power_off)
    drained.restore("drained-home")
    drained.until("the live side's node to lose its power", dead.is_set, 90)
    case.cluster.slow(free, Slowness())

    copied.until_reason("copied-home", "LiveSideNotHeard")
    told = copied.outcome("copied-home")
    assert told["phase"] == "Mirroring"
    assert told["wholeOn"] == ["Target"], "home is not whole, and the live side is off"
    assert drained.operation()["wholeOn"]
    case.cluster.boot(free)
    whole(copied, told)
    copied.until_phase("copied-home", "Completed", seconds=180)
    came_home(copied)
    done = drained.until_phase("drained-home", "Completed", "RolledBack", seconds=330)
    if done["phase"] == "Completed":
        came_home(drained)
    else:
        drained.until_answers("target", 120)
        whole(drained, done)
