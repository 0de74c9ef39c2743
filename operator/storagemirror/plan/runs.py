"""Modes Scheduled and Manual: when a volume has a run, a pure rule over what the status remembers and the moment.

As with verifications (`verifying`) what is remembered is the status alone: the next time of the schedule, stored before
it comes, and the last trigger that was done. A run is ordered while it is due, and is over when the agent has reported
just it. So what an operator missed while it was away is done once; an agent that dies in the middle is followed by one
that begins again; and a run that takes longer than the schedule's interval ends before the next is thought of.
"""

from __future__ import annotations

from datetime import datetime

from storagemirror.api.conditions import ConditionType
from storagemirror.api.operation import Mode
from storagemirror.api.reasons import Reason
from storagemirror.api.replication import Replication, RunResult, RunStatus
from storagemirror.contract import ReplicationMode, Report, RunDone
from storagemirror.errors import BadInput
from storagemirror.plan.course import moving, over
from storagemirror.plan.decisions import Effect, Verdict
from storagemirror.plan.schedules import Schedule, next_time, upcoming
from storagemirror.plan.times import read, written
from storagemirror.plan.view import View

FIRST, _BY_SCHEDULE, _BY_TRIGGER = "first", "schedule:", "trigger:"


def mode_of(view: View) -> ReplicationMode:
    """How the volume is replicated just now. What moves the application on purpose, or copies it elsewhere, needs a
    copy that follows."""
    pair = view.observed.pair
    going_on = moving(pair.status)
    planned = going_on is not None and going_on.mode is Mode.PLANNED
    if view.elsewhere or view.turned or planned:
        return ReplicationMode.CONTINUOUS
    return pair.spec.replication.mode


def run_of(view: View) -> str | None:
    """The run that the agent that reads is to do now; None: none, or this is no moment for it."""
    pair = view.observed.pair
    if mode_of(view) is ReplicationMode.CONTINUOUS or pair.spec.paused or over(pair.status):
        return None
    before = view.before
    return due(pair.spec.replication, before.run or RunStatus(), view.now, whole=before.last_full_mirror is not None)


def due(wanted: Replication, status: RunStatus, now: datetime, *, whole: bool) -> str | None:
    """The run that is due, by its name; a trigger before the schedule. `whole`: whether there is a copy."""
    if wanted.mode is ReplicationMode.CONTINUOUS:
        return None
    if wanted.trigger is not None and wanted.trigger != status.trigger:
        return _BY_TRIGGER + wanted.trigger
    at = read(status.next_time)
    if wanted.mode is not ReplicationMode.SCHEDULED or at is None:
        return None
    if not whole:
        return FIRST
    return f"{_BY_SCHEDULE}{status.next_time}" if at <= now else None


def run_status(view: View, report: Report | None) -> RunStatus | None:
    """What the status says from now on: the result of a run that was due, what is due now, and when the next one is."""
    pair, before = view.observed.pair, view.before
    wanted = pair.spec.replication
    if wanted.mode is ReplicationMode.CONTINUOUS or view.elsewhere:
        return None
    status = before.run or RunStatus()
    whole = before.last_full_mirror is not None
    run = due(wanted, status, view.now, whole=whole)
    done = report.run if report is not None else None
    ended = done is not None and done.run == run
    if done is not None and ended:
        status = _result(status, done)
    by_schedule = run is not None and run.startswith(_BY_SCHEDULE)
    status = _with_next(wanted, status, view.now, anew=ended and by_schedule)
    now_due = due(wanted, status, view.now, whole=whole or ended) or ""
    since = status.due_since if status.due == now_due and status.due_since is not None else written(view.now)
    return status.model_copy(update={"due": now_due, "due_since": since if now_due else None})


def schedule_of(wanted: Replication) -> Schedule | None:
    """None where runs do not come by themselves."""
    if wanted.mode is not ReplicationMode.SCHEDULED or wanted.schedule is None:
        return None
    return Schedule(wanted.schedule, wanted.time_zone, "spec.replication")


def schedule_invalid(view: View) -> Verdict | None:
    """A schedule that cannot be meant: nothing would ever be copied."""
    schedule = schedule_of(view.observed.pair.spec.replication)
    if schedule is None or view.elsewhere or view.resting:
        return None
    try:
        next_time(schedule, view.now)
    except BadInput as e:
        return Verdict(ConditionType.REPLICATING, Reason.SCHEDULE_INVALID, f"{e.message}.", Effect.WAIT)
    return None


def _with_next(wanted: Replication, status: RunStatus, now: datetime, *, anew: bool) -> RunStatus:
    schedule = schedule_of(wanted)
    if schedule is None:
        return status.model_copy(update={"next_time": None})
    try:
        return status.model_copy(update={"next_time": upcoming(schedule, status.next_time, now, anew=anew)})
    except BadInput:  # `schedule_invalid` says so
        return status.model_copy(update={"next_time": None})


def _result(status: RunStatus, done: RunDone) -> RunStatus:
    by_trigger = done.run.startswith(_BY_TRIGGER)
    return RunStatus(
        next_time=status.next_time,
        trigger=done.run.removeprefix(_BY_TRIGGER) if by_trigger else status.trigger,
        last_began=done.began or None,
        last_time=done.at or None,
        result=RunResult.INCOMPLETE if done.error else RunResult.COMPLETE,
        bytes_sent=done.bytes_sent,
        message=done.error,
    )
