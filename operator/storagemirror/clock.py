"""The clock that everything takes as a parameter, so that a test can hold it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where time comes from: `SystemClock` in the product, a held one in tests."""

    def now_ns(self) -> int:
        """Wall-clock time in nanoseconds since the Unix epoch (for what people read and what volumes hold)."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back (for waiting and timeouts)."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread for `seconds`."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def ahead_ns(clock: Clock) -> int:
    """By how much the wall clock is ahead of the one that never goes back: another amount once it was set."""
    return clock.now_ns() - int(clock.monotonic() * 1e9)


def onward(before_ns: int | None, through_ns: int, clock: Clock) -> int:
    """The later of two times of `clock`; where that of before is yet to come the clock was set back, and it means
    nothing now."""
    if before_ns is None or before_ns > clock.now_ns():
        return through_ns
    return max(before_ns, through_ns)


def rfc3339(ns: int) -> str:
    """`ns` since the Unix epoch as Kubernetes writes a MicroTime: `2026-01-02T03:04:05.678901Z`."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{rest // 1000:06d}Z"


def from_rfc3339(text: str) -> int:
    """Nanoseconds since the Unix epoch of an RFC 3339 time with a zone; ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a zone such as 2026-01-02T03:04:05Z, got {text!r}")
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1000
