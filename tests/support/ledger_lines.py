"""The ledger that the application of the failover tests keeps on its volume, read from outside."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.case import Claim

LINE = re.compile(rb"([0-9]+) ([a-z]+) ([0-9]+\.[0-9]+);")


@dataclass(frozen=True)
class Line:
    """One acknowledged write: its number, the side that wrote it, and when (seconds since 1970)."""

    number: int
    side: str
    written: float


def lines(claim: Claim) -> list[Line]:
    """The whole lines on a volume, while its node has power; empty while there is no ledger. A line that a power cut
    tore is left out."""
    return read(claim.path() / "ledger")


def read(ledger: Path) -> list[Line]:
    """The whole lines of one ledger, wherever it lies; empty while there is none."""
    try:
        text = ledger.read_bytes()
    except FileNotFoundError:
        return []
    found = [LINE.fullmatch(line) for line in text.split(b"\n")]
    return [Line(int(m[1]), m[2].decode(), float(m[3])) for m in found if m]


def of(side: str, found: list[Line]) -> list[Line]:
    """Those that a side wrote."""
    return [line for line in found if line.side == side]


def never_two_writers(source: list[Line], target: list[Line]) -> None:
    """The source's last line is older than the standby's first: at no time did both sides write.

    `source` and `target` are what the two volumes hold. Nor does either volume hold a number twice.
    """
    old, new = of("source", source), of("target", target)
    assert not of("target", source), "the standby wrote on the source's volume"
    if old and new:
        late = [line for line in old if line.written >= new[0].written]
        assert not late, f"the source wrote {late[:3]} (of {len(late)}) after the standby began with {new[0]}"
    for name, found in (("source", source), ("target", target)):
        without_gaps(name, found)


def without_gaps(name: str, found: list[Line]) -> None:
    """What `name` holds has every number from 1 on, once."""
    numbers = [line.number for line in found]
    assert numbers == list(range(1, len(numbers) + 1)), f"the {name}'s ledger has gaps or repeats: {gaps(numbers)}"


def turns(*volumes: list[Line]) -> list[str]:
    """Which sides wrote, by the time of every line on some volumes: `["source", "target"]` after a failover. Where two
    wrote at a time their names alternate."""
    written = sorted({line for found in volumes for line in found}, key=lambda line: line.written)
    return [side for side, _ in itertools.groupby(line.side for line in written)]


def gaps(numbers: list[int]) -> list[tuple[int, int]]:
    """Neighbours that are not one apart, the first few."""
    return [(a, b) for a, b in zip([0, *numbers], numbers, strict=False) if b != a + 1][:5]
