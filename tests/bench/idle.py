"""What a pair of agents costs that has nothing to do: `make bench-idle`.

Two real agents over TLS, a volume of 100,000 files in 1,000 directories, nothing changes. Printed for `Live` and for
`Point`: processor time of each agent as a share of one core, over the time that is watched, after the pair has come to
rest. The comparison of everything, which `Live` does each ten minutes, is kept out of that time; what it costs is
measured apart (a source agent that starts makes one: its start is in it), and added as the share that it has of ten
minutes. Ends with 1 when an agent has more than 1 % of a core, the comparison included. The guards of `Point` are shown
beside it.

The two agents' API server is the tests' own: a real one is asked as often.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from storagemirror.contract import Phase
from tests.bench.latency.tools import agents
from tests.bench.mirror.results import machine
from tests.bench.process import processor_seconds, watch
from tests.support.agents import AgentPair, wait_for
from tests.support.disks import disk
from tests.support.pointpair import POINTS, pointing, until_point

FILES = 100_000
LIMIT = 0.01
"""Of a core."""
COMPARE_SECONDS = 600.0
_DIRECTORIES = 1_000
_REST_SECONDS = 5.0


@dataclass(frozen=True)
class Idle:
    """Of one mode. Shares of one core; `comparison` is in seconds of processor time, None where there is none."""

    mode: str
    source: float
    target: float
    guards: float
    comparison: dict[str, float] | None
    seconds: float

    def share(self, side: str) -> float:
        """Of an agent, with its part of the periodic comparison."""
        rest = self.source if side == "source" else self.target
        return rest + (self.comparison[side] / COMPARE_SECONDS if self.comparison else 0.0)

    @property
    def holds(self) -> bool:
        """Both agents within the limit?"""
        return max(self.share("source"), self.share("target")) <= LIMIT


def fill(root: Path, files: int) -> None:
    """So many small files, evenly spread."""
    for number in range(files):
        directory = root / f"d{number % _DIRECTORIES:03}"
        if number < _DIRECTORIES:
            directory.mkdir(exist_ok=True)
        (directory / f"f{number}").write_bytes(b"%d\n" % number)


def live(place: Path, files: int, seconds: float) -> Idle:
    """Changes applied as they come."""
    with disk(place, "ext4", 3_000, "live", "-i", "8192") as made, agents(place / "scratch") as pair:
        for agent, name in ((pair.source, "source"), (pair.target, "target")):
            agent.volume = made.path / name
            agent.volume.mkdir()
        fill(pair.source.volume, files)
        pair.start()
        pair.until(Phase.REPLICATING, 600)
        rest = _watched(pair, seconds)
        return Idle("Live", *rest, 0.0, _comparison(pair), seconds)


def point(place: Path, files: int, seconds: float) -> Idle:
    """A point each second is asked for, and nothing has changed."""
    replication = msgspec.structs.replace(POINTS, interval_seconds=1.0)
    with (
        agents(place / "scratch") as pair,
        _roomy(pair, place),
        pointing(pair, place, "ext4", 3_000) as (_, guards),
    ):
        fill(pair.source.volume, files)
        pair.start(replication=replication)
        until_point(pair, seconds=600)
        before = sum(processor_seconds(process.pid) for process in guards.processes)
        source, target = _watched(pair, seconds)
        spent = sum(processor_seconds(process.pid) for process in guards.processes) - before
        return Idle("Point, each 1 s", source, target, spent / (seconds + _REST_SECONDS), None, seconds)


@contextmanager
def _roomy(pair: AgentPair, place: Path) -> Iterator[None]:
    """The target's volume is a file system of its own."""
    with disk(place, "ext4", 1_500, "copy", "-i", "8192") as made:
        pair.target.volume = made.path
        try:
            yield
        finally:
            pair.close()


def _watched(pair: AgentPair, seconds: float) -> tuple[float, float]:
    time.sleep(_REST_SECONDS)
    costs = watch({"source": pair.source.running().pid, "target": pair.target.running().pid}, seconds)
    return costs["source"].core, costs["target"].core


def _comparison(pair: AgentPair) -> dict[str, float]:
    """Seconds of processor time of one comparison of everything, at most: what a source agent spends from its start
    until it has compared, and the target meanwhile. The start of Python and of the watch is in it."""
    pair.source.kill()
    before = pair.target.cpu_seconds()
    report = pair.source.report()
    last = report.mirrored_at if report is not None else None
    pair.source.start()
    pair.introduce()

    def compared() -> bool:
        found = pair.source.report()
        return found is not None and found.phase is Phase.REPLICATING and found.mirrored_at != last

    wait_for(compared, "the pair to have compared", 600, pair.tell)
    return {"source": pair.source.cpu_seconds(), "target": pair.target.cpu_seconds() - before}


def text(files: int, found: list[Idle]) -> str:
    """The table, as Markdown."""
    lines = [
        f"{files} files, nothing changes; % of one core",
        "",
        "| mode | agent | at rest | one comparison (CPU) | with its share of ten minutes | bar |  |",
        "|---|---|---|---|---|---|---|",
    ]
    for idle in found:
        for side, rest in (("source", idle.source), ("target", idle.target)):
            compare = "none is made" if idle.comparison is None else f"{idle.comparison[side]:.2f} s"
            share = idle.share(side)
            verdict = "met" if share <= LIMIT else "MISSED"
            lines.append(f"| {idle.mode} | {side} | {rest:.2%} | {compare} | {share:.2%} | {LIMIT:.0%} | {verdict} |")
        if idle.guards:
            lines.append(f"| {idle.mode} | both guards together | {idle.guards:.2%} | | | | |")
    return "\n".join(lines)


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.idle", description=__doc__)
    parser.add_argument("--files", type=int, default=FILES, help=f"(default: {FILES}; fewer are told, not judged)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which each mode is watched")
    parser.add_argument("--only", choices=["live", "point"])
    parser.add_argument("--dir", default="/var/tmp", help="where the file systems' images go (default: /var/tmp)")
    parser.add_argument("--json", type=Path, help="keep the results here")
    args = parser.parse_args()
    found = []
    for name, mode in (("live", live), ("point", point)):
        if args.only in (None, name):
            with tempfile.TemporaryDirectory(prefix="storagemirror-idle.", dir=args.dir) as place:
                found.append(mode(Path(place), args.files, args.seconds))
                about = machine(Path(place))
    print(text(args.files, found))
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    if args.json:
        said = {"machine": about, "files": args.files, "modes": [asdict(idle) for idle in found]}
        args.json.write_text(json.dumps(said, indent=1) + "\n")
    judged = args.files >= FILES
    return 1 if judged and not all(idle.holds for idle in found) else 0


if __name__ == "__main__":
    sys.exit(main())
