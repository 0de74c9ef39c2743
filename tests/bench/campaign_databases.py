"""`python -m tests.bench.campaign_databases`: databases whose node loses its power, started on a copy kept by points.

On the real cluster, with the product from its image and chart. In each cut two fresh pairs stand beside each other,
with points each second: PostgreSQL (Debian's, data checksums) under pgbench, and SQLite (WAL, synchronous=FULL) under a
writer. At a random moment their node loses its power and is called out-of-service; the automatic failover starts the
standbys on the copies. Then pg_amcheck and integrity_check must find nothing, each transaction that was acknowledged
before the last point that the pair told of must be there, and none in part. The file systems (ext4, XFS, btrfs) take
turns. A cut that does not hold is printed with its reason, and the next one goes on; ends with 1 when there was one.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.bench import Bench, spread
from tests.bench.campaign_failover import TWO_OPERATORS
from tests.cluster.cluster import Cluster
from tests.cluster.filesystems import FileSystem
from tests.image import build
from tests.support import databases
from tests.support.databases import SHAPE, Database, Outcome, Postgres, SqliteBank
from tests.support.failover_fixtures import choose
from tests.support.product import deliver

CUTS = 50
LONGEST_WAIT = 3.0
"""Seconds under load before the cut, at most: more than two points."""


@dataclass(frozen=True)
class Cut:
    """One database after one power cut. Seconds, but for counts."""

    kind: str
    outcome: Outcome
    points: int
    put_off: int
    missed: int
    running: float
    """From the cut until the standby answered a client through the Service."""
    rpo: float
    """What the failover admits to have lost at most."""

    def __str__(self) -> str:
        found = self.outcome
        return (
            f"{self.kind:<10} clean; {found.promised:5d} promised, all there; beyond the point {found.lost:4d} lost "
            f"({found.lost_seconds:.2f} s, told {self.rpo:.0f} s); points {self.points:2d}, put off {self.put_off}, "
            f"missed {self.missed}; running after {self.running:5.2f} s"
        )


@dataclass
class Campaign:
    """All cuts so far."""

    bench: Bench
    chance: random.Random
    pairs: int
    """Of each kind, in each cut."""
    cuts: list[Cut] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def one(self, number: int) -> None:
        """The next power cut, of both databases."""
        began = time.monotonic()
        shape = replace(SHAPE, fs=list(FileSystem)[number % 3])
        with self.bench.case("cut") as case:
            nodes = choose(case, "nobody")
            kinds = {"postgres": Postgres, "sqlite": SqliteBank}
            stages: list[Database] = [
                make(case, nodes, self.bench.scratch, f"{kind}{pair + 1}", shape)
                for pair in range(self.pairs)
                for kind, make in kinds.items()
            ]
            ready = ended = began
            try:
                databases.start(stages, told=False)
                ready = time.monotonic()
                time.sleep(LONGEST_WAIT * self.chance.random())
                at = databases.cut(stages)
                for stage in stages:
                    self.look(stage, at, f"cut {number + 1:2d} {shape.fs:<5}")
            except Exception as e:
                self.fail(f"cut {number + 1:2d} {shape.fs:<5}", e)
            finally:
                ended = time.monotonic()
                for stage in stages:
                    stage.strike()
        cleaned = time.monotonic()
        print(
            f"cut {number + 1:2d} took {cleaned - began:.0f} s: set-up {ready - began:.0f}, cut and judged "
            f"{ended - ready:.0f}, cleaned up {cleaned - ended:.0f}",
            flush=True,
        )

    def look(self, stage: Database, at: float, where: str) -> None:
        """At one of them, after the cut."""
        try:
            back = stage.until_back()
            done = stage.until_completed()
            made = stage.volume()["points"]
            outcome = stage.judge(done)
            if isinstance(stage, Postgres):
                assert stage.recovered(), "PostgreSQL does not say that it recovered from a crash"
        except Exception as e:
            self.fail(f"{where} {stage.name}", e)
            return
        counts = made["made"], made.get("putOff", 0), made.get("missed", 0)
        kind = stage.name.rstrip("0123456789")
        found = Cut(kind, outcome, *counts, back - at, done["rpoSeconds"])
        self.cuts.append(found)
        print(f"{where} {found}", flush=True)

    def fail(self, where: str, error: Exception) -> None:
        """Remember, and say at once."""
        notes = "\n".join(getattr(error, "__notes__", []))
        print(f"{where} FAILED: {type(error).__name__}: {error}\n{notes}", flush=True)
        self.failed.append(f"{where}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")

    def summary(self) -> None:
        """What all came to."""
        for kind in sorted({cut.kind for cut in self.cuts}):
            mine = [cut for cut in self.cuts if cut.kind == kind]
            lost = [cut.outcome.lost for cut in mine]
            p95, running = spread([cut.running for cut in mine])
            _, seconds = spread([cut.outcome.lost_seconds for cut in mine])
            promised = sum(cut.outcome.promised for cut in mine)
            print(
                f"{kind}: {len(mine)} cuts, the standby started clean in each; {promised:,} promised transactions "
                f"checked, all there, none in part\n"
                f"  beyond the point (allowed): median {statistics.median(lost):.0f}, most {max(lost)} transactions; "
                f"{seconds}\n"
                f"  points {sum(c.points for c in mine):,}, put off {sum(c.put_off for c in mine)}, missed "
                f"{sum(c.missed for c in mine)}\n"
                f"  running again: p95 {p95:.2f}, {running}"
            )
        for text in self.failed:
            print(f"FAILED {text}")


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.campaign_databases", description=__doc__)
    parser.add_argument("--cuts", type=int, default=CUTS, metavar="N", help=f"(default: {CUTS})")
    parser.add_argument("--pairs", type=int, default=1, metavar="N", help="of each kind in each cut (default: 1)")
    parser.add_argument("--seed", type=int, default=None, help="of the moments (default: the time)")
    parser.add_argument("--prefix", default="bench", help="whose cluster (default: bench)")
    parser.add_argument("--keep", action="store_true", help="leave the cluster up")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C: what was seen so far is told, the cluster goes
    seed = given.seed if given.seed is not None else time.time_ns()
    image = build.postgres()
    cluster = Cluster(given.prefix)
    cluster.up()
    try:
        product = deliver(cluster)
        cluster.load(image.archive)
        product.install("--set", "logLevel=info", *(word for value in TWO_OPERATORS for word in ("--set", value)))
        with tempfile.TemporaryDirectory(prefix="bench.") as scratch:
            campaign = Campaign(Bench(product, given.cuts, Path(scratch)), random.Random(seed), given.pairs)
            print(f"seed {seed}, on {os.cpu_count()} cores, image {product.image.tag}", flush=True)
            try:
                for number in range(given.cuts):
                    campaign.one(number)
            finally:
                campaign.summary()
    finally:
        if not given.keep:
            cluster.down()
    return 1 if campaign.failed else 0


if __name__ == "__main__":
    sys.exit(main())
