"""PostgreSQL under pgbench on a volume that is replicated by points: `make campaign-postgres`.

Each round, on a fresh database: pgbench alone beside pgbench with `Live`, then alone beside `Point`. A database
becomes slower as it is used, so each is held against the one alone right beside it; in every other round that comes
after it, in the others before. At a random moment of `Point` both agents are killed, the copy is brought to its point,
and PostgreSQL is started on it. It must start, pg_amcheck must find nothing, the balances must be equal, and every
transaction that pgbench had counted before the moment of the last reported point must be there.

As on a cluster, each has the share of the processors that its pod's CPU request gives: PostgreSQL and its clients 1
CPU (`--request`; 0 lets all compete as they are), each agent what a pair requests by default. The copy lies in memory
(`--target-in`): another node's disk takes nothing from the source's. Printed: throughput and latency, for how long
writes waited (FIFREEZE itself and what we added), points made and put off and why, and what an fsync takes on this
disk.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from storagemirror.api.agents import ResourceRequests
from storagemirror.clock import from_rfc3339
from storagemirror.contract import Consistency, Phase, PointsMade, ReplicationOrder
from storagemirror.fs.target import TargetVolume
from tests.support.agents import Agent, AgentPair
from tests.support.disks import disk
from tests.support.guards import guards
from tests.support.podweight import enter, pod
from tests.support.pointpair import points, until_point
from tests.support.postgres import Cluster
from tests.support.smallapi import SmallApi

MODES = ("live", "point")


@dataclass
class Bench:
    """One run of pgbench."""

    seconds: float
    times: list[tuple[float, float]] = field(default_factory=list)
    """Of each transaction: when it was acknowledged (Unix epoch), and its latency; seconds."""

    @property
    def tps(self) -> float:
        return len(self.times) / self.seconds

    @property
    def p99(self) -> float:
        found = sorted(latency for _, latency in self.times)
        return found[int(0.99 * len(found))] if found else 0.0


def bench(cluster: Cluster, seconds: int) -> Bench:
    """With 4 clients, each transaction logged."""
    prefix = cluster.sockets / f"log{time.monotonic_ns()}"
    cluster.bench("-n", "-c", "4", "-T", str(seconds), "-l", f"--log-prefix={prefix}")
    found = Bench(seconds)
    for path in cluster.sockets.glob(f"{prefix.name}*"):
        for line in path.read_text().splitlines():
            words = line.split()
            found.times.append((int(words[4]) + int(words[5]) / 1e6, int(words[2]) / 1e6))
        path.unlink()
    return found


def fsync_p99(directory: Path) -> float:
    """Of 200 writes of 8 KiB."""
    took = []
    fd = os.open(directory / "fsync", os.O_RDWR | os.O_CREAT)
    for number in range(200):
        began = time.perf_counter()
        os.pwrite(fd, os.urandom(8192), number * 8192)
        os.fsync(fd)
        took.append(time.perf_counter() - began)
    os.close(fd)
    os.unlink(directory / "fsync")
    return sorted(took)[198]


@dataclass(frozen=True)
class Judged:
    """What there was on the copy after `Point` was cut off. Transactions, but for `made`."""

    made: PointsMade
    there: int
    promised: int

    def __str__(self) -> str:
        made = self.made
        return (
            f"starts, clean; {self.there} transactions there, {self.promised} promised; points {made.made}, put off "
            f"{made.put_off} ({made.why or 'none lately'}); stall ms p50 {1000 * (made.stall_p50 or 0):.0f} p99 "
            f"{1000 * (made.stall_p99 or 0):.0f}, beyond FIFREEZE p50 {1000 * (made.beyond_p50 or 0):.0f} p99 "
            f"{1000 * (made.beyond_p99 or 0):.0f}; missed {made.missed}"
        )


@dataclass
class Round:
    """What one round came to: by mode of replication the run with it, and the one alone beside it."""

    with_us: dict[str, Bench]
    alone: dict[str, Bench]
    judged: Judged | None = None

    def share(self, kind: str) -> float:
        """Of the throughput alone."""
        return self.with_us[kind].tps / self.alone[kind].tps

    def times(self, kind: str) -> float:
        """The p99 of the latency, alone being 1."""
        return self.with_us[kind].p99 / self.alone[kind].p99


@dataclass(frozen=True)
class Plan:
    """What each round does. `request`: of PostgreSQL's pod, in thousandths of a processor; 0: none has a share.
    `target_in`: where the target's disk is made; None: beside the source's."""

    scale: int
    seconds: int
    interval: float
    request: int
    target_in: Path | None
    modes: tuple[str, ...] = MODES


class Stage:
    """A fresh database, and what a round does with it."""

    def __init__(self, directory: Path, plan: Plan, stack: ExitStack) -> None:
        elsewhere = directory
        if plan.target_in is not None:
            elsewhere = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=plan.target_in)))
            os.chmod(elsewhere, 0o755)
        self.directory, self.plan = directory, plan
        source = stack.enter_context(disk(directory, "ext4", 1500 + 40 * plan.scale, "source"))
        self.copy = stack.enter_context(disk(elsewhere, "ext4", 3000 + 80 * plan.scale, "target")).path
        self._guards = stack.enter_context(guards(directory, source.path))
        self._guards.both()
        api = SmallApi(directory)
        stack.callback(api.stop)
        self.pair = AgentPair(directory, "shop", lambda role: api)
        stack.callback(self.pair.close)
        self.pair.source.volume, self.pair.target.volume = source.path, self.copy
        self.pair.source.settings["STORAGEMIRROR_GUARD_PATH"] = str(self._guards.shared)
        self._pods = self._weights(stack)
        self.cluster = Cluster.make(source.path / "pg", directory / "sockets", 55432, plan.scale)
        stack.callback(self.cluster.stop)
        self.started = int(self.cluster.ask("SELECT count(*) FROM pgbench_history"))
        print(f"fsync p99 {1000 * fsync_p99(source.path):.1f} ms", flush=True)

    def _weights(self, stack: ExitStack) -> list[Path]:
        """Cgroups of the source's and the target's pod, with the guards in the first; none where nobody has a share."""
        if not self.plan.request:
            return []
        request = int(str(ResourceRequests().cpu).removesuffix("m"))
        pods = [stack.enter_context(pod(role, request)) for role in ("source", "target")]
        for guard in self._guards.processes:
            enter(pods[0], guard.pid)
        return pods

    def alone(self) -> Bench:
        """Without agents."""
        self.pair.close()
        return self._bench()

    def live(self) -> Bench:
        """With `Live`."""
        self._replicate(ReplicationOrder())
        self._look()
        found = self._bench()
        print(f"Live: {self._used()}", flush=True)
        return found

    def point(self, chance: random.Random) -> tuple[Bench, PointsMade]:
        """With `Point`, until both agents are killed; what the source had told of its points last."""
        seconds = self.plan.seconds
        self._replicate(ReplicationOrder(consistency=Consistency.POINT, interval_seconds=self.plan.interval))
        until_point(self.pair, 0, 120)
        made: list[tuple[PointsMade, float, str]] = []
        cutting = threading.Timer(seconds * (0.6 + 0.4 * chance.random()), lambda: made.append(self._cut()))
        cutting.start()
        self._look()
        began = time.time()
        found = self._bench()
        cutting.join()
        point, cut_at, used = made[0]
        print(f"Point: {used}", flush=True)
        found.times = [one for one in found.times if one[0] < cut_at]
        found.seconds = max(1.0, cut_at - began)
        return found, point

    @property
    def _agents(self) -> tuple[Agent, Agent]:
        return self.pair.source, self.pair.target

    def _bench(self) -> Bench:
        return bench(self.cluster, self.plan.seconds)

    def _replicate(self, order: ReplicationOrder) -> None:
        self.pair.close()
        self.pair.start(replication=order)
        for agent, group in zip(self._agents, self._pods, strict=False):
            enter(group, agent.running().pid)
        self.pair.until(Phase.REPLICATING, 120)

    def _look(self) -> None:
        """A run begins: what the agents use counts from now on."""
        self._began = time.monotonic()
        self._spent = [agent.cpu_seconds() for agent in self._agents]

    def _used(self) -> str:
        """Of the processors since the last look."""
        took = time.monotonic() - self._began
        used = (agent.cpu_seconds() - before for agent, before in zip(self._agents, self._spent, strict=True))
        source, target = (100 * seconds / took for seconds in used)
        return f"source agent {source:.0f} % of a core, target agent {target:.0f} %"

    def _cut(self) -> tuple[PointsMade, float, str]:
        """Kill both agents; what the source had told last of its points, and when."""
        found, used, at = points(self.pair), self._used(), time.time()
        assert found is not None
        self.pair.target.kill()
        self.pair.source.kill()
        return found, at, used

    def judge(self) -> int:
        """Start PostgreSQL on the copy; how many transactions are there. AssertionError."""
        with TargetVolume.open(str(self.copy)) as volume:
            volume.claim()
        copy = Cluster(self.copy / "pg", self.directory / "sockets", 55433)
        (copy.data / "postmaster.pid").unlink(missing_ok=True)
        copy.start()
        try:
            return copy.judge() - self.started
        finally:
            copy.stop()


def play(directory: Path, plan: Plan, chance: random.Random, *, alone_first: bool) -> Round:
    """One round."""
    alone: dict[str, Bench] = {}
    with_us: dict[str, Bench] = {}
    made: PointsMade | None = None
    with ExitStack() as stack:
        stage = Stage(directory, plan, stack)
        for mode in plan.modes:
            if alone_first:
                alone[mode] = stage.alone()
            if mode == "live":
                with_us[mode] = stage.live()
            else:
                with_us[mode], made = stage.point(chance)
            if not alone_first:
                alone[mode] = stage.alone()
        if made is None:
            return Round(with_us, alone)
        stage.cluster.stop()
        at = from_rfc3339(made.at or "") / 1e9
        acknowledged = [when for run in (*alone.values(), *with_us.values()) for when, _ in run.times if when < at]
        return Round(with_us, alone, Judged(made, stage.judge(), len(acknowledged)))


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="PostgreSQL under pgbench on a volume replicated by points")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--scale", type=int, default=5, help="of pgbench: 15 MB each")
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--request", type=int, default=1000, help="of PostgreSQL's pod, in thousandths of a processor")
    parser.add_argument("--target-in", type=Path, default=Path("/dev/shm"), help="directory of the target's disk")
    parser.add_argument("--only", choices=MODES, help="one mode (default: both, one after the other)")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C: what it made goes
    chance = random.Random(given.seed if given.seed is not None else time.time_ns())
    modes = (given.only,) if given.only else MODES
    plan = Plan(given.scale, given.seconds, given.interval, given.request, given.target_in, modes)
    with pod("application", plan.request) if plan.request else nullcontext() as group:
        if group is not None:
            enter(group, os.getpid())
        return rounds(given.rounds, plan, chance)


def rounds(number_of: int, plan: Plan, chance: random.Random) -> int:
    """All of them, and the medians."""
    found: list[Round] = []
    for number in range(number_of):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            os.chmod(directory, 0o755)
            one = play(Path(directory), plan, chance, alone_first=number % 2 == 0)
        found.append(one)
        both = ", ".join(f"{kind} {one.with_us[kind].tps:.0f} of {one.alone[kind].tps:.0f} tps" for kind in one.alone)
        print(f"round {number + 1}: {both}{f'; {one.judged}' if one.judged else ''}", flush=True)
        if one.judged is not None:
            lacking = "a transaction that was acknowledged before the point is not there"
            assert one.judged.there >= one.judged.promised, lacking
    for kind in plan.modes:
        alone = statistics.median(one.alone[kind].tps for one in found)
        shares, times = [one.share(kind) for one in found], [one.times(kind) for one in found]
        print(
            f"{kind:6} {100 * statistics.median(shares):5.1f} % of the throughput alone ({alone:.0f} tps), min "
            f"{100 * min(shares):.1f}, max {100 * max(shares):.1f}; p99 {statistics.median(times):.2f} times "
            f"(medians of {len(found)} pairs)"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
