"""When a status is worth a write, and which events go with it.

A status has two kinds of fields. What people act on (phases, conditions, holds, pods, problems, counts of what was not
kept) is written as soon as it changes. What only flows (heartbeats, syncedThrough, lag, progress) is a sample: a new
one is written when the last is old enough, every 2 s while a mirror runs, 10 s while data flows, 30 s while all is
quiet. So an idle pair costs two writes a minute, and a pass with nothing new to say writes nothing.
"""

from __future__ import annotations

from storagemirror.api.conditions import BAD_WHEN_TRUE, Condition, ConditionStatus, ConditionType
from storagemirror.api.failover import FailoverStatus
from storagemirror.api.operation import Operation, OperationKind, OperationPhase
from storagemirror.api.reasons import Reason
from storagemirror.api.replication import PointStatus, QueueStatus, RunResult, RunStatus
from storagemirror.api.restore import RestoreStatus
from storagemirror.api.status import DriftStatus, MirrorPairStatus, MissedStatus, Phase, VolumeStatus, lag_text
from storagemirror.contract import Capture
from storagemirror.plan.claims import TARGET_SMALLER
from storagemirror.plan.decisions import EventType, Note
from storagemirror.plan.times import earliest, read

MIRRORING_SAMPLE = 2.0
FLOWING_SAMPLE = 10.0
QUIET_SAMPLE = 30.0
ROUNDING = 0.5
"""Seconds; so that a heartbeat that comes a moment early does not put a sample off by a whole beat."""

_NO_EVENT = (ConditionType.READY, ConditionType.RECONCILING)
"""They repeat what another condition says."""
_WARNINGS = (TARGET_SMALLER, Reason.TARGET_IN_USE, Reason.WRITERS_ON_SEVERAL_NODES)
"""Reasons of conditions that hold and are worth a warning all the same."""
_QUIET_REASONS = (
    "FailingOver",
    "Restoring",
    "Starting",
    "AgentsStarting",
    "Connecting",
    "Unknown",
    "Progressing",
    "Mirroring",
    "NoPoint",
    "NotVerifiedYet",
    "DifferencesFound",
    "DifferencesRepaired",
    "RunIncomplete",
    "TargetChanged",
)


def settled(old: VolumeStatus, new: VolumeStatus) -> VolumeStatus:
    """`new`, or `old` where nothing differs but samples that are too young to be replaced."""
    if discrete(old) != discrete(new) or _due(old, new):
        return new
    return old


def discrete(status: VolumeStatus) -> VolumeStatus:
    """Only what people act on."""
    agents = {
        side: agent.model_copy(update={"last_heartbeat": None})
        for side, agent in (("source", status.source), ("target", status.target))
        if agent is not None
    }
    flowing: dict[str, object] = {"synced_through": None, "progress": None}
    # How large a lag is flows; that it is not known any more does not: the last figure would stand for ever.
    made = status.points
    together = None if made is None else _known(made.group)
    flowing |= {"points": None if made is None else PointStatus(number=_known(made.number), group=together)}
    if status.queue is not None:
        flowing["queue"] = QueueStatus(level=status.queue.level, overflows=status.queue.overflows)
    if status.copy_point is not None:
        point = status.copy_point
        passing: dict[str, object] = {"number": _known(point.number), "at": None, "synced_through": None}
        passing |= {"group": _known(point.group), "group_at": None}
        flowing |= {"copy_point": point.model_copy(update=passing)}
    flowing |= {"lag_seconds": _known(status.lag_seconds), "lag_bytes": _known(status.lag_bytes)}
    return status.model_copy(update=flowing | agents)


def _known(number: int | None) -> int | None:
    return None if number is None else 0


def _due(old: VolumeStatus, new: VolumeStatus) -> bool:
    if new.phase is Phase.MIRRORING:
        wait = MIRRORING_SAMPLE
    elif old.lag_bytes or new.lag_bytes or old.lag_seconds != new.lag_seconds:
        wait = FLOWING_SAMPLE
    else:
        wait = QUIET_SAMPLE
    before, after = read(_sampled(old)), read(_sampled(new))
    if after is None:
        return False
    return before is None or (after - before).total_seconds() >= wait - ROUNDING


def _sampled(status: VolumeStatus) -> str | None:
    """When the sample was taken: the source's heartbeat, or the target's where there is no source agent."""
    for agent in (status.source, status.target):
        if agent is not None and agent.last_heartbeat is not None:
            return agent.last_heartbeat
    return None


def summed(status: MirrorPairStatus) -> MirrorPairStatus:
    """With the pair's own figures: the worst of its volumes'."""
    lags = [v.lag_seconds for v in status.volumes]
    known = [lag for lag in lags if lag is not None]
    lag = max(known) if known and len(known) == len(lags) else None
    through = earliest([v.synced_through for v in status.volumes])
    point = earliest([v.points.at if v.points is not None else None for v in status.volumes])
    found = {"synced_through": through, "lag_seconds": lag, "lag": lag_text(lag), "point_at": point}
    return status.model_copy(update=found | _runs_summed(status))


def _runs_summed(status: MirrorPairStatus) -> dict[str, object]:
    runs = [v.run for v in status.volumes]
    coming = [run.next_time for run in runs if run is not None and run.next_time is not None]
    done = {run.trigger if run is not None else None for run in runs}
    return {
        "next_run": earliest([*coming]),
        "last_run": earliest([run.last_time if run is not None else None for run in runs]),
        "trigger": done.pop() if len(done) == 1 else None,
    }


def notes(old: MirrorPairStatus, new: MirrorPairStatus) -> tuple[Note, ...]:
    """Events for what has changed: warnings for what went wrong, a word when the copy became whole."""
    found = [note for tell in _TELLERS for note in tell(old, new)]
    said: set[tuple[str, str]] = set()
    before = {c.type: c for c in old.conditions}
    for now in new.conditions:
        if now.type in _NO_EVENT or now.reason in _QUIET_REASONS or not _news(before.get(now.type), now):
            continue
        if (not good(now) or now.reason in _WARNINGS) and (now.reason, now.message) not in said:
            said.add((now.reason, now.message))
            found.append(Note(EventType.WARNING, now.reason, now.message))
        elif good(now) and now.type == ConditionType.REPLICATING:
            found.append(Note(EventType.NORMAL, now.reason, now.message))
    return tuple(found)


def _verify_notes(old: MirrorPairStatus, new: MirrorPairStatus) -> list[Note]:
    """A warning for each verification that found something, also when the one before had."""
    before = {v.name: v.verify for v in old.volumes}
    found = []
    for volume in new.volumes:
        now, last = volume.verify, before.get(volume.name)
        if now is None or not now.differing or (last is not None and last.last_time == now.last_time):
            continue
        mended = now.repaired >= now.differing
        reason = Reason.DIFFERENCES_REPAIRED if mended else Reason.DIFFERENCES_FOUND
        text = f"Volume {volume.name}: {now.differing} files differed by checksum, {now.repaired} were sent again: "
        found.append(Note(EventType.WARNING, reason, text + ", ".join(now.first[:3])))
    return found


def _run_notes(old: MirrorPairStatus, new: MirrorPairStatus) -> list[Note]:
    """A word when a run becomes due, and when it has ended."""
    before = {v.name: v.run or RunStatus() for v in old.volumes}
    found = []
    for volume in new.volumes:
        now, last = volume.run, before.get(volume.name) or RunStatus()
        if now is None:
            continue
        if now.last_time is not None and now.last_time != last.last_time:
            whole = now.result is RunResult.COMPLETE
            reason = Reason.RUN_COMPLETED if whole else Reason.RUN_INCOMPLETE
            text = f"Volume {volume.name}: the run {last.due} ended; {now.bytes_sent} bytes were sent. {now.message}"
            found.append(Note(EventType.NORMAL if whole else EventType.WARNING, reason, text.strip()))
        if now.due and now.due != last.due:
            found.append(Note(EventType.NORMAL, Reason.RUN_BEGUN, f"Volume {volume.name}: the run {now.due} is due."))
    return found


def _drift_notes(old: MirrorPairStatus, new: MirrorPairStatus) -> list[Note]:
    """A warning for each comparison that found that the copy had been changed."""
    before = {v.name: v.drift for v in old.volumes}
    found = [(v.name, v.drift) for v in new.volumes if v.drift is not None and _is_new(v.drift, before.get(v.name))]
    text = "entries of the copy were changed by somebody else"
    return [_finding(Reason.TARGET_CHANGED, name, text, drift) for name, drift in found]


def _missed_notes(old: MirrorPairStatus, new: MirrorPairStatus) -> list[Note]:
    """A warning for each comparison that found what nothing had named."""
    before = {v.name: v.missed for v in old.volumes}
    found = [(v.name, v.missed) for v in new.volumes if v.missed is not None and _is_new(v.missed, before.get(v.name))]
    text = "files were changed and late on the copy, as nothing had named them"
    return [_finding(Reason.SOURCE_CHANGED_UNSEEN, name, text, missed) for name, missed in found]


def _is_new(now: DriftStatus | MissedStatus, last: DriftStatus | MissedStatus | None) -> bool:
    return now.count > 0 and (last is None or last.last_time != now.last_time)


def _finding(reason: Reason, volume: str, text: str, found: DriftStatus | MissedStatus) -> Note:
    first = ", ".join(found.first[:3])
    return Note(EventType.WARNING, reason, f"Volume {volume}: {found.count} {text}: {first}")


def _capture_notes(old: MirrorPairStatus, new: MirrorPairStatus) -> list[Note]:
    """A warning where there are no watches to be had any more."""
    before = {v.name: v.capture for v in old.volumes}
    return [
        Note(
            EventType.WARNING,
            Reason.SOURCE_UNWATCHED,
            f"Volume {volume.name}: changes are found by comparing everything again and again: {volume.capture_why}",
        )
        for volume in new.volumes
        if volume.capture is Capture.SCAN and before.get(volume.name) is not Capture.SCAN
    ]


_OPERATION_WARNINGS = (
    OperationPhase.FENCING,
    OperationPhase.ROLLING_BACK,
    OperationPhase.ROLLED_BACK,
    OperationPhase.FAILED,
    OperationPhase.SUPERSEDED,
)
"""Phases that a person should notice."""


def _operation_notes(old: MirrorPairStatus, new: MirrorPairStatus) -> list[Note]:
    """A word for each phase that a failover or restore enters."""
    before, now = old.operation, new.operation
    if now is None or (before is not None and (before.attempt, before.phase) == (now.attempt, now.phase)):
        return []
    kind = EventType.WARNING if now.phase in _OPERATION_WARNINGS else EventType.NORMAL
    text = now.timeline[-1].message if now.timeline else now.message
    return [Note(kind, _phase_reason(now), f"{now.kind} {now.name}: {now.phase}: {text}")]


_TELLERS = (_operation_notes, _verify_notes, _run_notes, _drift_notes, _missed_notes, _capture_notes)


def request_note(old: FailoverStatus | RestoreStatus, new: FailoverStatus | RestoreStatus) -> Note | None:
    """What is worth an event on the Failover or Restore itself: a new phase, or a new reason why it waits."""
    if (old.phase, old.reason) == (new.phase, new.reason) or not new.message:
        return None
    stalled = any(c.type == ConditionType.STALLED and c.is_true for c in new.conditions)
    kind = EventType.WARNING if stalled or new.phase in _OPERATION_WARNINGS else EventType.NORMAL
    return Note(kind, new.reason or str(new.phase), f"{new.phase}: {new.message}")


def _phase_reason(operation: Operation) -> str:
    back = operation.kind is OperationKind.RESTORE
    named = {
        OperationPhase.COMPLETED: Reason.RESTORE_COMPLETED if back else Reason.FAILOVER_COMPLETED,
        OperationPhase.VALIDATING: Reason.RESTORE_BEGUN if back else Reason.FAILOVER_BEGUN,
    }
    return named.get(operation.phase, operation.phase)


def good(condition: Condition) -> bool:
    """Whether this is how it should be."""
    if condition.status is ConditionStatus.UNKNOWN:
        return True
    return condition.is_true != (condition.type in BAD_WHEN_TRUE)


def _news(old: Condition | None, new: Condition) -> bool:
    return old is None or (old.status, old.reason) != (new.status, new.reason)
