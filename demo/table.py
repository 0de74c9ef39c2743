"""The demo's last lines: what was mirrored, how long it all took, what was lost, for how long it was away."""

from __future__ import annotations

from dataclasses import dataclass

from demo.course import Course
from demo.tally import Tally
from storagemirror.api.operation import OperationPhase

ORDER = [phase.value for phase in OperationPhase]
NOTHING = "–"


@dataclass(frozen=True)
class Way:
    """One way, there or home: what caused it, what was mirrored for it, how it went, what the client saw."""

    cause: str
    mirrored: str
    course: Course
    tally: Tally

    @property
    def lost(self) -> str:
        """What the client had seen and the new side lacks; beside it what the operation says."""
        t = self.tally
        seen = f"{t.lost} lines, {t.lost_seconds:.2f} s of writing" if t.lost else "nothing"
        return f"{seen} (rpoSeconds: {self.course.operation.get('rpoSeconds', 'not known')})"

    @property
    def away(self) -> str:
        """How long the client got no answer; beside it what the operation says."""
        return f"{self.tally.away:.1f} s (rtoSeconds: {self.course.operation.get('rtoSeconds', 'not known')})"


def table(there: Way, home: Way) -> list[str]:
    """Two ways beside each other."""
    both = (there, home)
    times = [way.course.durations() for way in both]
    phases = [phase for phase in ORDER if any(phase in took for took in times)]
    rows = [
        ("", "there", "home"),
        ("by", *(way.cause for way in both)),
        ("mirrored", *(way.mirrored for way in both)),
        ("until it began", *(_seconds(way.course.until_it_began) for way in both)),
        *((phase, *(_seconds(took.get(phase)) for took in times)) for phase in phases),
        ("all of it", *(_seconds(way.course.took) for way in both)),
        ("lost (RPO)", *(way.lost for way in both)),
        ("away (RTO)", *(way.away for way in both)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    rule = "─" * (sum(widths) + max(len(row[2]) for row in rows) + 4)
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]
    return [lines[0], rule, *lines[1:]]


def _seconds(took: float | None) -> str:
    return NOTHING if took is None else f"{took:.1f} s"
