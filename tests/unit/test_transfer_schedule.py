"""Which limit holds when: windows by weekday, by the clock on the wall, through midnight and summer time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from storagemirror.contract import BandwidthWindow, TransferOrder, Weekday
from storagemirror.errors import BadInput
from storagemirror.sync.schedule import limit_at

DAY = BandwidthWindow(limit=1, begin="08:00", end="18:00", days=tuple(Weekday)[:5])
NIGHT = BandwidthWindow(limit=2, begin="22:00", end="06:00", days=(Weekday.FRI,))


def at(text: str, *windows: BandwidthWindow, zone: str = "UTC", fold: int = 0) -> int | None:
    """The limit when the wall of `zone` shows `text`."""
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return limit_at(TransferOrder(bandwidth=windows, time_zone=zone), int(moment.timestamp() * 1e9))


def utc(text: str, *windows: BandwidthWindow, zone: str) -> int | None:
    """The limit at a time of UTC."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return limit_at(TransferOrder(bandwidth=windows, time_zone=zone), int(moment.timestamp() * 1e9))


@pytest.mark.parametrize(
    ("when", "limit"),
    [
        ("2026-03-02 07:59:59", None),  # a Monday
        ("2026-03-02 08:00", 1),
        ("2026-03-02 17:59:59", 1),
        ("2026-03-02 18:00", None),
        ("2026-03-06 12:00", 1),
        ("2026-03-07 12:00", None),  # Saturday
    ],
)
def test_a_window_holds_from_its_begin_until_before_its_end_on_its_days(when: str, limit: int | None) -> None:
    assert at(when, DAY) == limit


@pytest.mark.parametrize(
    ("when", "limit"),
    [
        ("2026-03-06 05:00", None),  # Friday: it would have begun on Thursday
        ("2026-03-06 21:59", None),
        ("2026-03-06 22:00", 2),
        ("2026-03-07 05:59", 2),
        ("2026-03-07 06:00", None),
        ("2026-03-07 23:00", None),
    ],
)
def test_one_that_passes_midnight_belongs_to_the_day_on_which_it_begins(when: str, limit: int | None) -> None:
    assert at(when, NIGHT) == limit


def test_from_sunday_it_passes_into_monday() -> None:
    window = BandwidthWindow(limit=3, begin="20:00", end="04:00", days=(Weekday.SUN,))
    assert (at("2026-03-09 03:00", window), at("2026-03-08 03:00", window)) == (3, None)


def test_the_first_that_matches_counts_and_without_one_there_is_no_limit() -> None:
    whole = BandwidthWindow(limit=9)
    assert at("2026-03-02 12:00", DAY, whole) == 1
    assert at("2026-03-02 12:00", whole, DAY) == 9
    assert at("2026-03-08 12:00", DAY, whole) == 9
    assert at("2026-03-08 12:00") is None


def test_until_midnight_is_the_end_of_the_day() -> None:
    window = BandwidthWindow(limit=3, begin="20:00", end="00:00", days=(Weekday.SUN,))
    assert (at("2026-03-08 23:59:59", window), at("2026-03-09 00:00", window)) == (3, None)


def test_the_wall_of_the_zone_counts() -> None:
    assert utc("2026-07-01 06:30", DAY, zone="Europe/Berlin") == 1
    assert utc("2026-01-07 06:30", DAY, zone="Europe/Berlin") is None
    assert utc("2026-01-07 02:00", DAY, zone="Asia/Kolkata") is None  # 07:30
    assert utc("2026-01-07 02:30", DAY, zone="Asia/Kolkata") == 1
    assert utc("2026-03-01 23:30", DAY, zone="Pacific/Auckland") == 1  # Monday there


def test_an_hour_that_is_left_out_moves_the_begin_to_its_end() -> None:
    """Berlin, 29 March 2026: after 01:59:59 comes 03:00."""
    window = BandwidthWindow(limit=5, begin="02:30", end="03:30")
    assert utc("2026-03-29 00:59:59", window, zone="Europe/Berlin") is None
    assert utc("2026-03-29 01:00", window, zone="Europe/Berlin") == 5
    assert utc("2026-03-29 01:30", window, zone="Europe/Berlin") is None


def test_an_hour_that_comes_twice_counts_twice() -> None:
    """Berlin, 25 October 2026: 02:00 to 03:00 comes twice."""
    window = BandwidthWindow(limit=5, begin="02:30", end="03:00")
    moments = ("00:29:59", "00:30", "00:59:59", "01:00", "01:30", "01:59:59", "02:00")
    found = [utc(f"2026-10-25 {moment}", window, zone="Europe/Berlin") for moment in moments]
    assert found == [None, 5, 5, None, 5, 5, None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_zone": "Europe/Atlantis"},
        {"time_zone": "../../etc/passwd"},
        {"time_zone": ""},
        {"bandwidth": (BandwidthWindow(limit=1, begin="8:00", end="18:00"),)},
        {"bandwidth": (BandwidthWindow(limit=1, begin="08:00", end="24:00"),)},
    ],
)
def test_what_is_no_time_or_no_zone_is_refused_by_name(wrong: dict[str, Any]) -> None:
    order = TransferOrder(**{"bandwidth": (BandwidthWindow(limit=1),), **wrong})
    with pytest.raises(BadInput, match="expected a time"):
        limit_at(order, 0)
