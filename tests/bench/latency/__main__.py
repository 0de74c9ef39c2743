"""`make bench-latency`: how soon a change can be read on the target, ours beside lsyncd and Syncthing.

Each round each tool is started on trees of its own that are equal already, takes its turn at all kinds of work, and is
ended; the next round begins with the next tool. In the end the judge finds no difference, or the bench fails. Ends
with 1 when a bar of ours is missed at full size. Needs root and 8 GB of room.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from tests.bench.latency.results import FIRST_LARGE, Report, text
from tests.bench.latency.tools import OURS, TOOLS, Missing, Tool
from tests.bench.latency.work import BURST, LARGE, SMALL, Late, Work
from tests.bench.mirror import room
from tests.bench.mirror.results import machine

FILES, BYTES = 1_000, 1 << 30
OURS_SMALL, PEERS_SMALL, LARGES = 60, 3, 3
"""Times in one round: of one small file, of a block."""
_EQUAL_SECONDS = 60.0
_MIB = 1 << 20


class Differ(Exception):
    """A tool left differences."""


def main() -> int:
    """See above."""
    args = _arguments()
    try:
        room.enter()
        room.run(["ip", "link", "set", "lo", "up"])
        with room.workplace(args.dir, 8e9 * max(args.scale, 0.03)) as base:
            report = measure(
                base, args.scale, args.rounds, [tool for tool in TOOLS if _wanted(tool, args.only)], args.json
            )
    except (Differ, Late, Missing, room.NoRoom) as e:
        print(e, file=sys.stderr)
        return 2
    print(text(report))
    missed = report.missed()
    print(f"\nmissed: {'; '.join(missed) or 'none'}")
    return 1 if missed and args.scale == 1 else 0


def measure(base: Path, scale: float, rounds: int, tools: list[Tool], kept: Path | None) -> Report:
    """All rounds of all tools, in trees below `base`; what is measured is `kept`, whatever comes. `Late`, `Differ`,
    `Missing`."""
    report = Report(scale, rounds, OURS, machine(base))
    report.commands = {tool.name: tool.said() for tool in tools}
    for number in range(rounds):
        for turn in range(len(tools)):
            tool = tools[(number + turn) % len(tools)]
            began = time.monotonic()
            _turn(base, tool, report)
            report.others.append(round(os.getloadavg()[0], 2))
            if kept is not None:
                report.write(kept)
            print(f"round {number + 1}, {tool.name}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return report


def _turn(base: Path, tool: Tool, report: Report) -> None:
    """One start of a tool. Variants of a program share trees: they leave them equal."""
    place = base / type(tool).__name__.lower()
    source, target = place / "source", place / "target"
    fresh = not place.exists()
    for path in (source, target, place / "scratch"):
        path.mkdir(parents=True, exist_ok=True)
    burst, large = max(10, round(FILES * report.scale)), max(1, round(BYTES * report.scale / _MIB)) * _MIB
    work = Work(source, target, burst=burst, large=large, seed=len(report.others))
    if fresh:
        work.fill()
    with contextmanager(tool.running)(source, target, place / "scratch"):
        work.probe()
        for _ in range(OURS_SMALL if tool.name == OURS else PEERS_SMALL):
            report.add(SMALL, tool.name, work.small())
        report.add(BURST, tool.name, work.burst())
        report.add(FIRST_LARGE, tool.name, work.large())
        for _ in range(LARGES):
            report.add(LARGE, tool.name, work.large())
        judge(tool, source, target)


def judge(tool: Tool, source: Path, target: Path, patience: float = _EQUAL_SECONDS) -> None:
    """Both are equal soon (times of directories follow their files). `Differ`."""
    end = time.monotonic() + patience
    while True:
        done = subprocess.run([*tool.judge, f"{source}/", f"{target}/"], check=False, capture_output=True, text=True)
        if done.returncode == 0 and not done.stdout:
            return
        if time.monotonic() > end:
            raise Differ(f"{tool.name} left differences ({done.returncode}):\n{done.stdout[:2000]}{done.stderr[:500]}")
        time.sleep(0.5)


def _wanted(tool: Tool, only: list[str] | None) -> bool:
    return not only or tool.name == OURS or any(tool.name.lower().startswith(word.lower()) for word in only)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.latency", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="(default: 3)")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the burst and of the large file")
    parser.add_argument("--only", action="append", metavar="NAME", help="peers whose names begin so; may be repeated")
    parser.add_argument("--dir", default="/var/tmp", help="where the file system's image goes (default: /var/tmp)")
    parser.add_argument("--json", type=Path, help="keep the results here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
