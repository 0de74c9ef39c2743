"""What all measurements share: figures with limits, a cluster with the product on it, pairs to measure, the judgement.

A module of measurements is a table of parts, each of which takes a `Bench` and returns figures; `measure` is its main.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.support.case import Case
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import choose
from tests.support.failover_objects import Shape
from tests.support.node_words import mend_nodes
from tests.support.product import Product, deliver

STEADY_SECONDS = 3.0
"""For which a fresh pair is left alone before it is measured."""


@dataclass(frozen=True)
class Figure:
    """One measured number; `limit` is the most it may be, None where it is only told."""

    what: str
    measured: float
    limit: float | None
    unit: str
    note: str = ""

    @property
    def holds(self) -> bool:
        return self.limit is None or self.measured <= self.limit

    def __str__(self) -> str:
        sign = "told" if self.limit is None else "ok  " if self.holds else "MISS"
        limit = "" if self.limit is None else f"limit {self.limit:g} {self.unit}"
        return f"{sign} {self.what:<58} {self.measured:8.2f} {self.unit:<3} {limit}  {self.note}".rstrip()


def spread(times: list[float]) -> tuple[float, str]:
    """p95 (the value that 95 of 100 do not exceed), and the rest of what there is to say of some seconds."""
    ordered = sorted(times)
    p95 = ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]
    middle = statistics.median(ordered)
    return p95, f"min {ordered[0]:.2f}, median {middle:.2f}, max {ordered[-1]:.2f} s of {len(ordered)}"


@dataclass(frozen=True)
class Bench:
    """Where something is measured, and how often (parts that measure once do not look at `runs`)."""

    product: Product
    runs: int
    scratch: Path
    left: list[Case] = field(default_factory=list)
    """Cases whose volumes somebody still held when they ended."""

    @property
    def cluster(self) -> Cluster:
        return self.product.cluster

    @contextmanager
    def case(self, stem: str) -> Iterator[Case]:
        """A namespace and its volumes, gone afterwards; the cluster is whole again then."""
        made = Case(self.product, f"{stem}-{uuid.uuid4().hex[:6]}")
        self.cluster.kubectl("create", "namespace", made.namespace)
        try:
            yield made
        finally:
            mend_nodes(self.cluster)
            made.clean_up()
            self.left[:] = [old for old in self.left if not old.sweep()]
            self.left.append(made)

    @contextmanager
    def stage(
        self, shape: Shape, dying: str = "nobody", fill: Callable[[Path], object] | None = None
    ) -> Iterator[Stage]:
        """A fresh pair in a namespace of its own, ready to fail over; `fill` gets its source before it is mirrored."""
        with self.case("run") as case:
            stage = Stage(case, choose(case, dying), self.scratch, shape=shape)
            try:
                stage.set_up(paired=False)
                if fill is not None:
                    fill(stage.source.path())
                stage.join()
                stage.ready(180)
                time.sleep(STEADY_SECONDS)
                yield stage
            finally:
                stage.strike()


Part = Callable[[Bench], list[Figure]]


def measure(module: str, doc: str | None, parts: Mapping[str, Part], runs: int = 0, values: Sequence[str] = ()) -> int:
    """Bring a cluster up, install the product, run the parts, print, judge: 1 when a limit is missed.

    `runs`: how often by default (0: nobody is asked); `values`: what the chart is given besides.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=doc)
    if runs:
        parser.add_argument("--runs", type=int, default=runs, metavar="N", help=f"of each (default: {runs})")
    parser.add_argument("--only", action="append", choices=list(parts), help="may be repeated (default: all)")
    parser.add_argument("--prefix", default="bench", help="whose cluster (default: bench)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    args = parser.parse_args()
    cluster = Cluster(args.prefix)
    cluster.up()
    figures: list[Figure] = []
    try:
        product = deliver(cluster)
        given = [word for value in ("logLevel=info", *values) for word in ("--set", value)]
        product.install(*given)  # as users have it; the tests' own installation says more
        with tempfile.TemporaryDirectory(prefix="bench.") as scratch:
            bench = Bench(product, getattr(args, "runs", 1), Path(scratch))
            for name in args.only or parts:
                figures += parts[name](bench)
    finally:
        if not args.keep:
            cluster.down()
    print(f"\non {os.cpu_count()} cores, image {product.image.tag}")
    for figure in figures:
        print(figure)
    return 0 if all(figure.holds for figure in figures) else 1
