"""The journal of a target volume: points come in, are committed, applied; and what a kill leaves is put right.

Promises, on a disk that keeps what it said was written: after a kill or a power cut at any moment `recover` brings the
volume to exactly one point: the last one that was committed. A point that was acknowledged is committed. One of a group
may be *held* back: committed, and neither applied nor dropped before that is said (`settle`); until then the volume is
at the point before, and can be brought to either. Not promised:
that the journal of an acknowledged point can be read when the disk has damaged it; then that is told
(`JournalDamaged`), and the volume is at no point until the next mirror.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import msgspec

from storagemirror.entry import TimeNs, brief
from storagemirror.errors import VolumeError
from storagemirror.fs.identity import facts
from storagemirror.fs.journal import segments, slots, steps, work
from storagemirror.fs.journal.applying import Application, Unreadable
from storagemirror.fs.journal.incoming import Incoming, Judge
from storagemirror.fs.journal.others import CHANGED, Changed
from storagemirror.fs.journal.refusal import NotTaken
from storagemirror.fs.journal.segments import Commit, committed
from storagemirror.fs.journal.slots import At
from storagemirror.fs.journal.steps import Mark
from storagemirror.fs.journal.volume import Volume
from storagemirror.fs.place import raise_if_full
from storagemirror.fs.selection import Selection
from storagemirror.fs.syscalls import syncfs
from storagemirror.point import MIRROR, End

log = logging.getLogger("storagemirror.agent")

NO_POINT = "NoPoint"
BETWEEN_POINTS = "BetweenPoints"
MIRRORING = "Mirroring"
SYNC_FAILED = "SyncFailed"
_ANOTHER = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP, errno.EXDEV, errno.ESTALE}
)
"""What is there is not what the point builds on."""
_COPIES = frozenset({"btrfs", "bcachefs", "zfs", "f2fs", "nilfs2"})
"""File systems that write what is written over to new blocks."""


@dataclass(frozen=True, slots=True)
class Promotable:
    """The volume is exactly one point."""

    number: int
    at_ns: TimeNs
    """Whose state it is: on the source's clock, nanoseconds since the Unix epoch."""
    group: int = 0
    """Of the points of several volumes that are of one moment; 0: it is of this volume alone."""
    group_ns: TimeNs = 0


@dataclass(frozen=True, slots=True)
class NotPromotable:
    """The volume is no point."""

    reason: str
    """One CamelCase word: `NoPoint`, `BetweenPoints`, `JournalDamaged`, `SyncFailed`, or why it was spoiled
    (`Mirroring`)."""
    message: str


WAS_LIVE = NotPromotable(MIRRORING, "it was the live side since its last point")


def promotable_beneath(state: int) -> Promotable | NotPromotable:
    """Of a volume that is not claimed: `state` is the descriptor of our directory on it. Changes nothing. OSError."""
    journal = work.open_journal(state, make=False)
    if journal is None:
        return _say(None, At())
    try:
        return _say(steps.read(journal), slots.read(journal) or At())
    finally:
        os.close(journal)


def left_beneath(state: int) -> bool:
    """Of a volume that is not claimed: whether a point that came in was left there, committed or not. OSError."""
    journal = work.open_journal(state, make=False)
    if journal is None:
        return False
    try:
        return bool(segments.segments(journal))
    finally:
        os.close(journal)


def _say(mark: Mark | None, at: At) -> Promotable | NotPromotable:
    if mark is not None:
        return NotPromotable(BETWEEN_POINTS, f"point {mark.point} was not applied to its end yet")
    if at.spoiled:
        return NotPromotable(at.spoiled, at.message)
    if not at.number:
        return NotPromotable(NO_POINT, "no point was applied yet")
    return Promotable(at.number, at.at_ns, at.group, at.group_ns)


def _changed(at: At, changed: Changed, applying: int = 0) -> At:
    """What is graver than that others have changed it stays the reason. `applying`: the point that is, or that is held;
    0: none."""
    since = min(changed.since_ns, at.changed_since_ns or changed.since_ns)
    at = msgspec.structs.replace(at, changed_since_ns=since)
    if at.spoiled not in ("", MIRRORING):
        return msgspec.structs.replace(at, spoiled_in=max(at.spoiled_in, applying))
    message = changed.since_point if at.number else changed.sentence
    return msgspec.structs.replace(at, spoiled=CHANGED, message=message, spoiled_in=applying)


class Journal:
    """Of a volume that is claimed: `state` is the descriptor of our directory on it. For one thread."""

    def __init__(self, state: int, volume: Volume) -> None:
        self._volume = volume
        self._state = state
        self._journal = work.open_journal(state, make=False)
        self.sync: Callable[[], None] = lambda: syncfs(volume.tree.root)
        """Makes the whole file system durable. OSError."""
        self.segment_bytes = segments.SEGMENT
        self.at = (slots.read(self._journal) if self._journal is not None else None) or At()
        """Where the volume is."""
        self._incoming: Incoming | None = None
        self._held: Commit | None = None

    def close(self) -> None:
        """Let go; a point that comes in is dropped."""
        if self._journal is not None:
            with contextlib.suppress(OSError):
                self.drop()
            os.close(self._journal)
            self._journal = None

    # -- what it says

    def promotable(self) -> Promotable | NotPromotable:
        """After `recover`."""
        return _say(steps.read(self._journal) if self._journal is not None else None, self.at)

    @property
    def base(self) -> bytes:
        """What `before` of the next point may be; `MIRROR`: only what a mirror left. A point that is held comes before
        that."""
        return MIRROR if self.at.spoiled else self.at.digest

    @property
    def held(self) -> End | None:
        """Of the point that is held back, and can be applied: the volume is one point with it, and may be one without.
        None: there is none. For any thread."""
        held = self._held
        return held.end if held is not None and self._fits(held.end) else None

    def _fits(self, end: End) -> bool:
        """Whether the volume is one point once this one is applied: nobody has changed it since its base."""
        return end.before in (self.at.digest, MIRROR) and not self.at.after(end).spoiled

    def spoil(self, reason: str, message: str) -> None:
        """The volume is about to be changed otherwise: it is at no point, durably, until one is applied whose base is
        a mirror. Nothing where it is at none. OSError, `VolumeFull`."""
        if self.at.number and not self.at.spoiled:
            self._write(msgspec.structs.replace(self.at, spoiled=reason, message=message))

    def spoil_changed(self, changed: Changed) -> None:
        """Somebody else has changed the volume: as `spoil`, whatever it is at; once. OSError, `VolumeFull`."""
        if self._journal is None:
            self._journal = work.open_journal(self._state, make=True)
        at = _changed(self.at, changed, self._being_applied())
        if at != self.at:
            self._write(at)

    def mended(self, still: Changed | None) -> None:
        """A mirror that sent all that they may have written has ended, and is durable. The volume is at no point all
        the same. `still`: what they have changed since it began. OSError, `VolumeFull`."""
        at = self.at
        if not at.changed_since_ns:
            return
        at = msgspec.structs.replace(at, changed_since_ns=0)
        if at.spoiled == CHANGED:
            mirrored = (MIRRORING, "it was mirrored, and no point has come since") if at.number else ("", "")
            at = msgspec.structs.replace(at, spoiled=mirrored[0], message=mirrored[1])
        self._write(at if still is None else _changed(at, still))

    @property
    def changed_since_ns(self) -> TimeNs | None:
        """None, unless somebody else has changed the volume since the last mirror: then files with this ctime or a
        later one may hold what they wrote."""
        return self.at.changed_since_ns or None

    def _write(self, at: At) -> None:
        at = msgspec.structs.replace(at, sequence=self.at.sequence + 1)
        try:
            slots.write(self._directory, at)
        except OSError as e:
            raise_if_full(e)
            raise
        self.at = at

    # -- a point comes in

    def begin(self, epoch: int, number: int, before: bytes, selection: Selection | None = None) -> Incoming:
        """`before` is for the caller to judge (`base`). `VolumeFull`, OSError."""
        try:
            if self._journal is None:
                self._journal = work.open_journal(self._state, make=True)
            if not self.at.sequence:
                self._write(self.at)  # there is room for the slots from here on
            self._incoming = Incoming(
                self._volume,
                self._directory,
                epoch,
                number,
                before,
                selection=selection,
                copies=self._copies,
                segment_bytes=self.segment_bytes,
            )
        except OSError as e:
            raise_if_full(e)
            raise
        return self._incoming

    @cached_property
    def _copies(self) -> bool:
        """Whether its file system writes what is written over to new blocks: asked once, where points come at all."""
        return facts(self._volume.tree.root).fs_type in _COPIES

    def commit(self, end: End, judge: Judge, *, hold: bool = False) -> Commit:
        """The point that came in is on the disk; `apply` it, or, with `hold`, `settle` it. Raises as `Incoming.commit`:
        `drop` it then."""
        if self._incoming is None:
            raise AssertionError("begin a point first")
        commit = self._incoming.commit(end, judge, hold=hold)
        self._incoming = None
        self._held = commit if hold else None
        return commit

    def drop(self) -> None:
        """Nothing is kept of a point that came in and was not committed. OSError."""
        incoming, self._incoming = self._incoming, None
        if incoming is not None:
            incoming.drop()

    # -- what becomes of one that is held

    def settle(self, *, apply: bool) -> bool:
        """Apply the point that is held, or drop it, durably; where somebody else has changed the volume since, it is
        dropped in any case. Whether it was applied. Nothing where none is held. After a kill at any step `recover`, and
        this again. Raises as `apply`; OSError where it cannot be dropped."""
        held = self._held
        if held is None:
            return False
        if apply and self._fits(held.end):
            steps.begin(self._directory, held.end.number)
            self._held = None
            steps.unhold(self._directory)
            self.apply(held)
            return True
        steps.unhold(self._directory)  # first: without its journal it would be a promise that is broken
        segments.remove(self._directory, held.end.number)
        os.fsync(self._directory)  # whoever looks after a power cut must not find it again
        self._held = None
        work.clear(self._directory)
        return False

    # -- it is applied

    def apply(self, commit: Commit) -> None:
        """The committed point. `VolumeFull`: it goes on with `recover` when there is room; `VolumeError` TargetFailing:
        the disk fails. TargetChanged: somebody else has changed what it builds on, and it is dropped. In all of them
        the volume is at no point."""
        mark = steps.read(self._directory)
        if mark is None:
            raise AssertionError("commit a point first")
        try:
            self._run(mark, commit)
            self._applied(mark)
        except Unreadable as e:
            raise VolumeError(self._damaged(mark), reason="TargetFailing") from e
        except NotTaken as e:
            raise VolumeError(self._unfit(mark, e.message, e.path), reason=CHANGED) from e
        except OSError as e:
            raise_if_full(e)
            if e.errno in _ANOTHER:
                raise VolumeError(self._unfit(mark, os.strerror(e.errno)), reason=CHANGED) from e
            raise VolumeError(
                f"point {mark.point} could not be applied: {e.strerror}",
                reason="TargetFailing",
                hint="Its disk fails: look at its node's kernel log.",
            ) from e

    def _run(self, mark: Mark, commit: Commit) -> None:
        """Apply it, and say so; what somebody else did before or meanwhile is said in the same breath."""
        others = self._volume.others()
        others.applying()
        try:
            Application(self._volume, self._directory, mark, commit, self._synced).run()
            changed = others.applied()
        except BaseException:
            others.disarm()  # of what is done again later it could not tell what is ours
            raise
        at = self.at.after(commit.end)
        self._write(at if changed is None else _changed(at, changed))

    def _applied(self, mark: Mark) -> None:
        """The slots say so: its journal is needed no more."""
        now = steps.read(self._directory)
        if now is not None:
            steps.end(self._directory, now)
        segments.remove(self._directory, mark.point)

    def _synced(self) -> None:
        try:
            self.sync()
        except OSError:
            # The kernel says it once, and may have dropped what it could not write. The point is written again from its
            # journal; whatever else was lost only a comparison of everything can tell.
            with contextlib.suppress(Exception):
                self._write(
                    msgspec.structs.replace(
                        self.at,
                        spoiled=SYNC_FAILED,
                        message="the disk failed while a point was applied: what was written may be damaged",
                        spoiled_in=self._being_applied(),
                    )
                )
            raise

    def _being_applied(self) -> int:
        """Or held, to be applied."""
        mark, held = steps.read(self._directory), self._held
        if mark is not None:
            return mark.point
        return held.end.number if held is not None else 0

    @property
    def _directory(self) -> int:
        if self._journal is None:
            raise AssertionError("there is no journal")
        return self._journal

    # -- after a kill

    def recover(self) -> None:
        """Drop what is not committed, apply what is, and hold what is held. Raises as `apply`."""
        if self._journal is None:
            return
        self.drop()
        mark = steps.read(self._journal)
        if mark is not None and mark.point <= self.at.number:
            self._applied(mark)
            mark = None
        if mark is None:
            mark = self._recover_committed(self._journal)
        else:
            self._held = None
            steps.unhold(self._journal)
            for point in segments.segments(self._journal):
                if point != mark.point:
                    segments.remove(self._journal, point)
        if mark is None:
            if self._held is None:
                work.clear(self._journal)
            return
        commit = committed(self._journal, mark.point)
        if commit is None:
            self._damaged(mark)
            return
        log.info("applying point %d, which was committed before", mark.point)
        try:
            self.apply(commit)
        except VolumeError as e:
            if e.reason != CHANGED:
                raise
            log.error("%s", e.message)

    def _recover_committed(self, journal: int) -> Mark | None:
        """Of points that nobody has begun to apply: what is to be held is held, of what is to be applied it is the mark
        that was made, and all else is dropped."""
        held: Commit | None = None
        mark: Mark | None = None
        promised, found = steps.held(journal), False
        if promised <= self.at.number:
            steps.unhold(journal)
            promised = 0
        for point in segments.segments(journal):
            fresh = mark is None and held is None and point > self.at.number
            commit = committed(journal, point) if fresh else None
            found = found or (commit is not None and point == promised)
            if commit is not None and commit.end.group and self._fits(commit.end):
                held = commit
            elif commit is not None and not commit.end.group and commit.end.before in (self.base, MIRROR):
                mark = steps.begin(journal, point)
            elif point != promised or found:
                if point == promised:
                    steps.unhold(journal)
                segments.remove(journal, point)
        self._held = held
        if promised and not found:
            self._broken(promised)
        if held is None:
            steps.unhold(journal)
        return mark

    def _broken(self, point: int) -> None:
        """A point that was promised, and held back, cannot be read."""
        message = f"the journal of point {point}, which was acknowledged and held back, cannot be read"
        log.error("%s", message)
        self._write(msgspec.structs.replace(self.at, spoiled="JournalDamaged", message=message, spoiled_in=point))
        steps.unhold(self._directory)
        segments.remove(self._directory, point)

    def _unfit(self, mark: Mark, why: str, path: bytes = b"") -> str:
        """Somebody else has changed what it builds on (while nobody watched: else it would not have been taken): that,
        as a sentence. What else they have changed, and when, is not known: the next mirror believes no file's time."""
        where = f"{brief(path)}: " if path else ""
        message = (
            f"somebody else has changed the copy: point {mark.point}, which was acknowledged, does not fit it any more "
            f"({where}{why})"
        )
        spoiled = (CHANGED, message) if self.at.spoiled in ("", MIRRORING) else (self.at.spoiled, self.at.message)
        self._write(
            msgspec.structs.replace(
                self.at, spoiled=spoiled[0], message=spoiled[1], spoiled_in=mark.point, changed_since_ns=1
            )
        )
        self._applied(mark)
        work.clear(self._directory)
        return message

    def _damaged(self, mark: Mark) -> str:
        """It was promised, and cannot be read: that, as a sentence."""
        message = (
            f"the journal of point {mark.point}, which was acknowledged, cannot be read; "
            f"its step {mark.step.name} had begun"
        )
        log.error("%s", message)
        self._write(msgspec.structs.replace(self.at, spoiled="JournalDamaged", message=message, spoiled_in=mark.point))
        self._applied(mark)
        work.clear(self._directory)
        return message
