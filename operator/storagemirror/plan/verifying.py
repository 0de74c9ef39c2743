"""When a volume is verified: a pure rule over what the status remembers and the moment.

What is remembered is the status alone: the next time of the schedule, and the last request that was done. A run is
ordered while it is due, whoever asks, and is over when the agent has reported just it. So an operator that begins anew,
or was away when a run was due, orders it once; and an agent that dies in the middle is followed by one that begins it
again.
"""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.api.verify import Verify, VerifyStatus
from storagemirror.contract import Report, Role, Verification, VerifyOrder
from storagemirror.errors import BadInput
from storagemirror.plan.course import moving, over
from storagemirror.plan.schedules import Schedule, upcoming
from storagemirror.plan.times import read

_BY_SCHEDULE, _BY_REQUEST = "schedule:", "request:"


def verify_of(pair: MirrorPair, role: Role, status: VerifyStatus | None, now: datetime) -> VerifyOrder | None:
    """What the agent that reads is to verify now; None: nothing, or this is no moment for it."""
    wanted = pair.spec.verify
    if wanted is None or role is not Role.SOURCE or pair.spec.paused or over(pair.status):
        return None
    if moving(pair.status) is not None:
        return None  # a failover proves what it needs; it is due afterwards
    run = due(wanted, status or VerifyStatus(), now)
    return None if run is None else VerifyOrder(run=run, repair=wanted.repair)


def due(wanted: Verify, status: VerifyStatus, now: datetime) -> str | None:
    """The run that is due, by its name; a request before the schedule."""
    if wanted.request is not None and wanted.request != status.request:
        return _BY_REQUEST + wanted.request
    at = read(status.next_time)
    if wanted.schedule is None or at is None or at > now:
        return None
    return f"{_BY_SCHEDULE}{status.next_time}"


def verify_status(
    wanted: Verify | None, before: VerifyStatus | None, report: Report | None, now: datetime
) -> VerifyStatus | None:
    """What the status says from now on: the result of a run that was due, and when the next one is."""
    if wanted is None:
        return None
    status = before or VerifyStatus()
    run = due(wanted, status, now)
    done = report.verification if report is not None else None
    ended = done is not None and done.run == run
    if done is not None and ended:
        status = _result(status, done)
        if done.run.startswith(_BY_REQUEST):
            status = status.model_copy(update={"request": done.run.removeprefix(_BY_REQUEST)})
    over_by_schedule = ended and run is not None and run.startswith(_BY_SCHEDULE)
    return _with_next(wanted, status, now, anew=over_by_schedule, ended=ended)


def _with_next(wanted: Verify, status: VerifyStatus, now: datetime, *, anew: bool, ended: bool) -> VerifyStatus:
    said = status.message if ended or wanted.schedule is None else ""
    schedule = schedule_of(wanted)
    if schedule is None:
        return status.model_copy(update={"next_time": None})
    try:
        found = upcoming(schedule, status.next_time, now, anew=anew)
    except BadInput as e:
        return status.model_copy(update={"next_time": None, "message": f"{e.message}. {e.hint}".strip()})
    if found == status.next_time:
        return status
    return status.model_copy(update={"next_time": found, "message": said})


def schedule_of(wanted: Verify | None) -> Schedule | None:
    """When it comes by itself; None: never."""
    if wanted is None or wanted.schedule is None:
        return None
    return Schedule(wanted.schedule, wanted.time_zone, "spec.verify")


def _result(status: VerifyStatus, done: Verification) -> VerifyStatus:
    return VerifyStatus(
        next_time=status.next_time,
        request=status.request,
        last_time=done.at or None,
        files=done.files,
        bytes=done.bytes,
        differing=done.differing,
        repaired=done.repaired,
        changing=done.changing,
        first=done.first[:16],
        message=done.error,
    )
