"""`python -m tests.bench.campaign_home`: away and home again, again and again, and what the way home costs.

Two campaigns on the real cluster, with the product from its image and chart and two operators. `cycles`: one pair whose
application writes numbered lines fails over and is restored, ten times in a row; the source's node loses its power in
every other cycle (and is called out-of-service), the rest is planned. Before every other power cut the node's link is
narrow, so that the copy is behind and something is lost. Each line that the application acknowledged to a
client is looked for after every move: up to the reported syncedThrough it must be on the live side, at any time later
too; the others must be there, or kept aside at home. After each restore both volumes must be equal, as rsync sees them.
`failback`: 10,000 files, of which 1 % change while the application is away. Counted are status.sentBytes, which is all
that the agents of the way back wrote to the wire before TLS (listings and proofs too), against the bytes of the changed
files; and the longest time without an answer on the way home, less that of stopping and starting the same workload.
Ends with 1 when a limit is missed.
"""

from __future__ import annotations

import itertools
import math
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.bench import Bench, Figure, measure, spread
from tests.bench.campaign_failover import CUT_LIMIT, SHAPE, TWO_OPERATORS
from tests.bench.numbers import FILES_A_DIRECTORY, fill
from tests.cluster.faults import Slowness
from tests.support import ledger_lines as ledger
from tests.support.asker import Answered
from tests.support.failover_case import Stage
from tests.support.failover_objects import Shape
from tests.support.node_words import unattest
from tests.support.operations import seconds_of

CYCLES = 10
FILES = 10_000
LARGEST = 64 * 1024
"""Bytes of the largest file of the failback; they are half of that on average."""
CHANGED = FILES // 100
SENT_LIMIT = 1.5
BEYOND_LIMIT = 10.0
"""Seconds that clients may be interrupted beyond the workload's own stop and start."""
HOME_SECONDS = 300.0
AWAY_SECONDS = 5.0
"""For which the application writes on the other side."""
NARROW = "256kbit"
NARROW_SECONDS = 4.0


@dataclass(frozen=True)
class Cycle:
    """One failover and one restore. Seconds, but for counts."""

    cut: bool
    lost: int
    """Acknowledged lines that the promoted copy did not hold."""
    rpo: int | None
    there: float
    """Until the standby answered."""
    rto: int
    home: float
    """The longest time without an answer on the way home."""
    waited: float
    """From asking for the Restore until it touched anything."""
    diverged: int
    sent: int

    def __str__(self) -> str:
        return (
            f"{'power cut' if self.cut else 'planned  '}  there {self.there:5.2f} s (rtoSeconds {self.rto}, "
            f"rpoSeconds {self.rpo}, lost lines {self.lost})  home {self.home:5.2f} s after {self.waited:.0f} s of "
            f"waiting, {self.diverged} entries kept aside, {self.sent:,} bytes sent"
        )


@dataclass
class Account:
    """What is known of every acknowledged line so far."""

    stage: Stage
    forgiven: set[ledger.Line] = field(default_factory=set)
    """Lost in a power cut, and not promised by its syncedThrough."""
    broken: set[Answered] = field(default_factory=set)
    """Promised, and missed at some time."""

    def moved(self, synced: float) -> int:
        """After a failover that promises all that was written up to `synced` (Unix seconds): how many lines are newly
        missing from the copy."""
        missing = [a for a in self.stage.missing("target") if a.line not in self.forgiven]
        self.broken |= {a for a in missing if a.written <= synced}
        self.forgiven |= {a.line for a in missing if a.written > synced}
        return len(missing)

    def check(self) -> None:
        """At home: what was promised at any time is there now."""
        self.broken |= {a for a in self.stage.missing("source") if a.line not in self.forgiven}

    def nowhere(self) -> int:
        """How many lines are neither at home nor in anything that was kept aside there."""
        aside = (self.stage.source.path() / ".storagemirror" / "diverged").glob("*/ledger*")
        return len(self.stage.missing("source", itertools.chain.from_iterable(map(ledger.read, aside))))


def cycle(bench: Bench, account: Account, number: int) -> Cycle:
    """Away and home."""
    stage, power, behind = account.stage, number % 2 == 1, number % 4 == 3
    node = stage.nodes.source
    if behind:
        bench.cluster.slow(node, Slowness(rate=NARROW))
        time.sleep(NARROW_SECONDS)
    before, start = len(stage.failovers()), time.time()
    if power:
        bench.cluster.power_off(node)
        bench.cluster.slow(node, Slowness())
        stage.attest()
        there = stage.until_answers("target", 120, since=start) - start
        name = stage.until_automatic(after=before)
    else:
        name = f"away-{number}"
        stage.failover(name)
        stage.until_answers("target", 120)
        there = stage.client().longest_silence(start)
    done = stage.until_phase(name, "Completed", seconds=120)
    lost = account.moved(seconds_of(done["syncedThrough"]) if power else math.inf)
    time.sleep(AWAY_SECONDS)
    if power:
        unattest(bench.cluster, node)
        bench.cluster.boot(node)

    asked = time.time()
    stage.restore(f"home-{number}")
    back = stage.until_phase(f"home-{number}", "Completed", seconds=HOME_SECONDS)
    stage.until_answers("source")
    silence = stage.client().longest_silence(asked)
    stage.ready()
    ledger.without_gaps("home volume", stage.source_lines())
    account.check()
    stage.equal_at_rest()
    account.check()
    begun = next(step["at"] for step in back["timeline"] if step["phase"] == "Mirroring")
    return Cycle(
        cut=power,
        lost=lost,
        rpo=done.get("rpoSeconds"),
        there=there,
        rto=done["rtoSeconds"],
        home=silence,
        waited=max(0.0, seconds_of(begun) - asked),
        diverged=sum(one["entries"] for one in back.get("diverged") or []),
        sent=back["sentBytes"],
    )


def cycles(bench: Bench) -> list[Figure]:
    """Ten in a row."""
    with bench.stage(SHAPE) as stage:
        alone = own_restart(stage)
        account = Account(stage)
        done = []
        for number in range(bench.runs):
            done.append(cycle(bench, account, number))
            print(f"cycle {number + 1:2d}  {done[-1]}", flush=True)
        nowhere = account.nowhere()
        heard = f"of {len({a.line for a in stage.client().answers()})}, {len(account.forgiven)} lost and admitted"
    p95, note = spread([one.home - alone for one in done])
    figures = [
        Figure(f"promised lines that were missed in {len(done)} cycles", len(account.broken), 0, "", heard),
        Figure("acknowledged lines neither at home nor kept aside", nowhere, 0, "", heard),
        Figure("way home: nobody answers, beyond stop and start, p95", p95, BEYOND_LIMIT, "s", note),
    ]
    cuts = [one.there for one in done if one.cut]
    if cuts:
        p95, note = spread(cuts)
        figures.append(Figure("power cut to an answer of the standby, p95", p95, CUT_LIMIT, "s", note))
    return figures


def own_restart(stage: Stage) -> float:
    """How long nobody answers when the workload is stopped and started where it is, with nothing else to do."""
    start = time.time()
    stage.scale("source", 0)
    stage.until("no pod of the source", lambda: stage.pods("source") == [])
    stage.scale("source", 1)
    stage.until_answers("source")
    return stage.client().longest_silence(start)


def change(root: Path) -> int:
    """One file in a hundred, in directories all over, gets another content; how many bytes."""
    chance = random.Random(2)
    octets = 0
    for number in range(0, FILES, FILES // CHANGED):
        path = root / f"d{number // FILES_A_DIRECTORY:03}" / f"f{number:05}"
        data = chance.randbytes(chance.randrange(LARGEST + 1))
        path.write_bytes(data)
        octets += len(data)
    return octets


def failback(bench: Bench) -> list[Figure]:
    """What travels, and for how long nobody answers. The application writes a line every ten seconds, so that its
    ledger, which is sent anew with each, does not count."""
    shape = Shape(interval="1s", missed=5, size="900Mi", lines_a_second=0.1)
    with bench.stage(shape, fill=lambda root: fill(root, FILES, LARGEST)) as stage:
        alone = own_restart(stage)
        stage.failover("away")
        stage.until_phase("away", "Completed", seconds=120)
        stage.until_answers("target")
        octets = change(stage.target.path())
        asked = time.time()
        stage.restore("home")
        done = stage.until_phase("home", "Completed", seconds=HOME_SECONDS)
        took = time.time() - asked
        stage.until_answers("source")
        silence = stage.client().longest_silence(asked)
        stage.ready()
        stage.equal_at_rest()
    sent = done["sentBytes"]
    note = f"{sent:,} bytes for {octets:,} in {CHANGED} of {FILES:,} files; {took:.1f} s in all"
    beyond = f"{silence:.2f} s, of which stop and start take {alone:.2f} s"
    return [
        Figure("failback: bytes sent for each byte that had changed", sent / octets, SENT_LIMIT, "", note),
        Figure("failback: nobody answers, beyond stop and start", silence - alone, BEYOND_LIMIT, "s", beyond),
    ]


def main() -> int:
    """Run, print, judge."""
    parts = {"cycles": cycles, "failback": failback}
    return measure("tests.bench.campaign_home", __doc__, parts, CYCLES, TWO_OPERATORS)


if __name__ == "__main__":
    sys.exit(main())
