"""What was measured, the bars, and the table; kept as JSON, without paths or names of the machine."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.bench.latency.work import BURST, LARGE, SMALL

FIRST_LARGE = "the first such block after a start"
BARS = {SMALL: 0.1, BURST: 0.5, LARGE: 0.5}
"""Seconds: of one small file the p95, of the others the median."""
_HEAD = ("work", "tool", "times", "p50", "p95", "max", "bar", "")


def p95(times: list[float]) -> float:
    """The value that 95 of 100 do not exceed."""
    ordered = sorted(times)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


@dataclass
class Report:
    """A whole run: seconds by kind of work, and by tool."""

    scale: float
    rounds: int
    ours: str
    machine: dict[str, str]
    times: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    others: list[float] = field(default_factory=list)
    """The load of the machine (of one minute) at the end of each tool's turn."""
    commands: dict[str, list[str]] = field(default_factory=dict)

    def add(self, work: str, tool: str, seconds: float) -> None:
        """One more."""
        self.times.setdefault(work, {}).setdefault(tool, []).append(seconds)

    def judged(self, work: str) -> float | None:
        """What of ours is held against the bar; None where there is no bar."""
        if work not in BARS:
            return None
        ours = self.times[work][self.ours]
        return p95(ours) if work == SMALL else statistics.median(ours)

    def missed(self) -> list[str]:
        """The work whose bar is missed."""
        return [work for work in self.times if (found := self.judged(work)) is not None and found > BARS[work]]

    def write(self, path: Path) -> None:
        """As JSON."""
        said = asdict(self)
        for tools in said["times"].values():
            for tool, times in tools.items():
                tools[tool] = [round(time, 4) for time in times]
        said["judged"] = {
            work: {"seconds": self.judged(work), "bar": BARS[work]} for work in self.times if work in BARS
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(said, indent=1) + "\n")


def text(report: Report) -> str:
    """The table, as Markdown."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    size = "full size" if report.scale == 1 else f"burst and large file at {report.scale:g} of their size"
    yield f"{report.rounds} rounds, {size}; " + ", ".join(f"{key} {value}" for key, value in report.machine.items())
    yield f"load of the machine at the end of each turn: {min(report.others):.1f} to {max(report.others):.1f}"
    yield ""
    rows = [_row(report, work, tool, times) for work, tools in report.times.items() for tool, times in tools.items()]
    widths = [max(len(row[i]) for row in (_HEAD, *rows)) for i in range(len(_HEAD))]
    for row in (_HEAD, tuple("-" * width for width in widths), *rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
    yield ""
    yield "```"
    for tool, commands in report.commands.items():
        yield f"# {tool}"
        yield from commands
    yield "```"


def _row(report: Report, work: str, tool: str, times: list[float]) -> tuple[str, ...]:
    bar = verdict = ""
    found = report.judged(work) if tool == report.ours else None
    if found is not None:
        bar = f"{'p95' if work == SMALL else 'p50'} {BARS[work]:g} s"
        verdict = "bar met" if found <= BARS[work] else "MISSED"
    columns = [_seconds(value) for value in (statistics.median(times), p95(times), max(times))]
    return work, tool, str(len(times)), *columns, bar, verdict


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
