"""PostgreSQL under pgbench on a volume that is replicated by points: `make campaign-postgres`.

Each round: pgbench alone, with `Live`, and with `Point`, one after the other; at a random moment of the last both
agents are killed, the copy is brought to its point, and PostgreSQL is started on it. It must start, pg_amcheck must
find nothing, the balances must be equal, and every transaction that pgbench had counted before the moment of the last
reported point must be there.

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
from tests.support.agents import AgentPair
from tests.support.disks import disk
from tests.support.guards import Guards, guards
from tests.support.podweight import enter, pod
from tests.support.pointpair import points, until_point
from tests.support.postgres import Cluster
from tests.support.smallapi import SmallApi


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


def bench(cluster: Cluster, directory: Path, seconds: int) -> Bench:
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


@dataclass
class Round:
    """What one round came to."""

    benches: dict[str, Bench]
    made: PointsMade
    there: int
    promised: int


@dataclass(frozen=True)
class Plan:
    """What each round does. `request`: of PostgreSQL's pod, in thousandths of a processor; 0: none has a share.
    `target_in`: where the target's disk is made; None: beside the source's."""

    scale: int
    seconds: int
    interval: float
    request: int
    target_in: Path | None


def weigh(plan: Plan, stack: ExitStack, pair: AgentPair, ours: Guards) -> None:
    """Each agent, with its guards, gets the share of its pod."""
    if not plan.request:
        return
    request = int(str(ResourceRequests().cpu).removesuffix("m"))
    guards_too = [guard.pid for guard in ours.processes]
    for agent, others in ((pair.source, guards_too), (pair.target, [])):
        group = stack.enter_context(pod(agent.role.value, request))
        for pid in (agent.running().pid, *others):
            enter(group, pid)


def play(directory: Path, plan: Plan, chance: random.Random) -> Round:
    """One round."""
    scale, seconds, interval = plan.scale, plan.seconds, plan.interval
    benches: dict[str, Bench] = {}
    with ExitStack() as stack:
        elsewhere = directory
        if plan.target_in is not None:
            elsewhere = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=plan.target_in)))
            os.chmod(elsewhere, 0o755)
        source = stack.enter_context(disk(directory, "ext4", 1500 + 40 * scale, "source"))
        target = stack.enter_context(disk(elsewhere, "ext4", 3000 + 80 * scale, "target"))
        ours = stack.enter_context(guards(directory, source.path))
        ours.both()
        api = SmallApi(directory)
        pair = AgentPair(directory, "shop", lambda role: api)
        pair.source.volume, pair.target.volume = source.path, target.path
        pair.source.settings["STORAGEMIRROR_GUARD_PATH"] = str(ours.shared)
        cluster = Cluster.make(source.path / "pg", directory / "sockets", 55432, scale)
        started = int(cluster.ask("SELECT count(*) FROM pgbench_history"))
        try:
            print(f"fsync p99 {1000 * fsync_p99(source.path):.1f} ms", flush=True)
            benches["alone"] = bench(cluster, directory, seconds)
            pair.start()
            weigh(plan, stack, pair, ours)
            pair.until(Phase.REPLICATING, 120)
            benches["live"] = bench(cluster, directory, seconds)
            order = ReplicationOrder(consistency=Consistency.POINT, interval_seconds=interval)
            pair.source.give(replication=order)
            until_point(pair, 0, 120)
            cutting = threading.Timer(seconds * (0.6 + 0.4 * chance.random()), lambda: cut(pair, made))
            made: list[tuple[PointsMade, float]] = []
            cutting.start()
            began = time.time()
            benches["point"] = bench(cluster, directory, seconds)
            cutting.join()
        finally:
            cluster.stop()
            pair.close()
            api.stop()
        point, cut_at = made[0]
        benches["point"].times = [found for found in benches["point"].times if found[0] < cut_at]
        benches["point"].seconds = max(1.0, cut_at - began)
        at = from_rfc3339(point.at or "") / 1e9
        acknowledged = [when for run in benches.values() for when, _ in run.times if when < at]
        with TargetVolume.open(str(target.path)) as volume:
            volume.claim()
        copy = Cluster(target.path / "pg", directory / "sockets", 55433)
        (copy.data / "postmaster.pid").unlink(missing_ok=True)
        copy.start()
        try:
            return Round(benches, point, copy.judge() - started, len(acknowledged))
        finally:
            copy.stop()


def cut(pair: AgentPair, made: list[tuple[PointsMade, float]]) -> None:
    """Kill both agents; what the source had told last of its points, and when."""
    found = points(pair)
    assert found is not None
    made.append((found, time.time()))
    pair.target.kill()
    pair.source.kill()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description="PostgreSQL under pgbench on a volume replicated by points")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--scale", type=int, default=5, help="of pgbench: 15 MB each")
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--request", type=int, default=1000, help="of PostgreSQL's pod, in thousandths of a processor")
    parser.add_argument("--target-in", type=Path, default=Path("/dev/shm"), help="directory of the target's disk")
    parser.add_argument("--seed", type=int, default=None, help="default: the time")
    given = parser.parse_args()
    chance = random.Random(given.seed if given.seed is not None else time.time_ns())
    plan = Plan(given.scale, given.seconds, given.interval, given.request, given.target_in)
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
            one = play(Path(directory), plan, chance)
        found.append(one)
        made = one.made
        print(
            f"round {number + 1}: starts, clean; {one.there} transactions there, {one.promised} promised; "
            f"points {made.made}, put off {made.put_off} ({made.why or 'none lately'}); stall ms p50 "
            f"{1000 * (made.stall_p50 or 0):.0f} p99 {1000 * (made.stall_p99 or 0):.0f}, beyond FIFREEZE p50 "
            f"{1000 * (made.beyond_p50 or 0):.0f} p99 {1000 * (made.beyond_p99 or 0):.0f}; missed {made.missed}",
            flush=True,
        )
        assert one.there >= one.promised, "a transaction that was acknowledged before the point is not there"
    for kind in ("alone", "live", "point"):
        tps = statistics.median(one.benches[kind].tps for one in found)
        p99 = statistics.median(one.benches[kind].p99 for one in found)
        print(f"{kind:6} {tps:7.0f} tps, p99 {1000 * p99:6.1f} ms (medians of {len(found)})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
