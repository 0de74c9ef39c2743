"""What is timed against whom, and how fast it must be: the rows of the table.

`bar` and `aim` are ratios, our wall time divided by the peer's. The three rows about single changes while an agent
watches belong to continuous replication and are not here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tests.bench.mirror import datasets
from tests.bench.mirror.datasets import D1, D2, D3, Change, DataSet
from tests.bench.mirror.tools import RsyncDaemon, RsyncStunnel, Tool, VolSync


@dataclass(frozen=True)
class Peer:
    """One we are held against in a case."""

    tool: Tool
    bar: float
    aim: float


@dataclass(frozen=True)
class Case:
    """A kind of work. Without a change it is a first copy, into a fresh directory each time."""

    key: str
    data: DataSet
    change: Change | None
    peers: tuple[Peer, ...]

    @property
    def title(self) -> str:
        """As in the table."""
        return f"{self.data.name} {self.change.name if self.change else 'first copy'}"


CASES = (
    Case("d1-first", D1, None, (Peer(RsyncStunnel(), 0.55, 0.35), Peer(VolSync(), 0.33, 0.20))),
    Case("d1-nothing", D1, datasets.NOTHING, (Peer(RsyncDaemon(), 0.5, 0.25),)),
    Case("d1-changed", D1, datasets.ONE_PERCENT, (Peer(RsyncDaemon(), 0.6, 0.35),)),
    Case("d1-renamed", D1, datasets.RENAMES, (Peer(RsyncDaemon(), 0.25, 0.10),)),
    Case(
        "d2-blocks",
        D2,
        datasets.SCATTERED,
        (
            Peer(RsyncDaemon("rsync --inplace", ("-aHAX", "--delete", "--inplace", "--no-whole-file")), 0.4, 0.2),
            Peer(VolSync(), 0.12, 0.05),
        ),
    ),
    Case("d2-first", D2, None, (Peer(RsyncStunnel(), 0.7, 0.45),)),
    Case("d3-first", D3, None, (Peer(RsyncStunnel(), 0.7, 0.45),)),
)
"""In the order in which they are run: what shares a data set stands together."""


def chosen(keys: Iterable[str]) -> list[Case]:
    """Those of these keys, all when there are none."""
    wanted = set(keys)
    return [case for case in CASES if not wanted or case.key in wanted]
