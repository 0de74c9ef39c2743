"""Fixtures of the failover tests: two operators, and stages on nodes that are chosen by where the operators run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.command import wait_for
from tests.support import operators
from tests.support.case import Case
from tests.support.failover_case import Nodes, Stage
from tests.support.failover_objects import Shape
from tests.support.node_words import mend_nodes
from tests.support.product import Product

Stages = Callable[..., list[Stage]]


@pytest.fixture(scope="module")
def two_operators(product: Product) -> Iterator[Product]:
    """The product as one has it who wants to survive a node: two replicas. (By Helm, which does not take back a number
    that `kubectl scale` has set.)"""
    product.install("--set", "replicas=2")
    yield product
    product.install()
    wait_for("one operator to be left", lambda: len(operators.pods(product.cluster)) == 1, 60)


def choose(case: Case, dying: str) -> Nodes:
    """Nodes for a stage. `dying` says who runs on the source's node, which is to die: "leader", "follower" or "nobody"
    of the operators."""
    first, second = operators.settled(case.cluster)
    taken = {first.node, second.node}
    free = next(node for node in case.cluster.node_names if node not in taken)
    source = {"leader": first.node, "follower": second.node, "nobody": free}[dying]
    target, witness = sorted(set(case.cluster.node_names) - {source})
    return Nodes(source, target, witness)


@pytest.fixture
def stages(two_operators: Product, case: Case, tmp_path: Path) -> Iterator[Stages]:
    """Makes stages: `stages(Shape(), other=Shape(...), dying="leader")`. The unnamed ones are called p, p1, ... They
    stand on `nodes` where these are given, else on some that `choose` finds. Ready to fail over, or (`paired=False`)
    with an application that runs and no pair yet."""
    made: list[Stage] = []

    def make(
        *unnamed: Shape, dying: str = "nobody", nodes: Nodes | None = None, paired: bool = True, **named: Shape
    ) -> list[Stage]:
        nodes = nodes or choose(case, dying)
        wanted = {**{f"p{i}" if i else "p": shape for i, shape in enumerate(unnamed)}, **named}
        fresh = [Stage(case, nodes, tmp_path, name, shape) for name, shape in wanted.items()]
        made.extend(fresh)
        for stage in fresh:
            stage.set_up(paired=paired)
        for stage in fresh:
            if paired:
                stage.ready()
            else:
                stage.until("the application to run", stage.runs)
        return fresh

    yield make
    for stage in made:
        stage.strike()
    mend_nodes(case.cluster)
