"""Times as Kubernetes writes them. Nothing here looks at a clock."""

from __future__ import annotations

from datetime import UTC, datetime


def written(moment: datetime) -> str:
    """As `metav1.Time`: whole seconds, UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def exact(moment: datetime) -> str:
    """As `metav1.MicroTime`: where the second that `written` cuts off counts."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def read(text: str | None) -> datetime | None:
    """A time with a zone; None for what is none (an object's field that somebody filled by hand)."""
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


def seconds_since(text: str | None, now: datetime) -> float | None:
    """How long ago `text` was; None when it says no time."""
    found = read(text)
    return None if found is None else (now - found).total_seconds()


def later(a: str | None, b: str | None) -> str | None:
    """The later of two times; what is no time loses."""
    first, second = read(a), read(b)
    if first is None or second is None:
        return a if first is not None else (b if second is not None else None)
    return a if first >= second else b


def earliest(times: list[str | None]) -> str | None:
    """The earliest, or None when any is not known."""
    found = [(moment, text) for text in times if (moment := read(text)) is not None]
    return min(found)[1] if times and len(found) == len(times) else None
