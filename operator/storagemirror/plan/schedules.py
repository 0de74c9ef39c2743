"""Times of a cron expression. Pure; what is known from before is the time that the status says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from storagemirror.errors import BadInput
from storagemirror.plan.times import read, written

ZONES_HINT = "Give the IANA name of one, such as UTC or Europe/Berlin."


@dataclass(frozen=True)
class Schedule:
    """A cron expression of five fields and its time zone. `field`: where they stand, such as `spec.verify`."""

    cron: str
    zone: str
    field: str


def next_time(schedule: Schedule, after: datetime) -> datetime:
    """The first time of the schedule that is later; `BadInput` says what is wrong with it."""
    try:
        zone = ZoneInfo(schedule.zone)
    except (ValueError, OSError, LookupError) as e:
        raise BadInput(f"{schedule.field}.timeZone: there is no time zone {schedule.zone}", hint=ZONES_HINT) from e
    try:
        # In UTC: in their own zone, times within an hour that comes twice are equal to none.
        return next(CronSim(schedule.cron, after.astimezone(zone))).astimezone(UTC)
    except (CronSimError, StopIteration) as e:
        raise BadInput(
            f"{schedule.field}.schedule: {schedule.cron!r} is no cron expression: {e or 'it never comes'}",
            hint="Five fields: minute, hour, day of the month, month, day of the week.",
        ) from e


def upcoming(schedule: Schedule, known: str | None, now: datetime, *, anew: bool = False) -> str:
    """The time to store as the next one: `known`, the stored one, while it is a time of this schedule (it may be past:
    then it is due), unless `anew`; else the first after now. Raises as `next_time`."""
    stored = read(known)
    kept = stored is not None and not anew and next_time(schedule, stored - timedelta(seconds=1)) == stored
    return known if kept and known is not None else written(next_time(schedule, now))


def seconds_left(next_: str | None, now: datetime) -> float | None:
    """Until the stored time; None where there is none, or it has come."""
    at = read(next_)
    return None if at is None or at <= now else (at - now).total_seconds()
