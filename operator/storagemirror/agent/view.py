"""What an agent sees, gathered from its threads, and told as a `Report`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec

from storagemirror import __version__
from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import (
    Capture,
    CopyPoint,
    Drifted,
    Freezing,
    KeptAside,
    Missed,
    NotKept,
    Order,
    PeerSeen,
    Phase,
    PointsMade,
    Problem,
    Proof,
    Queued,
    Report,
    RunDone,
    Verification,
    VolumeFacts,
)
from storagemirror.contract import LeftAlone as ReportedLeft
from storagemirror.contract import Progress as ReportedProgress
from storagemirror.entry import NotKeptKind
from storagemirror.errors import Held, StorageMirrorError, Superseded
from storagemirror.fs.journal.journal import NO_POINT, WAS_LIVE, Promotable
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.left import LeftAlone
from storagemirror.sync.observer import Event, EventKind, NotKeptTally, Progress

LONGEST = 4096
"""Characters of a message in a report."""


@dataclass(frozen=True)
class Sight:
    """The parts of a report that its owner sets; times are nanoseconds since the Unix epoch, None is unknown."""

    phase: Phase = Phase.STARTING
    order: Order | None = None
    peer_connected: bool = False
    problem: Problem | None = None
    proof: Proof | None = None
    kept: KeptAside | None = None
    verification: Verification | None = None
    run: RunDone | None = None
    drifted: Drifted | None = None
    missed: Missed | None = None
    mirrored_ns: int | None = None
    through_ns: int | None = None
    capture: Capture | None = None
    capture_why: str = ""
    freezing: Freezing | None = None
    points: PointsMade | None = None
    volume: VolumeFacts | None = None
    left: tuple[LeftAlone, ...] = ()


@dataclass
class Measures:
    """What is measured when a report is made, each None where it cannot be known."""

    lag_bytes: Callable[[], int | None] = field(default=lambda: None)
    volume: Callable[[], VolumeFacts | None] = field(default=lambda: None)
    peer: Callable[[], PeerSeen | None] = field(default=lambda: None)
    copy_point: Callable[[], CopyPoint | None] = field(default=lambda: None)
    queue: Callable[[], Queued | None] = field(default=lambda: None)
    drifted: Callable[[], Drifted | None] = field(default=lambda: None)
    interval: Callable[[], float | None] = field(default=lambda: None)
    """Seconds from point to point."""


class View:
    """Thread-safe; also the `Observer` of the sessions."""

    def __init__(self, instance: int, pod_uid: str, clock: Clock) -> None:
        self._instance = instance
        self._pod_uid = pod_uid
        self._clock = clock
        self._changed = threading.Condition()
        self._urgent = True
        self._sight = Sight()
        self._through_at = 0.0
        """When `through_ns` was, on the clock that is never set."""
        self._progress: ReportedProgress | None = None
        self._started_at: str | None = None
        self._wire_before = 0
        self._wire_session = 0
        self._tally = NotKeptTally()
        self._failed = 0
        self._failed_first = ""
        self.measures = Measures()

    @property
    def sight(self) -> Sight:
        """As it is now."""
        with self._changed:
            return self._sight

    @property
    def urgent(self) -> bool:
        """Is there something to tell that should not wait for the next heartbeat?"""
        with self._changed:
            return self._urgent

    def see(self, **changes: object) -> None:
        """Set fields of `Sight`; what a person or the operator waits for wakes the heartbeat."""
        with self._changed:
            before = self._sight
            self._sight = replace(before, **changes)  # type: ignore[arg-type]  # the names are checked by replace
            through_ns = self._sight.through_ns
            if through_ns is not None and through_ns != before.through_ns:
                age = max(0, self._clock.now_ns() - through_ns) / 1e9
                self._through_at = self._clock.monotonic() - age
            if _worth_telling(before, self._sight):
                self._urgent = True
                self._changed.notify_all()

    def trouble(self, error: StorageMirrorError, phase: Phase, *, retrying: bool = True) -> None:
        """Something is in the way; the phase says what it leaves us doing."""
        self.see(phase=phase, problem=problem_of(error, retrying=retrying))

    def wait_urgent(self, timeout: float, stop: threading.Event) -> None:
        """Until there is something to tell at once, or `timeout` seconds have passed."""
        with self._changed:
            self._changed.wait_for(lambda: self._urgent or stop.is_set(), timeout)

    def wake(self) -> None:
        """Make the heartbeat look around."""
        with self._changed:
            self._urgent = True
            self._changed.notify_all()

    def report(self) -> Report:
        """What is seen now."""
        # Before anything is measured: what changes from here on is told again.
        with self._changed:
            self._urgent = False
        # Measured without the lock: a look at a volume may take its time.
        lag_bytes, volume, peer = self.measures.lag_bytes(), self.measures.volume(), self.measures.peer()
        sight = self.sight
        # After the phase: what is told beside Drained must be of after the draining.
        copy_point = self.measures.copy_point()
        queue, points, drifted = self.measures.queue(), sight.points, self.measures.drifted()
        if points is not None:
            points = msgspec.structs.replace(points, interval_seconds=self.measures.interval())
        with self._changed:
            return Report(
                instance=self._instance,
                epoch=sight.order.epoch if sight.order else 0,
                revision=sight.order.revision if sight.order else 0,
                phase=sight.phase,
                pod_uid=self._pod_uid,
                peer_connected=sight.peer_connected,
                peer=peer,
                proof=sight.proof,
                kept=sight.kept if _answers(sight.kept, sight.order) else None,
                verification=sight.verification,
                run=sight.run,
                drifted=drifted or sight.drifted,
                missed=sight.missed,
                problem=_cut(sight.problem),
                progress=self._progress if sight.phase is Phase.MIRRORING else None,
                mirrored_at=_time(sight.mirrored_ns),
                synced_through=_time(sight.through_ns),
                lag_seconds=self._lag(sight.through_ns),
                lag_bytes=lag_bytes,
                capture=sight.capture,
                capture_why=sight.capture_why[:LONGEST],
                freezing=_brief(sight.freezing),
                points=points,
                queue=queue,
                not_kept=tuple(
                    NotKept(kind=c.kind.value, count=c.count, first=c.first_printable()) for c in self._tally.counts()
                ),
                left_alone=tuple(
                    ReportedLeft(kind=left.kind.value, count=left.count, first=left.first_printable())
                    for left in sight.left
                ),
                volume=volume or sight.volume,
                bytes_sent=self._wire_before + self._wire_session,
                version=__version__,
                copy_point=copy_point,
            )

    def _lag(self, through_ns: int | None) -> float | None:
        if through_ns is None:
            return None
        return round(max(0.0, self._clock.monotonic() - self._through_at), 3)

    # -- Observer

    def progress(self, progress: Progress) -> None:
        """See `Observer`."""
        with self._changed:
            if progress.wire_bytes < self._wire_session:
                self._wire_before += self._wire_session
            self._wire_session = progress.wire_bytes
            self._progress = ReportedProgress(
                files_done=progress.files_done,
                files_total=progress.files_total,
                bytes_done=progress.bytes_done,
                bytes_total=progress.bytes_total,
                bytes_per_second=progress.bytes_per_second,
                started_at=self._started_at,
            )

    def not_kept(self, kind: NotKeptKind, path: bytes) -> None:
        """See `Observer`."""
        with self._changed:
            self._tally.add(kind, path)

    def event(self, event: Event) -> None:
        """See `Observer`."""
        if event.kind is EventKind.FAILED_ENTRY:
            with self._changed:
                self._failed += 1
                self._failed_first = self._failed_first or event.detail
        elif event.kind is EventKind.MIRROR_STARTED:
            # Everything is looked at again: what could not be kept or written is counted anew.
            with self._changed:
                self._progress = None
                self._started_at = rfc3339(self._clock.now_ns())
                self._tally.clear()
                self._failed, self._failed_first = 0, ""

    @property
    def bytes_sent(self) -> int:
        """Over all connections, since this process began."""
        with self._changed:
            return self._wire_before + self._wire_session

    def failed_entries(self) -> tuple[int, str]:
        """How many entries could not be written since the last comparison began, and the first of them."""
        with self._changed:
            return self._failed, self._failed_first


def problem_of(error: StorageMirrorError, *, retrying: bool = True) -> Problem:
    """An error as it is reported."""
    return Problem(
        reason=error.reason,
        message=error.message,
        hint=error.hint,
        token=error.token if isinstance(error, Held) else None,
        retrying=retrying and not isinstance(error, (Held, Superseded)),
    )


def _cut(problem: Problem | None) -> Problem | None:
    """It may name a path, and a peer may say anything: a report must fit an annotation."""
    if problem is None or max(map(len, (problem.reason, problem.message, problem.hint))) <= LONGEST:
        return problem
    reason, message, hint = (text[:LONGEST] for text in (problem.reason, problem.message, problem.hint))
    return Problem(reason=reason, message=message, hint=hint, token=problem.token, retrying=problem.retrying)


def _brief(freezing: Freezing | None) -> Freezing | None:
    """As `_cut`."""
    if freezing is None or len(freezing.message) <= LONGEST:
        return freezing
    return Freezing(able=freezing.able, reason=freezing.reason, message=freezing.message[:LONGEST])


def _worth_telling(before: Sight, now: Sight) -> bool:
    """Has something changed that nobody should wait five seconds for?"""
    return (
        before.phase is not now.phase
        or before.problem != now.problem
        or before.proof != now.proof
        or before.kept != now.kept
        or before.verification != now.verification
        or before.run != now.run
        or before.drifted != now.drifted
        or before.missed != now.missed
        or before.peer_connected != now.peer_connected
        or before.capture is not now.capture
        or before.freezing != now.freezing
        or _first_point(before) != _first_point(now)
        or before.order != now.order
        or (before.mirrored_ns is None) != (now.mirrored_ns is None)
        or (before.through_ns is None) != (now.through_ns is None)
    )


def _first_point(sight: Sight) -> bool:
    """Whether a point has come to the target."""
    return sight.points is not None and sight.points.number is not None


def _answers(kept: KeptAside | None, order: Order | None) -> bool:
    """Whether that was asked for by the present order."""
    restore = order.restore if order is not None else None
    return kept is not None and restore is not None and (kept.epoch, kept.attempt) == (restore.epoch, restore.attempt)


def _time(ns: int | None) -> str | None:
    return None if ns is None else rfc3339(ns)


def facts_of(volume: SourceVolume | TargetVolume | None) -> VolumeFacts | None:
    """What an agent tells of its volume; None while it has none, or it cannot be asked."""
    if volume is None:
        return None
    try:
        found = volume.facts()
    except OSError:
        return None
    return VolumeFacts(fs_type=found.fs_type, identity=str(volume.identity), size=found.size, free=found.free)


def point_of(volume: TargetVolume | None) -> CopyPoint | None:
    """What a target's agent tells of its points; None while it has none, or they cannot be read."""
    if volume is None:
        return None
    held = volume.held  # first: while it is applied it may be told of neither, and is never told of twice
    try:
        at = volume.promotable()
    except (OSError, StorageMirrorError):
        return None
    if isinstance(at, Promotable):
        group, group_at = (at.group, rfc3339(at.group_ns)) if at.group else (None, None)
        found = CopyPoint(promotable=True, number=at.number, at=rfc3339(at.at_ns), group=group, group_at=group_at)
    elif at.reason == NO_POINT and held is None:
        return None
    else:
        found = CopyPoint(promotable=False, reason=at.reason, message=at.message)
    if held is None or held.number <= found.number or at == WAS_LIVE:
        return found
    return msgspec.structs.replace(
        found,
        held_number=held.number,
        held_at=rfc3339(held.at_ns),
        held_group=held.group,
        held_group_at=rfc3339(held.group_ns),
    )
