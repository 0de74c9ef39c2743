"""The target's end of points: what comes is written to the journal, committed, acknowledged and applied.

One of a group is held back before it is applied, until the source says what becomes of it: only when all targets of the
group have theirs is any of them applied. So while no source agent was replaced there is a point that all copies are at,
or can be brought to. Whatever else is to change the volume, or asks what is in it, has it applied first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from storagemirror.entry import printable
from storagemirror.errors import Held, VolumeError, VolumeFull
from storagemirror.fs.journal.incoming import Incoming
from storagemirror.fs.journal.journal import MIRRORING, WAS_LIVE
from storagemirror.fs.journal.others import CHANGED
from storagemirror.fs.journal.refusal import NotTaken, Why
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR, End, Names, Object
from storagemirror.sync.admission import Admitted, doubt
from storagemirror.sync.deletions import Deletions
from storagemirror.sync.durability import Durability
from storagemirror.sync.observer import Event, EventKind, Observer
from storagemirror.terms import OrphanPolicy
from storagemirror.wire import messages as m
from storagemirror.wire.content import Data, Told


class Points:
    """Of one session that was let in; for its thread."""

    def __init__(
        self,
        volume: TargetVolume,
        admitted: Admitted,
        deletions: Deletions,
        durability: Durability,
        *,
        holds: bool,
        send: Callable[[m.Message], None],
        observer: Observer,
    ) -> None:
        """`holds`: the source says when a point of a group is to be applied."""
        self._holds = holds
        self._volume = volume
        self._journal = volume.journal
        self._admitted = admitted
        self._deletions = deletions
        self._durability = durability
        self._send = send
        self._observer = observer
        self._lived = admitted.stored is not None and admitted.stored.promoted is not None
        """What its journal knows is of the time before it was the live side."""
        self._mirrored = False
        """A mirror of everything has ended, and no point has come since."""
        self._number = 0
        self._incoming: Incoming | None = None
        """None, while a point comes: it was refused, and the rest of it is passed over."""

    # -- what else happens

    def let_in(self) -> None:
        """The session begins. An application has written a volume that was the live side: it is at no point any more,
        also once its marker does not say so any longer. `VolumeFull`, OSError."""
        if self._lived:
            self._journal.settle(apply=False)  # of the time before: what it builds on is not there any more
            self._journal.spoil(WAS_LIVE.reason, WAS_LIVE.message)

    @property
    def held(self) -> bool:
        """Whether a point is held back. What else is done with the volume has to `settle` it first."""
        return self._journal.held is not None

    def settle(self) -> None:
        """Something else comes than what becomes of the point that is held: it is applied. Raises as `end`."""
        self._note_others()
        self._apply_held()

    def before_change(self, *, follows: bool = False) -> None:
        """Something is about to be changed that is no point; `follows`: and `Disturbances` watches that. `VolumeFull`,
        OSError."""
        if not follows:
            self._watch_no_more()
        self._journal.spoil(MIRRORING, "changes came since the last point that belong to no point yet")

    def _watch_no_more(self) -> None:
        if self._volume.others.armed:
            self._note_others()
            self._volume.others.disarm()

    def mirroring(self, *, follows: bool = False) -> None:
        """A mirror of everything begins. What others have changed is noted, and mended by it. `follows`: by
        `Disturbances`. `VolumeFull`, OSError."""
        if not follows:
            self._watch_no_more()

    def mirrored(self) -> None:
        """A mirror of everything has ended, and nothing failed."""
        self._mirrored = True
        if self._journal.at.number and not self._journal.at.spoiled and not self._lived:
            self._volume.others.arm(self._volume.selection)  # nothing had to be changed: it is the point that it was

    def close(self) -> None:
        """The session ends: a point that is not whole is forgotten."""
        self._incoming = None
        with contextlib.suppress(OSError):
            self._journal.drop()

    # -- a point

    def begin(self, message: m.Point) -> None:
        """It comes."""
        self._number = message.number
        self._incoming = None
        self.settle()
        reason, why = self._why_not(message)
        if reason is not None:
            self._refuse(reason, why)
            return
        self._durability.before_change()
        epoch = self._admitted.marker.epoch
        try:
            self._incoming = self._journal.begin(epoch, message.number, message.before, self._volume.selection)
        except VolumeFull as e:
            self._refuse(m.FailureReason.FULL, e.message)
            return
        # Until a point is applied, only others change the volume's own files from here on.
        self._volume.others.arm(self._volume.selection)

    def _note_others(self) -> str:
        """What somebody else has changed on the copy: it is no point any more, and takes none but after a mirror. That,
        as a sentence; empty: nothing. `VolumeFull`, OSError."""
        changed = self._volume.others.changed()
        if changed is None:
            return ""
        self._journal.spoil_changed(changed)
        doubt(self._volume)
        self._mirrored = False
        return changed.since_point

    def _why_not(self, message: m.Point) -> tuple[m.FailureReason | None, str]:
        """Why a point cannot be taken, whatever is in it."""
        terms, at = self._admitted.terms, self._journal.at
        base = MIRROR if self._lived else self._journal.base
        if terms.orphans is not OrphanPolicy.DELETE or terms.ignore_deletes or terms.older_than_seconds:
            return m.FailureReason.OTHER, "points need orphans to be deleted: what the source has not, the copy has not"
        if self._volume.shortfall.links:
            return m.FailureReason.OTHER, "some files have more names than the target's file system can give them"
        if message.number <= at.number:
            return m.FailureReason.OTHER, f"expected a point beyond {at.number}, got {message.number}"
        if message.before == MIRROR and not self._mirrored:
            return m.FailureReason.CONFLICT, "expected a mirror of everything before the first point"
        if message.before != MIRROR and at.spoiled == CHANGED:
            return m.FailureReason.CONFLICT, at.message
        if message.before not in (base, MIRROR):
            return m.FailureReason.CONFLICT, "the point's base is not where the target is"
        return None, ""

    def told(self, event: Told) -> None:
        """An object, or names."""
        with self._taking() as incoming:
            if incoming is None:
                return
            if isinstance(event.record, Object):
                incoming.object(event.payload, event.record)
            elif isinstance(event.record, Names):
                incoming.names(event.payload, event.record)

    def data(self, event: Data) -> None:
        """Content."""
        with self._taking() as incoming:
            if incoming is not None:
                incoming.content(event.offset, event.content)

    def hole(self, event: m.Hole) -> None:
        """Zeros."""
        with self._taking() as incoming:
            if incoming is not None:
                incoming.zeros(event.offset, event.length)

    def drop(self) -> None:
        """The source has thrown it away. OSError."""
        self._number, self._incoming = 0, None
        self._journal.drop()

    def end(self, message: m.PointEnd) -> None:
        """It has come whole: committed, acknowledged, applied or held back. `Held`; what the disk refuses once it is
        committed ends the session, and the next one goes on with it."""
        number, end = self._number, message.end
        hold = self._holds and end.group != 0
        with self._taking() as incoming:
            if incoming is None:
                self._number = 0
                return
            if others := self._note_others():
                raise NotTaken(Why.CONFLICT, others)
            commit = self._journal.commit(end, self._deletions.judge_point, hold=hold)
        if self._incoming is None:
            self._number = 0
            return  # refused
        self._number, self._incoming, self._mirrored = 0, None, False
        self._deletions.point_committed()
        self._send(m.PointDurable(number, end.digest))
        if not hold:
            self._observer.event(Event(EventKind.MARKED, through_ns=end.at_ns))
            self._apply(end, lambda: self._journal.apply(commit))

    def release(self, message: m.PointRelease) -> None:
        """What becomes of the point that is held back. Raises as `end`."""
        others = self._note_others()
        held = self._journal.held
        if others:
            self._journal.settle(apply=False)
            self._send(m.PointRefused(message.number, m.FailureReason.CONFLICT, others))
        elif held is None or held.number != message.number:
            return  # applied before: by us, or by an agent before us
        elif message.drop:
            self._journal.settle(apply=False)
        else:
            self._apply_held()

    def _apply_held(self) -> None:
        held = self._journal.held
        if held is None:
            self._journal.settle(apply=False)  # what does not fit any more
            return
        self._durability.before_change()
        self._observer.event(Event(EventKind.MARKED, through_ns=held.at_ns))
        self._apply(held, lambda: self._journal.settle(apply=True))

    def _apply(self, end: End, apply: Callable[[], object]) -> None:
        try:
            apply()
        except VolumeError:
            self._durability.distrust()
            raise
        self._send(m.PointApplied(end.number))
        self._durability.applied(end.at_ns)

    @property
    def coming(self) -> bool:
        """Whether Data, Hole and Drop belong to a point."""
        return self._number != 0

    @contextlib.contextmanager
    def _taking(self) -> Iterator[Incoming | None]:
        """The point that comes; what refuses it is told, and the rest of it is passed over."""
        try:
            yield self._incoming
        except VolumeFull as e:
            self._refuse(m.FailureReason.FULL, e.message)
        except NotTaken as e:
            self._refuse(m.FailureReason(e.why.value), e.message, e.path)
        except Held:
            self._incoming = None
            self._journal.drop()
            raise

    def _refuse(self, reason: m.FailureReason, message: str, path: bytes = b"") -> None:
        self._incoming = None
        self._journal.drop()
        text = f"{printable(path)}: {message}" if path else message
        self._send(m.PointRefused(self._number, reason, text[:10_000], path[:60_000]))
