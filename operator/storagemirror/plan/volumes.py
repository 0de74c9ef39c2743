"""The status of one volume: what both agents say, and what the rules found."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from storagemirror.api.conditions import ConditionType
from storagemirror.api.replication import QueueStatus
from storagemirror.api.status import (
    AgentStatus,
    DriftStatus,
    Hold,
    LeftAlone,
    MissedStatus,
    NotKept,
    Phase,
    Problem,
    Progress,
    VolumeStatus,
)
from storagemirror.api.verify import VerifyStatus
from storagemirror.contract import Capture, Drifted, PeerState, ReplicationMode, Report, Role
from storagemirror.contract import Phase as AgentPhase
from storagemirror.plan.decisions import Verdict
from storagemirror.plan.lifecycle import SILENT_SECONDS
from storagemirror.plan.pointed import copy_point_status
from storagemirror.plan.replication import point_status, queue_status
from storagemirror.plan.runs import mode_of, run_status
from storagemirror.plan.times import later, read, written
from storagemirror.plan.verifying import verify_status
from storagemirror.plan.view import View, node_of
from storagemirror.plan.where import Leave, Where

_WATCHED = (
    "Changes are sent as they come: the kernel's trace serves points alone (spec.replication.consistency: Point)."
)


@dataclass(frozen=True)
class Judged:
    """A volume with everything that was found about it."""

    view: View
    source: Where
    verdicts: tuple[Verdict, ...]
    """Why it does not go on; the first is the one to name. Empty: nothing is in the way."""
    ordered: Mapping[Role, int] = field(default_factory=dict)
    """Numbers that this pass gives out: the status remembers them from the same pass on."""

    @property
    def idle(self) -> bool:
        """No source agent is meant to run: nobody uses the source, and the copy is whole."""
        return isinstance(self.source, Leave)

    @property
    def whole(self) -> bool:
        """Whether the copy has ever been whole."""
        report = self.view.report(Role.SOURCE)
        return self.view.before.last_full_mirror is not None or (report is not None and report.mirrored_at is not None)


def heard_report(view: View, role: Role) -> Report | None:
    """What the agent says now; None when it is not heard."""
    heard = view.heard(role)
    return view.report(role) if heard is not None and heard.silent_for < SILENT_SECONDS else None


def phase_of(judged: Judged) -> Phase:
    """The first of these that holds."""
    view = judged.view
    if view.resting:
        return Phase.FAILED_OVER
    source = heard_report(view, Role.SOURCE)
    conditions = {v.condition for v in judged.verdicts}
    if ConditionType.HELD in conditions:
        return Phase.HELD
    if any(v.stalled for v in judged.verdicts):
        return Phase.ERROR
    if view.observed.pair.spec.paused:
        return Phase.PAUSED
    if judged.verdicts:
        return Phase.DISCONNECTED if judged.whole else Phase.PENDING
    by_runs = mode_of(view) is not ReplicationMode.CONTINUOUS
    if judged.idle:
        return Phase.WAITING if by_runs else Phase.REPLICATING
    if source is None:
        return Phase.DISCONNECTED if judged.whole else Phase.PENDING
    if source.phase is AgentPhase.MIRRORING:
        return Phase.MIRRORING
    if source.phase is AgentPhase.REPLICATING and source.mirrored_at is not None:
        return Phase.REPLICATING
    if source.phase is AgentPhase.IDLE and source.peer_connected:
        return Phase.WAITING if judged.whole else Phase.PENDING
    return Phase.DISCONNECTED if judged.whole else Phase.PENDING


def volume_status(judged: Judged) -> VolumeStatus:
    """The status as it is now. What is no longer told (an agent was replaced) stays where it only ever grows."""
    view, before = judged.view, judged.view.before
    phase = phase_of(judged)
    source = heard_report(view, Role.SOURCE)
    target = heard_report(view, Role.TARGET)
    last = view.last_report(Role.SOURCE)
    through, mirrored = view.past(before.synced_through), view.past(before.last_full_mirror)
    for report in (last, target):
        if report is not None:
            through = later(through, report.synced_through)
            mirrored = later(mirrored, report.mirrored_at)
    capture, capture_why = _capture(view, source)
    heard_at, source_time = _last_contact(view, target)
    following = source is not None and phase in (Phase.REPLICATING, Phase.WAITING, Phase.DISCONNECTED)
    return VolumeStatus(
        name=view.volume.name,
        phase=phase,
        synced_through=through,
        lag_seconds=_lag(view, source, through) if source is not None and following else None,
        lag_bytes=source.lag_bytes if source is not None and following else None,
        progress=_progress(source) if source is not None and phase is Phase.MIRRORING else None,
        last_full_mirror=mirrored,
        capture=capture,
        capture_why=capture_why,
        points=point_status(source.points) if source is not None else before.points,
        queue=_queue(view, source),
        copy_point=copy_point_status(view, target),
        hold=_hold(view),
        not_kept=_not_kept(source, target) if source is not None or target is not None else before.not_kept,
        verify=_verify(view, source),
        run=run_status(view, source),
        drift=_drift(view, source, target),
        missed=_missed(view, source),
        left_alone=_left_alone(source) if source is not None else before.left_alone,
        last_contact=heard_at,
        source_time=source_time,
        source=_agent(judged, Role.SOURCE),
        target=_agent(judged, Role.TARGET),
    )


def _verify(view: View, source: Report | None) -> VerifyStatus | None:
    """Of a volume of the pair's own: a copy elsewhere is proven when it is made."""
    return (
        None if view.elsewhere else verify_status(view.observed.pair.spec.verify, view.before.verify, source, view.now)
    )


def _capture(view: View, source: Report | None) -> tuple[Capture | None, str | None]:
    """How changes are seen, and why no better."""
    if source is None or source.capture is None:
        return view.before.capture, view.before.capture_why
    why = source.capture_why
    if source.capture is Capture.WATCH and not why:
        why = source.points.untraced if source.points is not None else _WATCHED
    return source.capture, why or None


def _queue(view: View, source: Report | None) -> QueueStatus | None:
    """What the source's agent said last; nothing where there is to be none."""
    if source is None:
        return None if view.resting else view.before.queue
    return queue_status(source.queue, view.observed.pair.spec.replication.queue)


def _drift(view: View, source: Report | None, target: Report | None) -> DriftStatus | None:
    """As the target's watch, or the latest comparison that could tell, has found; kept until there is another word."""
    before = view.before.drift
    words = [target.drifted if target is not None else None, _compared(source)]
    told = [word for word in words if word is not None]
    found = next((word for word in told if word.count), next(iter(told), None))
    if found is None or (before is None and not found.count and not found.unwatched):
        return before
    last = found.at or (before.last_time if before is not None else None)
    return DriftStatus(last_time=last, count=found.count, first=found.first[:16], unwatched=found.unwatched or None)


def _missed(view: View, source: Report | None) -> MissedStatus | None:
    """As the latest comparison that could tell has found; kept until there is another word."""
    before, found = view.before.missed, source.missed if source is not None else None
    if found is None or (before is None and not found.count):
        return before
    last = found.at or (before.last_time if before is not None else None)
    return MissedStatus(last_time=last, count=found.count, first=found.first[:16])


def _compared(source: Report | None) -> Drifted | None:
    """What its comparisons found. Where it makes points that is of before them."""
    if source is None or source.drifted is None:
        return None
    point = read(source.points.at) if source.points is not None else None
    compared = read(source.mirrored_at)
    return source.drifted if point is None or (compared is not None and compared > point) else None


def _last_contact(view: View, target: Report | None) -> tuple[str | None, str | None]:
    """When the source was last heard, on the target's clock and on its own: kept from the moment it is lost until it is
    heard again, so that a new target agent does not make it unknown."""
    peer = target.peer if target is not None else None
    if peer is None or peer.state is PeerState.NEVER:
        return view.before.last_contact, view.before.source_time
    if peer.state is PeerState.CONNECTED:
        return None, None
    return peer.last_heard or view.before.last_contact, peer.source_time or view.before.source_time


def _lag(view: View, source: Report, through: str | None) -> int | None:
    """As the source agent says. Between two runs one that is new knows of none: then it is the age of the last one, on
    the source's clock, which its heartbeat tells."""
    if source.lag_seconds is not None:
        return math.ceil(max(0.0, source.lag_seconds))
    heard = view.heard(Role.SOURCE)
    now, safe = read(heard.renew_time if heard is not None else None), read(through)
    if source.phase is not AgentPhase.IDLE or now is None or safe is None:
        return None
    return math.ceil(max(0.0, (now - safe).total_seconds()))


def _progress(report: Report) -> Progress | None:
    found = report.progress
    if found is None:
        return None
    percent = None
    if found.bytes_total:
        percent = min(100, found.bytes_done * 100 // found.bytes_total)
    elif found.files_total:
        percent = min(100, found.files_done * 100 // found.files_total)
    return Progress(
        files_done=found.files_done,
        files_total=found.files_total,
        bytes_done=found.bytes_done,
        bytes_total=found.bytes_total,
        percent=percent,
        bytes_per_second=found.bytes_per_second,
    )


def _hold(view: View) -> Hold | None:
    for role in Role:
        report = view.report(role)
        problem = report.problem if report is not None else None
        if problem is not None and problem.token is not None:
            before = view.before.hold
            same = before is not None and before.token == problem.token
            since = before.since if before is not None and same else written(view.now)
            return Hold(reason=problem.reason, message=problem.message, token=problem.token, since=since)
    return None


def _not_kept(*reports: Report | None) -> tuple[NotKept, ...]:
    """Both ends count what they could not keep; of one kind the larger count is told."""
    found: dict[str, NotKept] = {}
    for report in reports:
        for entry in report.not_kept if report is not None else ():
            if entry.count and (entry.kind not in found or found[entry.kind].count < entry.count):
                found[entry.kind] = NotKept(kind=entry.kind, count=entry.count, first=entry.first[:16])
    return tuple(found[kind] for kind in sorted(found))[:32]


def _left_alone(source: Report) -> tuple[LeftAlone, ...]:
    return tuple(
        LeftAlone(kind=left.kind, count=left.count, first=left.first[:16])
        for left in sorted(source.left_alone, key=lambda left: left.kind)[:8]
    )


def _agent(judged: Judged, role: Role) -> AgentStatus | None:
    view = judged.view
    pod, heard = view.current_pod(role), view.heard(role)
    instance = max(view.instance(role), judged.ordered.get(role, 0))
    if pod is None and instance == 0:
        return None
    report = view.report(role)
    problem = report.problem if report is not None else None
    return AgentStatus(
        pod_name=pod.metadata.name if pod is not None else None,
        node=(node_of(pod) or None) if pod is not None else None,
        instance=instance,
        phase=report.phase if report is not None else None,
        last_heartbeat=heard.renew_time if heard is not None and report is not None else None,
        problem=Problem(reason=problem.reason, message=problem.message, hint=problem.hint) if problem else None,
    )
