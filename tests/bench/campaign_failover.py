"""`python -m tests.bench.campaign_failover`: how long a failover takes and what it loses, again and again.

Two campaigns on the real cluster, with the product from its image and chart, two operators, and a fresh pair in each
run. `cut`: the source's node loses its power and is called out-of-service at once; counted until the standby answers a
client through the Service. The leader of the operators is on the dying node in every other run. `planned`: a planned
failover while an application writes numbered lines; counted are the lines that are lost and how long nobody answers.
Ends with 1 when a limit is missed.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

from tests.bench.bench import Bench, Figure, measure, spread
from tests.support import ledger_lines as ledger
from tests.support.failover_case import Stage
from tests.support.failover_objects import Shape

RUNS = 20
CUT_LIMIT = 20.0
"""Seconds from the power cut to an answer, p95."""
SHAPE = Shape(interval="1s", missed=5)
TWO_OPERATORS = ("replicas=2",)


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


def cut(bench: Bench, number: int) -> Run:
    """One power cut."""
    dying = "leader" if number % 2 else "nobody"
    with bench.stage(SHAPE, dying) as stage:
        start = time.time()
        bench.cluster.power_off(stage.nodes.source)
        stage.attest()
        took = stage.until_answers("target", 120, since=start) - start
        done = stage.until_phase(stage.until_automatic(), "Completed")
        where = "leader on the dead node" if dying == "leader" else "leader elsewhere"
        return Run(where, took, done["rtoSeconds"], lost_lines(stage))


def planned(bench: Bench, number: int) -> Run:
    """One planned failover."""
    with bench.stage(SHAPE) as stage:
        start = time.time()
        stage.failover("go")
        done = stage.until_phase("go", "Completed", seconds=120)
        stage.until_answers("target")
        old, new = stage.source_lines(), ledger.of("source", stage.target_lines())
        lost = max(lost_lines(stage), len(set(old) - set(new)))
        return Run(f"planned {number + 1}", stage.client().longest_silence(start), done["rtoSeconds"], lost)


def lost_lines(stage: Stage) -> int:
    """How many lines the source acknowledged to the client that the copy does not hold."""
    heard = max(a.number for a in stage.client().answers() if a.side == "source")
    kept = {line.number for line in ledger.of("source", stage.target_lines())}
    return len(set(range(1, heard + 1)) - kept)


def cuts(bench: Bench) -> list[Figure]:
    """The figures of the power cuts."""
    runs = []
    for number in range(bench.runs):
        runs.append(cut(bench, number))
        print(f"cut {number + 1:2d}  {runs[-1]}", flush=True)
    p95, note = spread([run.seconds for run in runs])
    return [Figure("power cut to an answer of the standby, p95", p95, CUT_LIMIT, "s", note)]


def moves(bench: Bench) -> list[Figure]:
    """The figures of the planned ones. How long nobody answers is told, and has no limit."""
    runs = []
    for number in range(bench.runs):
        runs.append(planned(bench, number))
        print(f"planned {number + 1:2d}  {runs[-1]}", flush=True)
    p95, note = spread([run.seconds for run in runs])
    lost = sum(run.lost for run in runs)
    return [Figure(f"planned: writes lost in {len(runs)}", lost, 0, "", f"nobody answers: p95 {p95:.2f}, {note}")]


def main() -> int:
    """Run, print, judge."""
    parts = {"cut": cuts, "planned": moves}
    return measure("tests.bench.campaign_failover", __doc__, parts, RUNS, TWO_OPERATORS)


if __name__ == "__main__":
    sys.exit(main())
