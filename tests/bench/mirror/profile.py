"""`python -m tests.bench.mirror.profile CASE`: where our time goes in a case, on either side.

Runs it once under cProfile (every thread), once under `strace -f -c` where strace is installed, and prints the dearest
functions and system calls of each process. All of it is slower than the bench: only shares mean something.
"""

from __future__ import annotations

import argparse
import pstats
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from tests.bench.mirror import room, wire
from tests.bench.mirror.cases import CASES, Case
from tests.bench.mirror.processes import Command, Plan, measure, sync_of
from tests.bench.mirror.runs import prove_equal, read_all
from tests.bench.mirror.tools import CROSSING_PORT, Ours

_LINES = 25
ROOM = 24e9
"""Bytes that the largest case takes at full size."""


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mirror.profile", description=__doc__)
    parser.add_argument("case", choices=[case.key for case in CASES])
    parser.add_argument("--scale", type=float, default=0.1, help="share of the data set (default: 0.1)")
    parser.add_argument("--dir", default="/var/tmp", help="where (default: /var/tmp)")
    args = parser.parse_args()
    room.enter()
    wire.set_up(CROSSING_PORT)
    with room.workplace(args.dir, ROOM * max(args.scale, 0.03)) as base:
        _profile(next(case for case in CASES if case.key == args.case), args.scale, base)
    return 0


def _profile(case: Case, scale: float, base: Path) -> None:
    source, scratch = base / "source", base / "scratch"
    source.mkdir()
    scratch.mkdir()
    case.data.make(source, scale)
    ways = ["cProfile", *(["strace"] if shutil.which("strace") else [])]
    for number, way in enumerate(ways):
        target = base / f"target-{way}"
        target.mkdir()
        plan = Ours().plan(source, target, scratch)
        if case.change is not None:
            measure(plan, target, base / "log")
            case.change.make(source, scale, number)
        read_all(source)
        sync_of(base)
        measured = measure(_under(plan, way, base), target, base / "log")
        prove_equal(Ours(), source, target)
        print(
            f"== {case.title} at {scale:g} of its size under {way}: {measured.wall:.2f} s, {measured.cpu:.2f} s of CPU"
        )
        for command in (*plan.clients, *plan.servers):
            print(f"-- {command.name}")
            if way == "cProfile":
                _tell_functions(base / f"{command.name}.cprofile")
            else:
                print("\n".join((base / f"{command.name}.strace").read_text().splitlines()[:_LINES]))


def _under(plan: Plan, way: str, base: Path) -> Plan:
    def wrapped(command: Command) -> Command:
        if way == "strace":
            words = ("strace", "-f", "-c", "-w", "-o", str(base / f"{command.name}.strace"), *command.words)
        else:
            module = "tests.bench.mirror.profiled"
            words = (sys.executable, "-m", module, str(base / f"{command.name}.cprofile"), *command.words[1:])
        return replace(command, words=words)

    return Plan(tuple(map(wrapped, plan.servers)), tuple(map(wrapped, plan.clients)))


def _tell_functions(file: Path) -> None:
    """Those with the most time of their own."""
    stats = pstats.Stats(str(file), stream=sys.stdout)
    stats.sort_stats("tottime").print_stats(_LINES)


if __name__ == "__main__":
    sys.exit(main())
