"""How much may be sent now: windows by weekday and the clock on the wall.

A window holds while the clock on the wall of its zone shows a time within it. So where the clock is put forward, what
would begin in the hour that is left out begins at its end; where it is put back, the hour that comes twice counts
twice.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from storagemirror.contract import BandwidthWindow, TransferOrder, Weekday
from storagemirror.errors import BadInput

TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_DAY = 24 * 60
_WEEKDAYS = tuple(Weekday)


def zone(name: str) -> ZoneInfo:
    """`BadInput` when the IANA database has no zone of that name."""
    try:
        return ZoneInfo(name)
    except (OSError, ValueError) as e:  # ZoneInfoNotFoundError is a KeyError
        raise BadInput(f"expected a time zone such as Europe/Berlin, got {name!r}") from e
    except KeyError as e:
        raise BadInput(f"expected a time zone such as Europe/Berlin, got {name!r}") from e


def limit_at(transfer: TransferOrder, now_ns: int) -> int | None:
    """Bytes a second at `now_ns` (nanoseconds since the Unix epoch); None: no limit. `BadInput` names what is no time
    or no zone."""
    if not transfer.bandwidth:
        return None
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_ns // 1000)
    wall = moment.astimezone(zone(transfer.time_zone))
    minute = wall.hour * 60 + wall.minute
    for window in transfer.bandwidth:
        if _matches(window, wall.weekday(), minute):
            return window.limit
    return None


def _matches(window: BandwidthWindow, weekday: int, minute: int) -> bool:
    begin = 0 if window.begin is None else minutes(window.begin)
    end = _DAY if window.end is None else minutes(window.end)
    if begin < end:
        return begin <= minute < end and _on(window, weekday)
    if minute >= begin:
        return _on(window, weekday)
    return minute < end and _on(window, weekday - 1)  # it began yesterday


def _on(window: BandwidthWindow, weekday: int) -> bool:
    return not window.days or _WEEKDAYS[weekday % 7] in window.days


def minutes(text: str) -> int:
    """Since midnight; `BadInput` when `text` is no time of day."""
    if re.fullmatch(TIME, text) is None:
        raise BadInput(f"expected a time of day such as 08:00, got {text!r}")
    return int(text[:2]) * 60 + int(text[3:])
