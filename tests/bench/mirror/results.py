"""What was measured, and what follows from it; kept as JSON, without paths or names of the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.bench.mirror.processes import Measured

OURS = "storagemirror"


@dataclass(frozen=True)
class Ratio:
    """Ours divided by a peer's: the median over the rounds, each round's two being run one after the other."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(ours: list[float], theirs: list[float]) -> Ratio:
        """Of paired values; ValueError when they do not pair."""
        if not ours:
            raise ValueError("expected at least one round")
        ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios))


@dataclass(frozen=True)
class Against:
    """A row of the table: what we are held against, and the ratios that came out."""

    peer: str
    bar: float
    aim: float
    wall: Ratio
    synced: Ratio
    cpu: Ratio

    @property
    def verdict(self) -> str:
        """By the table of the bars: the tools as they stop."""
        if self.wall.median <= self.aim:
            return "aim met"
        return "bar met" if self.wall.median <= self.bar else "MISSED"


@dataclass
class Outcome:
    """All runs of one case: by tool, one for each round. `bars` gives bar and aim of each peer."""

    key: str
    title: str
    bars: dict[str, tuple[float, float]]
    runs: dict[str, list[Measured]] = field(default_factory=dict)

    def add(self, tool: str, measured: Measured) -> None:
        """One more run of a tool."""
        self.runs.setdefault(tool, []).append(measured)

    def rows(self) -> list[Against]:
        """One for each peer."""
        ours = self.runs[OURS]
        return [self._against(peer, bar, aim, ours) for peer, (bar, aim) in self.bars.items()]

    def _against(self, peer: str, bar: float, aim: float, ours: list[Measured]) -> Against:
        theirs = self.runs[peer]

        def ratio(what: str) -> Ratio:
            return Ratio.of([getattr(run, what) for run in ours], [getattr(run, what) for run in theirs])

        return Against(peer, bar, aim, ratio("wall"), ratio("synced"), ratio("cpu"))

    def middle(self, tool: str, what: str) -> float:
        """The median of one column of a tool."""
        return float(statistics.median(getattr(run, what) for run in self.runs[tool]))

    def resident(self, tool: str) -> dict[str, int]:
        """The largest peak of each of its processes, in bytes."""
        peaks: dict[str, int] = {}
        for run in self.runs[tool]:
            for name, size in run.resident.items():
                peaks[name] = max(peaks.get(name, 0), size)
        return peaks


@dataclass(frozen=True)
class Residence:
    """The most memory each agent of a pair had while it mirrored something, in bytes."""

    what: str
    source: int
    target: int
    limit: int

    @property
    def holds(self) -> bool:
        """Both within the limit?"""
        return max(self.source, self.target) <= self.limit


@dataclass
class Report:
    """A whole run of the bench."""

    scale: float
    rounds: int
    machine: dict[str, str]
    commands: dict[str, list[str]] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    residences: list[Residence] = field(default_factory=list)

    def missed(self) -> list[str]:
        """The bars that were not met."""
        rows = [f"{o.title} against {row.peer}" for o in self.outcomes for row in o.rows() if row.verdict == "MISSED"]
        return rows + [f"memory: {one.what}" for one in self.residences if not one.holds]

    def write(self, path: Path) -> None:
        """As JSON, with the rows beside the runs that they come from."""
        said: dict[str, Any] = asdict(self)
        for told, outcome in zip(said["outcomes"], self.outcomes, strict=True):
            told["rows"] = [{**asdict(row), "verdict": row.verdict} for row in outcome.rows()]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_rounded(said), indent=1) + "\n")


def read(path: Path) -> Report:
    """What `Report.write` wrote."""
    said = json.loads(path.read_text())
    for outcome in said["outcomes"]:
        del outcome["rows"]
    return msgspec.convert(said, Report)


def machine(directory: Path) -> dict[str, str]:
    """What a reader needs to know of this machine; the file system is that of `directory`."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    kind = _said("stat", "--file-system", "--format=%T", str(directory))
    return {
        "cores": str(os.cpu_count()),
        "processor": cpu.partition(":")[2].strip() or platform.machine(),
        "memory": f"{memory / 1e9:.0f} GB",
        "kernel": platform.release(),
        "file system": "ext4" if kind == "ext2/ext3" else kind,
        "python": platform.python_version(),
        "rsync": _said("rsync", "--version").split("protocol")[0].replace("rsync  version", "").strip(),
        "stunnel": _said("stunnel", "-version").split(" on ")[0].split("stunnel ")[-1],
        "commit": _said("git", "describe", "--always", "--dirty"),
    }


def _said(*command: str) -> str:
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout.strip()


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return round(value, 4) if isinstance(value, float) else value
