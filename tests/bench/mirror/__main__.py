"""`python -m tests.bench.mirror`: our mirror beside rsync and VolSync's passes, interleaved on one machine.

Makes the data sets, runs the tools one after the other in rounds, proves after each run by rsync that both trees are
equal, prints the table, and ends with 1 when a bar is missed (at full size; smaller data sets are told, not judged).
Needs root (a network and a file system of its own), 32 GB of room and half an hour at full size. Method and results:
docs/performance.md.
"""

from __future__ import annotations

import argparse
import compileall
import fcntl
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import storagemirror
from tests.bench.mirror import memory, room, table, wire
from tests.bench.mirror.cases import CASES, chosen
from tests.bench.mirror.processes import Failed
from tests.bench.mirror.results import Report, machine
from tests.bench.mirror.runs import Workshop
from tests.bench.mirror.tools import CROSSING_PORT

ROOM = 32e9
"""Bytes that the full size takes at most."""
QUICK_SCALE, QUICK_ROUNDS = 0.1, 2


def main() -> int:
    """See above."""
    args = _arguments()
    try:
        room.enter()
        wire.set_up(CROSSING_PORT)
        with room.workplace(args.dir, ROOM * max(args.scale, 0.03), fresh=not args.as_it_is) as base:
            report = _measure(args, base)
    except (Failed, room.NoRoom) as e:
        print(e, file=sys.stderr)
        return 2
    print(table.text(report))
    if args.json:
        report.write(args.json)
    missed = report.missed()
    print(f"\nmissed: {'; '.join(missed) or 'none'}")
    return 1 if missed and args.scale == 1 else 0


def _measure(args: argparse.Namespace, base: Path) -> Report:
    for package in storagemirror.__path__:  # as in the product's image, whatever PYTHONDONTWRITEBYTECODE says here
        compileall.compile_dir(package, quiet=1)
    report = Report(args.scale, args.rounds, machine(base))
    shop = Workshop(base, args.scale, holds=args.scale >= 1)  # a small one may run beside others
    cases = chosen(args.only)
    for i, case in enumerate(cases):
        start = time.monotonic()
        with _alone(args.lock):
            report.outcomes.append(shop.run(case, args.rounds))
        report.commands = shop.commands
        if args.json:
            report.write(args.json)  # what is measured is kept, whatever comes
        print(f"{case.title}: {args.rounds} rounds in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
        if all(later.data is not case.data for later in cases[i + 1 :]) and case.data.name != "D1":
            shop.forget(case.data)
    shop.memory.let_go()
    if not args.no_memory:
        report.residences = memory.measure(base, args.scale)
    return report


@contextmanager
def _alone(files: list[str]) -> Iterator[None]:
    """While nobody else holds a lock (flock) on any of these files."""
    with ExitStack() as held:
        for name in files:
            file = held.enter_context(open(name, "a", encoding="utf-8"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.mirror", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="data sets at a tenth, 2 rounds: under 3 minutes")
    parser.add_argument(
        "--lock", action="append", default=[], metavar="FILE", help="hold a lock on FILE while a case is measured"
    )
    parser.add_argument("--scale", type=float, help="share of the data sets (default: 1)")
    parser.add_argument("--rounds", type=int, help="of each case (default: 5)")
    parser.add_argument(
        "--only", action="append", default=[], choices=[case.key for case in CASES], help="may be repeated"
    )
    parser.add_argument("--no-memory", action="store_true", help="leave the agents' memory out")
    parser.add_argument("--dir", default="/var/tmp", help="where the fresh file system lies (default: /var/tmp)")
    parser.add_argument("--as-it-is", action="store_true", help="no fresh file system: measure in --dir itself")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the results there")
    args = parser.parse_args()
    args.scale = args.scale or (QUICK_SCALE if args.quick else 1.0)
    args.rounds = args.rounds or (QUICK_ROUNDS if args.quick else 5)
    return args


if __name__ == "__main__":
    sys.exit(main())
