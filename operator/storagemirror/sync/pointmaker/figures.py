"""What points cost and how they go: for reports."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field

_LAST = 1_000


@dataclass(frozen=True, slots=True)
class Stall:
    """Of one point. Seconds."""

    freeze: float
    """FIFREEZE itself."""
    total: float
    """From its call to the end of the thaw: the longest that a write waited."""

    @property
    def beyond(self) -> float:
        """What we added to FIFREEZE."""
        return max(0.0, self.total - self.freeze)


@dataclass(slots=True)
class Figures:
    """Of one engine, since it began; stalls of the last 1,000 points."""

    stalls: deque[Stall] = field(default_factory=lambda: deque(maxlen=_LAST))
    put_off: Counter[str] = field(default_factory=Counter)
    """How often, by reason."""
    put_off_in_a_row: int = 0
    """Since the last point was made."""
    why: str = ""
    """Of the last that was put off; empty when the last one was not."""
    made: int = 0
    empty: int = 0
    """Nothing had changed: nothing was frozen and nothing sent."""
    begun_anew: int = 0
    """Points that were dropped, put off, as more had been told in vain than they needed."""
    told_again: int = 0
    """Points that were told once more, from what was kept of them, after the connection broke."""
    interval: float | None = None
    """Seconds from the latest point back to the one before it, or to when nothing had changed since that one; None:
    there was none."""
    lost: int = 0
    """Thrown away: the volume had not stood still all the time."""
    missed: int = 0
    """Objects that had changed before a point was made, were not seen to have, and so were not in it."""
    frozen_bytes: int = 0
    """Read while frozen, all points together."""

    def percentile(self, share: float, *, beyond: bool = False) -> float | None:
        """Of the stalls, in seconds; None where there was none."""
        values = sorted(stall.beyond if beyond else stall.total for stall in self.stalls)
        return values[min(len(values) - 1, int(share * len(values)))] if values else None
