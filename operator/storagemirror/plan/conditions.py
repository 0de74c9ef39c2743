"""The conditions of a pair, from what was found about its volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from storagemirror.api.conditions import (
    Condition,
    ConditionStatus,
    ConditionType,
    condition,
    drop_condition,
    set_condition,
)
from storagemirror.api.reasons import Reason
from storagemirror.api.replication import QueueLevel, RunResult
from storagemirror.api.status import Phase, VolumeStatus
from storagemirror.contract import Consistency, Role
from storagemirror.contract import Phase as AgentPhase
from storagemirror.plan.claims import warning
from storagemirror.plan.decisions import Effect, Verdict
from storagemirror.plan.freezing import why_not_frozen
from storagemirror.plan.grouping import grouped
from storagemirror.plan.times import written
from storagemirror.plan.volumes import Judged, heard_report

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN


@dataclass(frozen=True)
class Told:
    """A condition without its time."""

    status: ConditionStatus
    reason: Reason | str
    message: str


@dataclass(frozen=True)
class Whole:
    """All volumes of a pair, judged."""

    judged: Sequence[Judged]
    volumes: Sequence[VolumeStatus]
    paused: bool
    more: Sequence[tuple[ConditionType, Told]] = ()
    """What the failover part has found: conditions that only pairs with sides have."""
    failing: Told | None = None
    """A failover goes on, or has put the target in the source's place: the copy is no measure of Ready then."""
    failing_open: bool = False

    @property
    def verdicts(self) -> list[Verdict]:
        """Those that need somebody first."""
        found = [v for j in self.judged for v in j.verdicts]
        return sorted(found, key=lambda v: not v.stalled)

    def of(self, kind: ConditionType) -> Verdict | None:
        return next((v for v in self.verdicts if v.condition is kind), None)

    @property
    def following(self) -> bool:
        return all(v.phase in (Phase.REPLICATING, Phase.WAITING) for v in self.volumes)

    def names(self, *phases: Phase) -> str:
        return ", ".join(v.name for v in self.volumes if v.phase in phases)


def ready(whole: Whole) -> Told:
    if whole.failing is not None:
        return whole.failing
    if whole.verdicts:
        return Told(FALSE, whole.verdicts[0].reason, whole.verdicts[0].message)
    return replicating(whole)


def reconciling(whole: Whole) -> Told:
    if whole.failing is not None:
        reason = Reason.PROGRESSING if whole.failing_open else Reason.SETTLED
        return Told(TRUE if whole.failing_open else FALSE, reason, whole.failing.message)
    if whole.following or whole.paused:
        return Told(FALSE, Reason.SETTLED, "")
    if any(v.stalled for v in whole.verdicts):
        return Told(FALSE, Reason.SETTLED, "Waiting for somebody: see Stalled.")
    found = ready(whole)
    return Told(TRUE, Reason.PROGRESSING, found.message)


def stalled(whole: Whole) -> Told:
    found = next((v for v in whole.verdicts if v.stalled), None)
    return Told(FALSE, Reason.PROGRESSING, "") if found is None else Told(TRUE, found.reason, found.message)


def replicating(whole: Whole) -> Told:
    if whole.failing is not None:
        return whole.failing
    found = whole.of(ConditionType.REPLICATING)
    if found is not None:
        return Told(FALSE, found.reason, found.message)
    if whole.paused:
        return Told(FALSE, Reason.PAUSED, "Paused: nothing is copied.")
    if whole.following:
        if names := whole.names(Phase.WAITING):
            return Told(TRUE, Reason.REPLICATING, f"The copy is that of the last run: {names}.")
        idle = [j.view.volume.name for j in whole.judged if j.idle]
        text = f"No pod uses the source of {', '.join(idle)}; its copy is whole." if idle else ""
        return Told(TRUE, Reason.REPLICATING, text or "The copy is whole and follows.")
    if names := whole.names(Phase.MIRRORING):
        return Told(FALSE, Reason.MIRRORING, f"A full mirror is running: {names}.")
    if whole.verdicts:
        return Told(FALSE, whole.verdicts[0].reason, whole.verdicts[0].message)
    if names := ", ".join(j.view.volume.name for j in whole.judged if _waits(j)):
        return Told(FALSE, Reason.WAITING_FOR_TRIGGER, f"There is no copy before the first run: {names}.")
    return Told(FALSE, Reason.CONNECTING, f"The agents are about to begin: {whole.names(*Phase)}.")


def _waits(judged: Judged) -> bool:
    source = heard_report(judged.view, Role.SOURCE)
    return source is not None and source.phase is AgentPhase.IDLE


def claims_ready(whole: Whole) -> Told:
    found = whole.of(ConditionType.CLAIMS_READY)
    if found is None:
        warnings = [w for j in whole.judged if (w := warning(j.view)) is not None]
        return Told(TRUE, *(warnings[0] if warnings else (Reason.CLAIMS_BOUND, "")))
    blind = found.effect is Effect.KEEP
    return Told(UNKNOWN if blind else FALSE, found.reason, found.message)


def agents_ready(whole: Whole) -> Told:
    found = whole.of(ConditionType.AGENTS_READY)
    if found is not None:
        return Told(FALSE, found.reason, found.message)
    missing = [j for j in whole.judged if not j.idle and heard_report(j.view, Role.SOURCE) is None]
    if missing:
        return Told(
            FALSE, Reason.AGENTS_STARTING, f"No source agent: {', '.join(j.view.volume.name for j in missing)}."
        )
    return Told(TRUE, Reason.AGENTS_RUNNING, "")


def connected(whole: Whole) -> Told:
    found = whole.of(ConditionType.CONNECTED)
    if found is not None:
        return Told(FALSE, found.reason, found.message)
    if whole.paused:
        return Told(FALSE, Reason.PAUSED, "Paused: the agents have let go of each other.")
    for judged in whole.judged:
        report = heard_report(judged.view, Role.SOURCE)
        if judged.idle:
            continue
        if report is None:
            return Told(UNKNOWN, Reason.UNKNOWN, f"The source agent of volume {judged.view.volume.name} is not heard.")
        if not report.peer_connected:
            message = f"The agents of volume {judged.view.volume.name} have not reached each other."
            return Told(FALSE, Reason.CONNECTING, message)
    return Told(TRUE, Reason.CONNECTED, "")


def held(whole: Whole) -> Told:
    found = whole.of(ConditionType.HELD)
    if found is not None:
        return Told(TRUE, found.reason, found.message)
    # The agent that holds may not be heard just now; its word stands.
    volume = next((v for v in whole.volumes if v.hold is not None), None)
    if volume is None or volume.hold is None:
        return Told(FALSE, Reason.NOTHING_HELD, "")
    return Told(TRUE, volume.hold.reason, f"Volume {volume.name}: {volume.hold.message}")


def separate_nodes(whole: Whole) -> Told:
    for volume in whole.volumes:
        source = volume.source.node if volume.source is not None else None
        target = volume.target.node if volume.target is not None else None
        if source is not None and source == target:
            return Told(FALSE, Reason.SAME_NODE, f"Both sides of volume {volume.name} are on node {source}.")
    if any(
        v.source is None or v.source.node is None or v.target is None or v.target.node is None for v in whole.volumes
    ):
        return Told(UNKNOWN, Reason.UNKNOWN, "Not every agent has a node.")
    return Told(TRUE, Reason.DIFFERENT_NODES, "")


def everything_kept(whole: Whole) -> Told:
    lost = [f"{v.name}: " + ", ".join(f"{n.count} {n.kind}" for n in v.not_kept) for v in whole.volumes if v.not_kept]
    if lost:
        return Told(FALSE, Reason.NOT_EVERYTHING_KEPT, f"Not kept: {'; '.join(lost)}.")
    if any(v.last_full_mirror is None for v in whole.volumes):
        return Told(UNKNOWN, Reason.UNKNOWN, "Known after the first full mirror.")
    return Told(TRUE, Reason.NOTHING_LOST, "")


def crash_consistent(whole: Whole) -> Told:
    """Whether the copy of every volume is a point; if not, what keeps it from being one."""
    for judged in whole.judged:
        found = why_not_frozen(judged.view, heard_report(judged.view, Role.SOURCE))
        if found is not None:
            return Told(FALSE if found.lasting else UNKNOWN, found.reason, found.message)
    specs = [judged.view.observed.pair.spec for judged in whole.judged]
    if any(spec.replication.consistency is not Consistency.POINT for spec in specs):
        message = "Every volume can be frozen, but changes are applied as they come: no points in time are made."
        return Told(FALSE, Reason.NO_POINTS, message)
    for volume in whole.volumes:
        if volume.points is None or volume.points.number is None:
            why = f": {volume.points.why}" if volume.points is not None and volume.points.why else ""
            return Told(FALSE, Reason.NO_POINTS, f"Volume {volume.name} has no point on the target yet{why}.")
        if volume.points.group is None and grouped(whole.judged[0].view.observed.pair):
            why = f": {volume.points.why}" if volume.points.why else ""
            message = f"Volume {volume.name} has no point yet that is of one moment with those of the others{why}."
            return Told(FALSE, Reason.NO_POINTS, message)
        if volume.points.missed:
            message = f"Points of volume {volume.name} lacked {volume.points.missed} changes."
            return Told(FALSE, Reason.POINTS_NOT_WHOLE, message)
    return Told(TRUE, Reason.POINTS_MADE, "")


def _at_points(volumes: Sequence[VolumeStatus]) -> str:
    """Which, as the status of the volumes says it: that is a sample, so that this is not written with each point."""
    found = [(v.name, v.copy_point) for v in volumes]
    told = [f"{name} at point {p.number} of {p.at}" for name, p in found if p is not None and p.promotable]
    applying = [f"{name} while one is applied" for name, p in found if p is None or not p.promotable]
    groups = {p.group for _, p in found if p is not None and p.promotable}
    each = ", each volume for itself" if len(found) > 1 else ""
    if each and groups and None not in groups:
        each = ", the same of all volumes" + (" once each has the latest" if len(groups) > 1 else "")
    return f"The copy is one moment of the source{each}: {'; '.join(told + applying)}."


def verified(whole: Whole) -> Told:
    """Of the volumes that are verified; only where some are."""
    found = [(v.name, v.verify) for v in whole.volumes if v.verify is not None]
    for name, status in found:
        if status.message:
            return Told(FALSE, Reason.VERIFY_FAILED, f"Volume {name}: {status.message}")
    for name, status in found:
        if left := status.differing - status.repaired:
            return Told(FALSE, Reason.DIFFERENCES_FOUND, f"Volume {name}: {left} files differ: {_first(status.first)}.")
    if any(status.last_time is None for _, status in found):
        return Told(UNKNOWN, Reason.NOT_VERIFIED_YET, "Not every volume has been verified yet.")
    mended = [f"{name}: {status.differing}" for name, status in found if status.differing]
    if mended:
        return Told(TRUE, Reason.DIFFERENCES_REPAIRED, f"Files that differed were sent again: {', '.join(mended)}.")
    return Told(TRUE, Reason.VERIFIED_EQUAL, "")


def on_schedule(whole: Whole) -> Told:
    """Of the volumes that are replicated in runs; only where some are."""
    found = [(v.name, v.run) for v in whole.volumes if v.run is not None]
    wrong = next((v for v in whole.verdicts if v.reason == Reason.SCHEDULE_INVALID), None)
    if wrong is not None:
        return Told(FALSE, Reason.SCHEDULE_INVALID, wrong.message)
    for name, run in found:
        if run.due and whole.verdicts:
            return Told(FALSE, Reason.RUN_WAITS, f"Volume {name}: {run.due}: {whole.verdicts[0].message}")
        if run.due and whole.paused:
            return Told(FALSE, Reason.RUN_WAITS, f"Volume {name}: {run.due}: the pair is paused.")
    for name, run in found:
        if run.result is RunResult.INCOMPLETE:
            return Told(FALSE, Reason.RUN_INCOMPLETE, f"Volume {name}: {run.message}")
    if going_on := [f"{name}: {run.due}" for name, run in found if run.due]:
        return Told(TRUE, Reason.RUN_BEGUN, f"Going on: {', '.join(going_on)}.")
    coming = [run.next_time for _, run in found if run.next_time is not None]
    if coming:
        return Told(TRUE, Reason.WAITING_FOR_SCHEDULE, f"The next run begins at {min(coming)}.")
    return Told(TRUE, Reason.WAITING_FOR_TRIGGER, "A run begins with another spec.replication.trigger.")


def drifted(whole: Whole) -> Told:
    """Of the volumes whose copy somebody else has changed; only where there are some."""
    found = [(v.name, v.drift) for v in whole.volumes if v.drift is not None and v.drift.count]
    unwatched = [f"volume {v.name}: {v.drift.unwatched}" for v in whole.volumes if v.drift and v.drift.unwatched]
    if not found and unwatched:
        return Told(UNKNOWN, Reason.TARGET_UNWATCHED, f"Not all of it would be seen: {'; '.join(unwatched)}.")
    if not found:
        return Told(FALSE, Reason.TARGET_UNCHANGED, "")
    parts = [f"Volume {name}: {drift.count} ({_first(drift.first)})" for name, drift in found]
    return Told(TRUE, Reason.TARGET_CHANGED, f"Entries that somebody else has changed on the copy: {'; '.join(parts)}.")


def changes_missed(whole: Whole) -> Told:
    """Of the volumes of which something was changed without a word; only where there are some."""
    found = [(v.name, v.missed) for v in whole.volumes if v.missed is not None and v.missed.count]
    if not found:
        return Told(FALSE, Reason.EVERYTHING_SEEN, "")
    parts = [f"Volume {name}: {missed.count} ({_first(missed.first)})" for name, missed in found]
    text = "Files that were changed and that nothing had named until a full comparison found them"
    return Told(TRUE, Reason.SOURCE_CHANGED_UNSEEN, f"{text}: {'; '.join(parts)}.")


def queue_alert(whole: Whole) -> Told:
    """Of the volumes whose source's agent has said what waits."""
    found = [(v.name, v.queue) for v in whole.volumes if v.queue is not None]
    if dropped := [name for name, queue in found if queue.level is QueueLevel.OVERFLOWED]:
        text = f"More changes came than may wait, and their names were dropped: {', '.join(dropped)}."
        return Told(TRUE, Reason.QUEUE_OVERFLOWED, text)
    if filling := [name for name, queue in found if queue.level is QueueLevel.ALERT]:
        text = f"The queue is at its alert level or beyond (status.volumes[].queue): {', '.join(filling)}."
        return Told(TRUE, Reason.QUEUE_FILLING, text)
    return Told(FALSE, Reason.QUEUE_BELOW_ALERT, "")


def _first(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


TELLERS: tuple[tuple[ConditionType, Callable[[Whole], Told]], ...] = (
    (ConditionType.READY, ready),
    (ConditionType.RECONCILING, reconciling),
    (ConditionType.STALLED, stalled),
    (ConditionType.REPLICATING, replicating),
    (ConditionType.CLAIMS_READY, claims_ready),
    (ConditionType.AGENTS_READY, agents_ready),
    (ConditionType.CONNECTED, connected),
    (ConditionType.HELD, held),
    (ConditionType.SEPARATE_NODES, separate_nodes),
    (ConditionType.EVERYTHING_KEPT, everything_kept),
    (ConditionType.CRASH_CONSISTENT, crash_consistent),
)

ONLY_WITH_SIDES = frozenset({ConditionType.FENCEABLE, ConditionType.PROMOTABLE, ConditionType.SERVICES_READY})


SOMETIMES = ONLY_WITH_SIDES | {
    ConditionType.VERIFIED,
    ConditionType.ON_SCHEDULE,
    ConditionType.DRIFTED,
    ConditionType.CHANGES_MISSED,
    ConditionType.QUEUE_ALERT,
}
"""Conditions that not every pair has."""


def conditions(whole: Whole, before: Sequence[Condition], *, generation: int) -> tuple[Condition, ...]:
    """All of them, each with the time at which its status last flipped."""
    now = written(whole.judged[0].view.now)
    told = [(kind, tell(whole)) for kind, tell in TELLERS]
    for kind, more in whole.more:
        at_point = more.reason is Reason.AT_POINT
        told.append((kind, replace(more, message=_at_points(whole.volumes)) if at_point else more))
    if any(v.verify is not None for v in whole.volumes):
        told.append((ConditionType.VERIFIED, verified(whole)))
    if any(v.run is not None for v in whole.volumes):
        told.append((ConditionType.ON_SCHEDULE, on_schedule(whole)))
    if any(v.drift is not None for v in whole.volumes):
        told.append((ConditionType.DRIFTED, drifted(whole)))
    if any(v.missed is not None for v in whole.volumes):
        told.append((ConditionType.CHANGES_MISSED, changes_missed(whole)))
    if any(v.queue is not None for v in whole.volumes):
        told.append((ConditionType.QUEUE_ALERT, queue_alert(whole)))
    found = tuple(before)
    for kind, one in told:
        new = condition(kind, one.status, one.reason, one.message, generation=generation, now=now)
        found = set_condition(found, new)
    for kind in SOMETIMES - {kind for kind, _ in told}:
        found = drop_condition(found, kind)
    return found
