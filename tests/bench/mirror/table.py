"""The table of a run, as Markdown: it is printed, and stands in docs/performance.md as it was printed."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

from tests.bench.mirror.results import OURS, Outcome, Ratio, Report

BUSY = 0.2
"""Cores that others may use before the times are called in doubt."""
_RATIOS = ("work", "peer", "peer", "ours", "ratio", "of the rounds", "bar", "aim", "", "with syncfs", "CPU")
_COSTS = ("work", "tool", "wall", "with syncfs", "CPU", "peak memory of each process", "to target", "back", "others")


def text(report: Report) -> str:
    """All of it."""
    return "\n".join(_lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.rounds} rounds, {_size(report.scale)}; " + ", ".join(f"{k} {v}" for k, v in report.machine.items())
    if report.scale != 1:
        yield "The bars are for full size. At a smaller one the start of our two Pythons weighs more."
    if report.outcomes:
        yield from _noise(report.outcomes)
        yield ""
        yield "The ratios, ours divided by the peer's (*CPU* that of both ends):"
        yield ""
        yield from ratios(report.outcomes)
        yield ""
        yield "What each tool cost:"
        yield ""
        yield from costs(report.outcomes)
    if report.residences:
        yield ""
        rows = [
            (one.what, _mb(one.source), _mb(one.target), _mb(one.limit), "met" if one.holds else "MISSED")
            for one in report.residences
        ]
        yield from _table(("an agent's peak memory with", "source agent", "target agent", "bar", ""), rows)
    yield ""
    yield "```"
    for tool, commands in report.commands.items():
        yield f"# {tool}"
        yield from commands
    yield "```"


def _noise(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """A word of warning where the machine did not only do this."""
    others = statistics.median(run.others for outcome in outcomes for runs in outcome.runs.values() for run in runs)
    if others > BUSY:
        yield f"Other work took {others:.1f} of the cores meanwhile: times and their ratios say little, CPU says more."


def ratios(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What came out: ours divided by each peer's. Smaller is better."""
    rows = []
    for outcome in outcomes:
        for row in outcome.rows():
            walls = (_seconds(outcome.middle(row.peer, "wall")), _seconds(outcome.middle(OURS, "wall")))
            spread = f"{row.wall.least:.2f} to {row.wall.most:.2f}"
            judged = (f"{row.bar:g}", f"{row.aim:g}", row.verdict)
            rows.append(
                (
                    outcome.title,
                    row.peer,
                    *walls,
                    _ratio(row.wall),
                    spread,
                    *judged,
                    _ratio(row.synced),
                    _ratio(row.cpu),
                )
            )
    yield from _table(_RATIOS, rows)


def costs(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What each tool cost: medians of the rounds; memory is the most of all rounds."""
    rows = []
    for outcome in outcomes:
        for tool in outcome.runs:
            seconds = [_seconds(outcome.middle(tool, what)) for what in ("wall", "synced", "cpu")]
            memory = ", ".join(f"{name} {_mb(size)}" for name, size in outcome.resident(tool).items() if name != "find")
            crossed = [_mb(outcome.middle(tool, what)) for what in ("there", "back")]
            rows.append(
                (outcome.title, tool, *seconds, memory, *crossed, f"{outcome.middle(tool, 'others'):.1f} cores")
            )
    yield from _table(_COSTS, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        yield "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"


def _size(scale: float) -> str:
    return "full size" if scale == 1 else f"data sets at {scale:g} of their size"


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.median:.2f}"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _mb(size: float) -> str:
    return f"{size / 1e6:,.1f} MB" if size < 10e6 else f"{size / 1e6:,.0f} MB"
