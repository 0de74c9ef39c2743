"""A source that is overwritten without a pause: `make campaign-overwrite MINUTES=10 RATE=200`.

A writer of its own overwrites random places of a set of files in place, so many MB a second, while a pair of real
agents follows: once with `Live`, once with `Point`. Each two seconds the memory of both agents, the lag that the source
tells, the points made and put off, and the room that our directory takes on the target are looked at. Then the writer
ends, the pair is given time to come to rest, and rsync must find both sides equal, contents compared. Printed: what the
writer reached with us and, for a few seconds before, without; memory of the agents over the thirds of the time; the
lag; the interval between points that was reached. Ends with 1 when the sides are not equal, or memory has grown: an
agent's highest of the last third is more than a tenth and 16 MB beyond that of the second third, or beyond 150 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

from storagemirror.contract import Consistency, Phase, ReplicationOrder
from tests.bench.latency.tools import agents
from tests.bench.mirror.results import machine
from tests.bench.overwriter import fill
from tests.cluster.layout import checkout
from tests.support.agents import AgentPair, wait_for
from tests.support.disks import disk, room_of
from tests.support.pointpair import pointing, until_point

PREFIX = "sm-over."
"""Short: the path of a guard's socket has a limit of 107 bytes."""
LOOK_SECONDS = 2.0
MEMORY_LIMIT = 150e6
GROWTH, GROWTH_BYTES = 1.1, 16e6
ALONE_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """What is done. Sizes in MiB, `rate` in MB/s, times in seconds."""

    seconds: float
    rate: float
    files: int
    mebibytes: int
    interval: float
    max_stall: float
    patience: float = 600.0
    """To become equal, once the writer has ended."""


@dataclass(frozen=True)
class Look:
    """At one moment; bytes and seconds. None: not known, or there is none."""

    at: float
    source: int
    target: int
    lag_seconds: float | None
    lag_bytes: int | None
    made: int
    put_off: int
    state: int
    """That our directory takes on the target."""


@dataclass
class Course:
    """One mode, from the first write to the proof."""

    mode: str
    seconds: float
    looks: list[Look] = field(default_factory=list)
    alone: float = 0.0
    """MB/s of the writer without us."""
    reached: float = 0.0
    equal_after: float | None = None
    """Seconds from the writer's end until both sides were equal; None: they were not."""
    why: str = ""
    """The last reason for which a point was put off."""

    def thirds(self, side: str) -> list[int]:
        """The most memory of an agent in each third of the time."""
        size = max(1, len(self.looks) // 3)
        parts = [self.looks[:size], self.looks[size : 2 * size], self.looks[2 * size :]]
        return [max((int(getattr(look, side)) for look in part), default=0) for part in parts]

    def grew(self, side: str) -> bool:
        """Whether an agent's memory is beyond what is allowed, or still growing."""
        _, second, last = self.thirds(side)
        return last > MEMORY_LIMIT or last > GROWTH * second + GROWTH_BYTES

    @property
    def holds(self) -> bool:
        return self.equal_after is not None and not self.grew("source") and not self.grew("target")


def play(place: Path, mode: Consistency, plan: Plan) -> Course:
    """One mode, on file systems of its own."""
    room = 2 * plan.files * plan.mebibytes + 600
    course = Course(mode.value, plan.seconds)
    with agents(place / "scratch") as pair, disk(place, "ext4", 2 * room, "copy") as copy:
        pair.target.volume = copy.path
        points = mode is Consistency.POINT
        alone = disk(place, "ext4", room, "source") if not points else nullcontext()
        with alone as made, pointing(pair, place, "ext4", room) if points else nullcontext():
            if made is not None:
                pair.source.volume = made.path
            try:
                _follow(pair, mode, plan, course)
            finally:
                pair.close()
    return course


def _follow(pair: AgentPair, mode: Consistency, plan: Plan, course: Course) -> None:
    fill(pair.source.volume, plan.files, plan.mebibytes)
    with writing(pair.source.volume, plan) as said:
        time.sleep(min(ALONE_SECONDS, plan.seconds))
    course.alone = _rate(said)
    pair.start(
        replication=ReplicationOrder(consistency=mode, interval_seconds=plan.interval, max_stall_seconds=plan.max_stall)
    )
    pair.until(Phase.REPLICATING, 300)
    if mode is Consistency.POINT:
        until_point(pair, 0, 300)
    with writing(pair.source.volume, plan) as said:
        began = time.monotonic()
        while (at := time.monotonic() - began) < plan.seconds:
            course.looks.append(look(pair, at))
            time.sleep(min(LOOK_SECONDS, plan.seconds / 6))
    ended = time.monotonic()
    course.reached = _rate(said)
    report = pair.source.report()
    course.why = report.points.why if report is not None and report.points is not None else ""
    course.equal_after = _equal_after(pair, ended, plan.patience)


def _equal_after(pair: AgentPair, ended: float, patience: float) -> float | None:
    while time.monotonic() - ended < patience:
        if pair.equal():
            return time.monotonic() - ended
        time.sleep(LOOK_SECONDS)
    print(pair.tell(), file=sys.stderr)
    return None


def look(pair: AgentPair, at: float) -> Look:
    """As it is now."""
    report = pair.source.report()
    points = report.points if report is not None else None
    return Look(
        at,
        pair.source.resident(),
        pair.target.resident(),
        report.lag_seconds if report is not None else None,
        report.lag_bytes if report is not None else None,
        points.made if points is not None else 0,
        points.put_off if points is not None else 0,
        room_of(pair.target.volume / ".storagemirror"),
    )


@contextmanager
def writing(directory: Path, plan: Plan) -> Iterator[Path]:
    """The writer, until the end; the file that it says what it wrote in."""
    with tempfile.TemporaryDirectory() as place:
        said = Path(place) / "said"
        words = [str(directory), str(plan.rate), str(plan.files), str(plan.mebibytes)]
        with said.open("wb") as to:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.bench.overwriter", *words],
                cwd=checkout(),
                env={**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"},
                stdout=to,
            )
        kept = directory.parent / f"said{time.monotonic_ns()}"
        try:
            wait_for(lambda: said.stat().st_size, "the writer to write", 60)
            yield kept
        finally:
            failed = process.poll() is not None
            process.kill()
            process.wait()
            kept.write_bytes(said.read_bytes())
        assert not failed, "the writer ended by itself"


def _rate(said: Path) -> float:
    """MB/s, over all of its time."""
    written, seconds = said.read_text().splitlines()[-1].split()
    said.unlink()
    return int(written) / float(seconds) / 1e6


def text(plan: Plan, courses: list[Course]) -> str:
    """What came out, as Markdown."""
    size = plan.files * plan.mebibytes
    lines = [
        f"{plan.rate:g} MB/s asked for, {plan.seconds:g} s, {plan.files} files of {plan.mebibytes} MiB ({size} MiB)",
        "",
        "| mode | writer alone, with us | memory of source in thirds | of target | lag p50, max | points |"
        " interval reached | our room on the target, max | equal after |  |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(course) for course in courses]
    lines += [f"{course.mode}: last point put off: {course.why}" for course in courses if course.why]
    return "\n".join(lines)


def _row(course: Course) -> str:
    lags = [one.lag_seconds for one in course.looks if one.lag_seconds is not None]
    lag = f"{statistics.median(lags):.1f} s, {max(lags):.1f} s" if lags else "not told"
    first, last = course.looks[0], course.looks[-1]
    made, put_off = last.made - first.made, last.put_off - first.put_off
    points = f"{made}, put off {put_off}" if course.mode == Consistency.POINT.value else ""
    interval = f"{(last.at - first.at) / made:.1f} s" if made else "none" if points else ""
    memory = [", ".join(f"{size / 1e6:.0f}" for size in course.thirds(side)) + " MB" for side in ("source", "target")]
    equal = f"{course.equal_after:.1f} s" if course.equal_after is not None else "NEVER"
    state = f"{max(one.state for one in course.looks) / 1e6:.0f} MB"
    rates = f"{course.alone:.0f}, {course.reached:.0f} MB/s"
    verdict = "holds" if course.holds else "FAILED"
    cells = [course.mode, rates, *memory, lag, points, interval, state, equal, verdict]
    return "| " + " | ".join(cells) + " |"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.campaign_overwrite", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of each mode")
    parser.add_argument("--rate", type=float, default=200.0, help="MB/s")
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--mebibytes", type=int, default=64, help="of each file")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between points")
    parser.add_argument("--max-stall", type=float, default=0.2, help="seconds")
    parser.add_argument("--only", choices=[mode.value for mode in (Consistency.LIVE, Consistency.POINT)])
    parser.add_argument("--dir", default="/var/tmp", help="where the file systems' images go (default: /var/tmp)")
    parser.add_argument("--json", type=Path, help="keep the results here")
    args = parser.parse_args()
    plan = Plan(60 * args.minutes, args.rate, args.files, args.mebibytes, args.interval, args.max_stall)
    courses = []
    for mode in (Consistency.LIVE, Consistency.POINT):
        if args.only in (None, mode.value):
            with tempfile.TemporaryDirectory(prefix=PREFIX, dir=args.dir) as place:
                courses.append(play(Path(place), mode, plan))
                about = machine(Path(place))
            print(_row(courses[-1]), file=sys.stderr, flush=True)
    print(text(plan, courses))
    print(f"load of the machine: {os.getloadavg()[0]:.1f}")
    if args.json:
        said = {"machine": about, "plan": asdict(plan), "courses": [asdict(course) for course in courses]}
        args.json.write_text(json.dumps(said, indent=1) + "\n")
    return 0 if all(course.holds for course in courses) else 1


if __name__ == "__main__":
    sys.exit(main())
