"""Two agents that make points: the source's volume is a file system of its own, with real guards beside it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storagemirror.contract import Consistency, Phase, PointsMade, ReplicationOrder
from storagemirror.fs.trace import TraceUnavailable
from storagemirror.fs.trace.tracefs import Instance, open_tracefs
from tests.support.agents import AgentPair, wait_for
from tests.support.disks import Disk, disk
from tests.support.guards import Guards, guards

POINTS = ReplicationOrder(consistency=Consistency.POINT, interval_seconds=0.5, max_stall_seconds=2.0)


@contextmanager
def pointing(
    pair: AgentPair, directory: Path, kind: str, mebibytes: int = 400, on: Path | None = None
) -> Iterator[tuple[Disk, Guards]]:
    """Give the source of `pair` a file system of `kind`, and guards; nothing of the pair runs yet. Its disk lies in
    `directory`, or `on` another one."""
    with disk(on or directory, kind, mebibytes, "frozen") as made, guards(directory, made.path) as ours:
        pair.source.volume = made.path
        pair.source.settings["STORAGEMIRROR_GUARD_PATH"] = str(ours.shared)
        # The name of its trace in the kernel, which all who test on this machine share.
        pair.source.settings["POD_UID"] = f"test-{os.getpid()}-{pair.source.mirrored}"
        ours.both()
        try:
            yield made, ours
        finally:
            pair.close()
            _sweep()


def start_without_trace(pair: AgentPair, order: ReplicationOrder) -> None:
    """As `AgentPair.start`; the source's agent may not have the kernel's trace."""
    without = ["setpriv", "--bounding-set=-sys_admin", "--"]
    pair.start_as(source=[*without, sys.executable, "-m", "storagemirror.cli.main", "agent"], replication=order)


def _sweep() -> None:
    """Remove what agents that were killed have left in the kernel, as the next agent does."""
    with suppress(TraceUnavailable):
        tracefs = open_tracefs()
        try:
            Instance(tracefs, f"test-{os.getpid()}-sweep").close()
        finally:
            os.close(tracefs)


def points(pair: AgentPair) -> PointsMade | None:
    """What the source told last of its points."""
    report = pair.source.report()
    return report.points if report is not None else None


def until_point(pair: AgentPair, after: int = 0, seconds: float = 30.0) -> PointsMade:
    """Wait for a point with a higher number to be durable on the target."""
    pair.until(Phase.REPLICATING, seconds)

    def later() -> PointsMade | None:
        found = points(pair)
        return found if found is not None and (found.number or 0) > after else None

    found = wait_for(later, f"a point after {after}", seconds, pair.tell)
    assert found is not None
    return found
