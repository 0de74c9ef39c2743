"""The end of a copy as a copy: everything that came is on the disk, then the volume bears the epoch of the live side.

Each step may be repeated, by this process or by one that comes after it was killed:

    drain    own the volume (lock) → syncfs, checked → the marker says: closed in good order
    promote  drain → the point that is held back is applied, or dropped, durably
             → the manifest of what the volume holds, durably → the marker bears the epoch, durably
             → nothing of ours is open on the volume any more

From the marker's write on every source and every target of an earlier epoch is refused by the volume itself. Before
it nothing has changed for anybody.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass

import msgspec

from storagemirror.errors import BadInput, StorageMirrorError, VolumeError
from storagemirror.fs import manifest
from storagemirror.fs.journal.journal import BETWEEN_POINTS, NO_POINT, SYNC_FAILED, NotPromotable, Promotable
from storagemirror.fs.journal.others import CHANGED, Changed
from storagemirror.fs.marker import Marker, Synced
from storagemirror.fs.selection import selection_of
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.admission import distrust, is_ours
from storagemirror.sync.requests import Expectation


@dataclass(frozen=True, slots=True)
class Settled:
    """What a volume holds for good. Times are nanoseconds since the Unix epoch."""

    through_ns: int | None = None
    """Up to then, on the source's clock, it has everything; None: not known."""
    whole: bool = False
    """It was once equal to the source."""
    forgotten: str = ""
    """Why the volume does not remember what it held at its promotion; empty: it does, or need not."""
    doubt: str = ""
    """Why something written late may be damaged although it looks whole; empty: nothing speaks for that."""


def known(volume: TargetVolume, expect: Expectation) -> Settled:
    """What the volume itself knows, when it is this pair's copy. Reads only."""
    marker = volume.marker()
    if marker is None or not is_ours(expect, marker):
        return Settled()
    return _settled(marker, expect, volume.synced())


def _settled(marker: Marker, expect: Expectation, synced: Synced | None) -> Settled:
    if marker.promoted is not None and marker.promoted != expect.epoch:
        return Settled()  # it was the live side since: what a source sent before that says nothing of now
    return Settled(synced.through_ns or None if synced is not None else None, marker.entries is not None)


def drain(volume: TargetVolume, expect: Expectation) -> Settled:
    """Make durable what has come. No session may be going on.

    Raises `VolumeError`: TargetOwnedByAnother, EpochTooOld, TargetBusy, TargetNotWritable, TargetFailing (a sync that
    failed; what was written since the last good one is then in doubt for ever); `VolumeFull`. OSError when the volume
    cannot be read. A volume that no source has written yet has nothing to drain, and is not touched.
    """
    marker = _ours(volume, expect)
    if marker is None:
        return Settled()
    volume.claim()
    marker = _ours(volume, expect)
    if marker is None:
        return Settled()
    distrust(volume, marker)
    last = volume.synced()
    try:
        if last is None:
            volume.sync(0, 0)
        else:
            volume.sync(last.through_ns, last.deleted, last.base)
    except StorageMirrorError:
        # The kernel says it once, and may have dropped what it could not write: the next sync succeeds.
        with contextlib.suppress(StorageMirrorError):
            volume.write_marker(msgspec.structs.replace(marker, boot="", mount=None, open=True))
        raise
    doubt = ""
    if volume.distrust_after_ns is not None:
        doubt = (
            "its machine or its disk failed while changes were coming: what was written since the last sync before "
            "that may be damaged"
        )
    elif marker.open:
        volume.write_marker(msgspec.structs.replace(marker, open=False))
    return dataclasses.replace(_settled(marker, expect, last), doubt=doubt)


def promote(volume: TargetVolume, expect: Expectation) -> Settled:
    """Drain, remember what the volume holds, and write `expect.epoch` on it. The caller lets go of the volume then.

    A memory that cannot be written (`forgotten`) is no reason to stop: without it, more is kept aside when the other
    side comes back.

    Raises as `drain`, and `VolumeError` TargetNotMirrored when no source has ever written it. A volume that was never
    whole is promoted too: who orders it decides. One that bears this promotion already is not touched at all: it may
    be in use.

    A point that is held back is applied or dropped, as `expect.settle` says. TargetInDoubt where the copy can then not
    be at the point that all copies are to be at: nothing is promoted.

    A promotion that ends a restore (`expect.restore`) needs no memory. The live side is whole, so nothing less may take
    its place: TargetNotMirrored, and TargetInDoubt, where this one is not.
    """
    marker = _ours(volume, expect)
    if marker is None:
        raise VolumeError(
            "expected a copy of this pair on the target volume, found none: no source has ever written it",
            reason="TargetNotMirrored",
            hint="Let the pair mirror first.",
        )
    if marker.promoted == expect.epoch:
        return known(volume, expect)
    settled = _settle(volume, expect, drain(volume, expect))
    if not settled.doubt:
        settled = dataclasses.replace(settled, doubt=_at_no_point(volume, expect))
    if expect.restore is not None:
        _need_whole(settled)
    forgotten = _remember(volume, expect) if expect.restore is None else ""
    with contextlib.suppress(OSError):
        volume.forget_partial()  # nobody goes on with it: the other side is a source no more
    marker = _ours(volume, expect) or marker
    volume.write_marker(msgspec.structs.replace(marker, epoch=expect.epoch, promoted=expect.epoch))
    return dataclasses.replace(settled, forgotten=forgotten)


def _settle(volume: TargetVolume, expect: Expectation, drained: Settled) -> Settled:
    """What becomes of a point that is held back. Done once more it does nothing. Raises as `promote`."""
    held, at, wanted = volume.journal.held, volume.promotable(), expect.settle
    if wanted is None:
        apply = not isinstance(at, Promotable)  # whoever ordered it took it for the point that it is at
    else:
        apply = wanted.group is None or (held is not None and held.group == wanted.group)
    there = isinstance(at, Promotable) and wanted is not None and at.group == wanted.group
    if wanted is not None and not apply and not there:
        raise VolumeError(
            f"expected to be at point {wanted.group} of the group of volumes, or to hold it, "
            f"found {at.group if isinstance(at, Promotable) else at.reason}",
            reason="TargetInDoubt",
            hint="The copies of the pair's volumes would be of different moments.",
        )
    if not volume.journal.settle(apply=apply) or held is None:
        return drained
    volume.remember(held.at_ns)
    return dataclasses.replace(drained, through_ns=held.at_ns)


def finish_point(volume: TargetVolume, expect: Expectation) -> bool:
    """Apply the point that an agent before us had committed and did not apply to its end, where there is one: no source
    may be left that would have it done. One that it held back is held on, and known then. Whether there was one.

    Raises `VolumeError` and `VolumeFull` where that cannot be done now; OSError when the volume cannot be read."""
    at = volume.promotable()
    between = isinstance(at, NotPromotable) and at.reason == BETWEEN_POINTS
    if not between and not volume.unlooked:
        return False
    if not is_copy(volume, expect):
        return False
    volume.claim()
    return True


def is_copy(volume: TargetVolume, expect: Expectation) -> bool:
    """Whether it is this pair's copy, and no later promotion has used it. `VolumeError` and OSError when the volume
    cannot be read."""
    marker = volume.marker()
    return marker is not None and is_ours(expect, marker) and marker.epoch <= expect.epoch


def note_changed(volume: TargetVolume, expect: Expectation, changed: Changed) -> None:
    """Somebody else has changed the copy: it is at no point, durably, until a mirror and a point have come.

    Raises as `finish_point`. A volume that is not the pair's copy is not touched."""
    if is_copy(volume, expect):
        volume.claim()
        volume.journal.spoil_changed(changed)


def _at_no_point(volume: TargetVolume, expect: Expectation) -> str:
    """Why a copy that is kept by points is none of them; empty where it is one, or that does not count.

    A proof of equality stands in for a point; but it reads what the kernel has in memory, and so says nothing of a disk
    that failed."""
    at = volume.promotable()
    if not isinstance(at, NotPromotable) or at.reason == NO_POINT or (expect.proven and at.reason != SYNC_FAILED):
        return ""
    if at.reason == CHANGED and not volume.journal.at.number:  # it is kept otherwise
        return f"{at.message}, and that was not mended"
    return f"it is at no point ({at.reason}): {at.message}"


def _need_whole(settled: Settled) -> None:
    hint = "The live side holds everything. Let this volume be mirrored to its end, then restore again."
    if not settled.whole:
        message = "the volume has not been made equal to the live side under this restore"
        raise VolumeError(message, reason="TargetNotMirrored", hint=hint)
    if settled.doubt:
        raise VolumeError(settled.doubt, reason="TargetInDoubt", hint=hint)


def _remember(volume: TargetVolume, expect: Expectation) -> str:
    """Write the manifest; why that could not be done, empty when it was."""
    header = manifest.new_header(expect.pair_uid, expect.volume, expect.epoch, volume.view)
    try:
        selection = selection_of(expect.terms.rules) if expect.terms is not None else None
    except BadInput:
        selection = None  # nothing was ever mirrored under rules that cannot be meant
    scanner = manifest.scanner(volume.tree, volume.view, volume.distrust_after_ns, selection)
    try:
        manifest.write(volume.ours, header, manifest.parts_of(scanner))
    except OSError as e:
        return (
            f"what it held when it became the live side could not be written down ({e.strerror}): everything on the "
            "old side that differs from the live side will be kept aside when that is restored"
        )
    return ""


def _ours(volume: TargetVolume, expect: Expectation) -> Marker | None:
    """The marker, which must be this pair's and of no later epoch; None when there is none."""
    marker = volume.marker()
    if marker is None:
        return None
    if not is_ours(expect, marker):
        raise VolumeError(
            f"expected the copy of this pair, found that of the volume {marker.volume!r} of another pair "
            f"({marker.pair_uid})",
            reason="TargetOwnedByAnother",
            hint="Is the right volume mounted?",
        )
    if marker.epoch > expect.epoch:
        raise VolumeError(
            f"the target volume is of epoch {marker.epoch}, the order is of {expect.epoch}",
            reason="EpochTooOld",
            hint="A later failover or restore has used this volume: nothing is to be done here.",
        )
    return marker
