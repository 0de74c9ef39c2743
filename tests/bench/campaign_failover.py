"""`python -m tests.bench.campaign_failover`: how long a failover takes and what it loses, again and again.

Two campaigns on the real cluster, with the product from its image and chart, two operators, and a fresh pair in each
run. `cut`: the source's node loses its power and is called out-of-service at once; counted until the standby answers a
client through the Service. The leader of the operators is on the dying node in every other run. `planned`: a planned
failover while an application writes numbered lines; counted are the lines that are lost and how long nobody answers.
Ends with 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.numbers import Figure
from tests.cluster.cluster import Cluster
from tests.support import ledger_lines as ledger
from tests.support.case import Case
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import choose
from tests.support.failover_objects import Shape
from tests.support.node_words import mend_nodes
from tests.support.product import Product, deliver

RUNS = 20
CUT_LIMIT = 20.0
"""Seconds from the power cut to an answer, p95."""
SHAPE = Shape(interval="1s", missed=5)
STEADY_SECONDS = 3.0


@dataclass(frozen=True)
class Run:
    """What came of one run. `seconds`: until the standby answered (cut), or how long nobody did (planned). `lost`:
    acknowledged lines that the standby's volume does not hold."""

    note: str
    seconds: float
    told: int
    lost: int

    def __str__(self) -> str:
        return f"{self.note:<24} {self.seconds:6.2f} s   rtoSeconds {self.told:3d}   lost lines {self.lost}"


@contextmanager
def stage_of(product: Product, dying: str, scratch: Path, left: list[Case]) -> Iterator[Stage]:
    """A fresh pair in a namespace of its own, ready to fail over; the cluster is whole again afterwards."""
    case = Case(product, f"run-{uuid.uuid4().hex[:6]}")
    product.cluster.kubectl("create", "namespace", case.namespace)
    stage = Stage(case, choose(case, dying), scratch, shape=SHAPE)
    try:
        stage.set_up()
        stage.ready()
        time.sleep(STEADY_SECONDS)
        yield stage
    finally:
        stage.strike()
        mend_nodes(product.cluster)
        case.clean_up()
        left[:] = [old for old in left if not old.sweep()]
        left.append(case)


def lost_lines(stage: Stage) -> int:
    """How many lines the source acknowledged to the client that the copy does not hold."""
    heard = max(a.number for a in stage.client().answers() if a.side == "source")
    kept = {line.number for line in ledger.of("source", stage.target_lines())}
    return len(set(range(1, heard + 1)) - kept)


def cut(product: Product, number: int, scratch: Path, left: list[Case]) -> Run:
    """One power cut."""
    dying = "leader" if number % 2 else "nobody"
    with stage_of(product, dying, scratch, left) as stage:
        start = time.time()
        product.cluster.power_off(stage.nodes.source)
        stage.attest()
        took = stage.until_answers("target", 120, since=start) - start
        done = stage.until_phase(stage.until_automatic(), "Completed")
        where = "leader on the dead node" if dying == "leader" else "leader elsewhere"
        return Run(where, took, done["rtoSeconds"], lost_lines(stage))


def planned(product: Product, number: int, scratch: Path, left: list[Case]) -> Run:
    """One planned failover."""
    with stage_of(product, "nobody", scratch, left) as stage:
        start = time.time()
        stage.failover("go")
        done = stage.until_phase("go", "Completed", seconds=120)
        stage.until_answers("target")
        old, new = stage.source_lines(), ledger.of("source", stage.target_lines())
        lost = max(lost_lines(stage), len(set(old) - set(new)))
        return Run("planned", stage.client().longest_silence(start), done["rtoSeconds"], lost)


def spread(runs: list[Run]) -> tuple[float, str]:
    """p95 (the value that 95 of 100 do not exceed), and the rest of what there is to say of the times."""
    times = sorted(run.seconds for run in runs)
    p95 = times[max(0, -(-len(times) * 95 // 100) - 1)]
    return p95, f"min {times[0]:.2f}, median {statistics.median(times):.2f}, max {times[-1]:.2f} s of {len(times)}"


def judged_cuts(runs: list[Run]) -> list[Figure]:
    """The figures of the power cuts."""
    p95, note = spread(runs)
    return [Figure("power cut to an answer of the standby, p95", p95, CUT_LIMIT, "s", note)]


def judged_planned(runs: list[Run]) -> list[Figure]:
    """The figures of the planned ones. How long nobody answers is told, and has no limit."""
    p95, note = spread(runs)
    lost = sum(run.lost for run in runs)
    return [Figure(f"planned: writes lost in {len(runs)}", lost, 0, "", f"nobody answers: p95 {p95:.2f}, {note}")]


Campaign = tuple[Callable[[Product, int, Path, list[Case]], Run], Callable[[list[Run]], list[Figure]]]
CAMPAIGNS: dict[str, Campaign] = {"cut": (cut, judged_cuts), "planned": (planned, judged_planned)}


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.campaign_failover", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, metavar="N", help=f"of each (default: {RUNS})")
    parser.add_argument("--only", action="append", choices=list(CAMPAIGNS), help="may be repeated (default: all)")
    parser.add_argument("--prefix", default="bench", help="whose cluster (default: bench)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    args = parser.parse_args()
    cluster = Cluster(args.prefix)
    cluster.up()
    figures: list[Figure] = []
    left: list[Case] = []
    try:
        product = deliver(cluster)
        product.install("--set", "replicas=2", "--set", "logLevel=info")  # as users have it
        with tempfile.TemporaryDirectory(prefix="campaign.") as scratch:
            for name in args.only or CAMPAIGNS:
                one, judged = CAMPAIGNS[name]
                runs = []
                for number in range(args.runs):
                    runs.append(one(product, number, Path(scratch), left))
                    print(f"{name} {number + 1:2d}  {runs[-1]}", flush=True)
                figures += judged(runs)
    finally:
        if not args.keep:
            cluster.down()
    print(f"\non {os.cpu_count()} cores, image {product.image.tag}")
    for figure in figures:
        print(figure)
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
