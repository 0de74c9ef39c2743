"""Whom a target lets in."""

from __future__ import annotations

from dataclasses import dataclass

from storagemirror import __version__
from storagemirror.contract import Role, TargetPolicy
from storagemirror.entry import Origin
from storagemirror.errors import BadInput, Held, Refused, StorageMirrorError, VolumeError, VolumeFull
from storagemirror.fs.marker import Marker, Synced
from storagemirror.fs.selection import selection_of
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from storagemirror.sync import guard
from storagemirror.sync.requests import Expectation
from storagemirror.terms import EXACT, Terms
from storagemirror.wire import messages as m
from storagemirror.wire.messages import HoldReason, RefusalReason

_EMPTY_HINT = "Empty it, or set spec.mirror.target to Adopt (by hand: --adopt) to make it equal to the source."


class NotAdmitted(Exception):
    """The source is refused; `answer` tells it why."""

    def __init__(self, reason: RefusalReason, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.answer = m.Refuse(reason, message, hint)

    def error(self) -> StorageMirrorError:
        """What it is to us: something about our volume, or about the source."""
        reason, message, hint = self.answer.reason.value, self.answer.message, self.answer.hint
        if self.answer.reason is RefusalReason.TARGET_FULL:
            return VolumeFull(message, hint=hint)
        kind = VolumeError if reason.startswith("Target") else Refused
        return kind(message, reason=reason, hint=hint)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The source is let in."""

    marker: Marker
    """As it is to be, once something is written."""
    stored: Marker | None
    """As it is on the volume."""
    has_entries: bool
    synced: Synced | None
    """The last sync of this copy; None: none, or the volume was the live side since."""
    terms: Terms
    """Both sides have agreed on."""
    same_volume: bool
    """Restore: this is the volume that the source is the copy of."""


def admit(volume: TargetVolume, expect: Expectation, hello: m.Hello, now_ns: int) -> Admitted:
    """Judge `hello`; on the way the volume is claimed. Raises `NotAdmitted`, or `Held` (SourceReplaced)."""
    check_hello(expect, hello)
    terms = agree(volume, expect, hello)
    try:
        stored = volume.marker()
        has_entries = not volume.is_empty()
        _check_ownership(expect, stored, has_entries=has_entries)
        volume.claim()
        stored = volume.marker()
        _check_ownership(expect, stored, has_entries=has_entries)
        _check_source(volume, expect, stored, hello, now_ns)
    except VolumeFull as e:
        raise NotAdmitted(RefusalReason.TARGET_FULL, e.message, e.hint) from e
    except VolumeError as e:
        reason = RefusalReason(e.reason) if e.reason in set(RefusalReason) else RefusalReason.TARGET_UNUSABLE
        raise NotAdmitted(reason, e.message, e.hint) from e
    except OSError as e:
        raise NotAdmitted(RefusalReason.TARGET_UNUSABLE, f"the target volume cannot be read: {e.strerror}") from e
    distrust(volume, stored)
    # What was the live side since has other entries than a comparison counted before that.
    lived = stored is not None and stored.promoted is not None
    lifetime = volume.lifetime
    marker = Marker(
        pair_uid=expect.pair_uid,
        volume=expect.volume,
        epoch=expect.epoch,
        source=hello.identity,
        entries=stored.entries if stored is not None and not lived and is_ours(expect, stored) else None,
        boot=lifetime.boot if stored is None or volume.distrust_after_ns is None else stored.boot,
        mount=lifetime.mount if stored is None or volume.distrust_after_ns is None else stored.mount,
        open=True,
    )
    doubt(volume)
    return Admitted(
        marker,
        stored,
        has_entries,
        synced=None if lived else volume.synced(),
        terms=terms,
        same_volume=hello.origin is not None and hello.origin.source.same_as(volume.identity),
    )


def check_hello(expect: Expectation, hello: m.Hello) -> None:
    """`NotAdmitted` when this is not the source that is expected."""
    if hello.version < m.OLDEST_VERSION:
        raise NotAdmitted(
            RefusalReason.VERSION_TOO_OLD, f"expected version {m.OLDEST_VERSION} or later, got {hello.version}"
        )
    if hello.version > m.PROTOCOL_VERSION:
        raise NotAdmitted(
            RefusalReason.VERSION_TOO_NEW, f"expected version {m.PROTOCOL_VERSION} or earlier, got {hello.version}"
        )
    if hello.role is not Role.SOURCE:
        raise NotAdmitted(RefusalReason.WRONG_ROLE, "expected a source")
    if hello.pair_uid != expect.pair_uid:
        raise NotAdmitted(RefusalReason.WRONG_PAIR, "this target serves another pair")
    if hello.volume != expect.volume:
        raise NotAdmitted(RefusalReason.WRONG_VOLUME, f"this target serves the volume {expect.volume!r}")
    if hello.instance < expect.least_instance:
        raise NotAdmitted(
            RefusalReason.SUPERSEDED,
            f"the source agent is number {hello.instance}, number {expect.least_instance} has taken over",
        )
    if hello.epoch < expect.epoch:
        raise NotAdmitted(
            RefusalReason.EPOCH_TOO_OLD, f"the source is of epoch {hello.epoch}, the pair is at {expect.epoch}"
        )
    if hello.epoch > expect.epoch:
        raise NotAdmitted(
            RefusalReason.EPOCH_TOO_NEW, f"the source is of epoch {hello.epoch}, this target knows {expect.epoch}"
        )
    if expect.restore is not None:
        _check_live_side(expect, hello)


def agree(volume: TargetVolume, expect: Expectation, hello: m.Hello) -> Terms:
    """The terms, which hold for the volume from now on; `NotAdmitted` where the two sides were told of other ones.

    Each knows them of the same order, which reaches one of them first: so this passes. A source of an older release
    knows of no terms."""
    terms = hello.terms if m.FEATURE_TERMS in hello.features else EXACT
    if expect.terms is not None and expect.terms != terms:
        if m.FEATURE_TERMS not in hello.features:
            raise NotAdmitted(
                RefusalReason.VERSION_TOO_OLD,
                f"the source agent ({hello.software or 'of an older release'}) knows nothing of rules and orphans",
                "Let the operator replace it with one of its own release.",
            )
        raise NotAdmitted(
            RefusalReason.TERMS_DIFFER,
            "the source mirrors under other rules, or another policy for orphans, than this target was told",
            "It passes when both agents have their new orders.",
        )
    try:
        volume.selection = selection_of(terms.rules)
    except BadInput as e:
        raise NotAdmitted(RefusalReason.TERMS_DIFFER, e.message, e.hint) from e
    return terms


def _check_live_side(expect: Expectation, hello: m.Hello) -> None:
    """Only from the copy that was made live is anything restored: a bare directory, or another volume under its claim,
    would else have all that is here put aside."""
    if m.FEATURE_MANIFEST not in hello.features:
        raise NotAdmitted(
            RefusalReason.VERSION_TOO_OLD,
            f"the source agent ({hello.software or 'of an older release'}) cannot tell what its volume held when it "
            "became the live side",
            "Let the operator replace the agent of the live side with one of its own release.",
        )
    origin = hello.origin
    if origin is None or (origin.pair_uid, origin.volume) != (expect.pair_uid, expect.volume):
        raise NotAdmitted(
            RefusalReason.SOURCE_NOT_PROMOTED,
            "expected the copy of this pair that was made the live side, found a volume that does not say so",
            "Is the right volume mounted on the live side, and may its agent read .storagemirror there?",
        )


def _check_ownership(expect: Expectation, marker: Marker | None, *, has_entries: bool) -> None:
    adopt = expect.options.policy is TargetPolicy.ADOPT
    if marker is None:
        if has_entries and not adopt:
            raise NotAdmitted(
                RefusalReason.TARGET_NOT_EMPTY, "the target volume holds files that no pair put there", _EMPTY_HINT
            )
        return
    if expect.options.once and marker.promoted is not None:
        raise NotAdmitted(
            RefusalReason.TARGET_NOT_EMPTY,
            f"the volume was handed over before, at epoch {marker.promoted}: somebody may use it",
            "Name another claim, or empty this one.",
        )
    if not adopt and not is_ours(expect, marker):
        raise NotAdmitted(
            RefusalReason.TARGET_OWNED_BY_ANOTHER,
            f"the target volume is the copy of the volume {marker.volume!r} of another pair ({marker.pair_uid})",
            "Give this pair a target of its own; or, if that other pair is gone, set spec.mirror.target to Adopt "
            "(by hand: --adopt) to make its copy into this pair's.",
        )
    if is_ours(expect, marker) and marker.promoted is not None and marker.promoted >= expect.epoch:
        raise NotAdmitted(
            RefusalReason.EPOCH_TOO_OLD,
            f"the target volume became the live side at epoch {marker.promoted}, this session is of {expect.epoch}",
        )
    if marker.epoch > expect.epoch:
        raise NotAdmitted(
            RefusalReason.EPOCH_TOO_OLD,
            f"the target volume was written at epoch {marker.epoch}, this session is of {expect.epoch}",
        )


def is_ours(expect: Expectation, marker: Marker) -> bool:
    """Whether the volume is the copy of the volume of the pair that is expected."""
    return (marker.pair_uid, marker.volume) == (expect.pair_uid, expect.volume)


def _check_source(
    volume: TargetVolume, expect: Expectation, marker: Marker | None, hello: m.Hello, now_ns: int
) -> None:
    if marker is None or not is_ours(expect, marker) or marker.source.same_as(hello.identity):
        return
    if _was_made_of(volume, expect, marker, hello.origin):
        return
    held = volume.hold()
    if held is None or held.reason != HoldReason.SOURCE_REPLACED.value or held.identity != hello.identity:
        held = guard.source_replaced(hello.identity, now_ns)
        volume.write_hold(held)
    if held.token == expect.confirm:
        return
    raise Held(
        f"the source is another file system than the one that was copied (now {hello.identity}, "
        f"before {marker.source}); nothing was changed",
        reason=HoldReason.SOURCE_REPLACED.value,
        token=held.token,
        hint="Is the right volume mounted? If it was replaced on purpose, write the token to spec.mirror.confirm "
        "(by hand: --confirm TOKEN).",
    )


def _was_made_of(volume: TargetVolume, expect: Expectation, marker: Marker, origin: Origin | None) -> bool:
    """Whether the source can show that a failover or a restore made it of this very volume, after anybody wrote here.

    Its claim was made anew meanwhile; so it is another file system, and no stranger. What was wiped shows nothing; what
    was made of this volume earlier than it was written last (an old snapshot) is not believed."""
    return (
        origin is not None
        and (origin.pair_uid, origin.volume) == (expect.pair_uid, expect.volume)
        and origin.source.same_as(volume.identity)
        and marker.epoch < origin.promoted <= expect.epoch
    )


def distrust(volume: TargetVolume, stored: Marker | None) -> None:
    """After a crash of the target's machine, what was not synced may be lost although it looks whole."""
    volume.distrust_after_ns = None
    if stored is None or not stored.open:
        return
    lifetime = volume.lifetime
    if (stored.boot, stored.mount) == (lifetime.boot, lifetime.mount):
        return
    synced = volume.synced()
    volume.distrust_after_ns = synced.at_ns if synced is not None else 0


def doubt(volume: TargetVolume) -> None:
    """What somebody else has changed on a copy that is kept by points may look as it should: the next mirror sends the
    files that they may have written, whatever their size and time. After `claim`."""
    since = volume.journal.changed_since_ns
    if since is not None:
        volume.distrust_after_ns = since if volume.distrust_after_ns is None else min(since, volume.distrust_after_ns)


def welcome(volume: TargetVolume, admitted: Admitted, manifest: int = 0) -> m.Welcome:
    """The answer to a source that is let in; `manifest`: what it held at that epoch is asked for, 0: nothing."""
    synced = admitted.synced
    # Of a volume that is restored nothing is gone on with: what is there is compared with what was.
    partial = volume.partial() if not manifest else None
    at, held = volume.journal.at, volume.journal.held
    lived = admitted.stored is not None and admitted.stored.promoted is not None
    return m.Welcome(
        version=m.PROTOCOL_VERSION,
        epoch=admitted.marker.epoch,
        view=volume.view,
        has_entries=admitted.has_entries,
        entries=admitted.marker.entries,
        synced_through_ns=synced.through_ns if synced is not None else 0,
        features=(*m.FEATURES, m.FEATURE_SELINUX) if volume.takes_labels else m.FEATURES,
        software=__version__,
        manifest=manifest,
        partial=partial[0] if partial is not None else b"",
        partial_size=partial[1] if partial is not None else 0,
        point=at.number if held is None else held.number,
        point_digest=MIRROR if lived else volume.journal.base if held is None else held.digest,
        point_at_ns=at.at_ns if held is None else held.at_ns,
        point_held=held is not None and not lived,
    )
