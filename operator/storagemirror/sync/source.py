"""The source's end of a session."""

from __future__ import annotations

import logging
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from storagemirror.clock import Clock, SystemClock
from storagemirror.contract import CompareBy, KeepOrder, Role, TransferOrder
from storagemirror.entry import Identity, NotKeptKind, Origin, printable
from storagemirror.errors import (
    Disconnected,
    Held,
    Passing,
    ProtocolError,
    Refused,
    StorageMirrorError,
    VolumeError,
    VolumeFull,
)
from storagemirror.fs.contents import nothing
from storagemirror.fs.scan import Scanner
from storagemirror.fs.selection import selection_of
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.xattrs import SELINUX
from storagemirror.sync.advice import about_reading, about_writing
from storagemirror.sync.asking import Asking
from storagemirror.sync.channel import GOODBYE_SECONDS, GREETING_SECONDS, Channel
from storagemirror.sync.deltas import Deltas
from storagemirror.sync.differing import Difference, Differing
from storagemirror.sync.drift import Drift
from storagemirror.sync.flagging import Flagging
from storagemirror.sync.groups import LinkGroups
from storagemirror.sync.inbox import Inbox, failure
from storagemirror.sync.left import LeftAlone, LeftTally
from storagemirror.sync.live import LiveChanges, without_newer
from storagemirror.sync.meter import Meter
from storagemirror.sync.mirroring import Comparison, Found
from storagemirror.sync.observer import Event, EventKind, NotKeptTally, Observer
from storagemirror.sync.pacer import Pacer
from storagemirror.sync.paths import frames_of
from storagemirror.sync.proving import Proving, Want, files_of
from storagemirror.sync.recalling import Recalling
from storagemirror.sync.renamed import Renamed
from storagemirror.sync.requests import Changes, MirrorOptions, MirrorResult
from storagemirror.sync.resend import resend
from storagemirror.sync.sender import Sender
from storagemirror.sync.settler import Settler
from storagemirror.sync.shifts import InVain
from storagemirror.sync.sizing import Size, Sizing
from storagemirror.sync.stream import Stream
from storagemirror.sync.sums import Summer
from storagemirror.terms import EXACT, OrphanPolicy, Terms
from storagemirror.wire import messages as m

if TYPE_CHECKING:
    from storagemirror.sync.pointmaker.line import SessionLine

log = logging.getLogger("storagemirror.agent")

WHOLE = (b"",)
_ANSWER_SECONDS = 0.01

_PASSING = {
    m.RefusalReason.TARGET_BUSY,
    m.RefusalReason.EPOCH_TOO_NEW,
    m.RefusalReason.TERMS_DIFFER,
}


def hello(
    pair_uid: str,
    volume: str,
    epoch: int,
    instance: int,
    identity: Identity,
    *,
    origin: Origin | None = None,
    look: bool = False,
    terms: Terms = EXACT,
) -> m.Hello:
    """How a source of this version introduces itself; `look`: it only compares."""
    from storagemirror import __version__

    return m.Hello(
        version=m.PROTOCOL_VERSION,
        role=Role.SOURCE,
        pair_uid=pair_uid,
        volume=volume,
        epoch=epoch,
        instance=instance,
        identity=identity,
        features=m.FEATURES,
        software=__version__,
        origin=origin,
        look=look,
        terms=terms,
    )


class SourceSession:
    """One connection to a target. Used from one thread; `close` may be called from any."""

    def __init__(
        self,
        volume: SourceVolume,
        stream: Stream,
        hello: m.Hello,
        observer: Observer,
        clock: Clock | None = None,
        *,
        keep: KeepOrder | None = None,
    ) -> None:
        """`BadInput` when the rules of `hello` cannot be meant."""
        volume.selection = selection_of(hello.terms.rules)
        self._volume = volume
        self._keep = keep if keep is not None else KeepOrder()
        self._hello = hello
        self._observer = observer
        self._clock = clock if clock is not None else SystemClock()
        self._channel = Channel(Role.SOURCE, stream, self._clock)
        self._inbox = Inbox(self._channel)
        self._reads = Pacer(self._clock)
        self._groups = LinkGroups()
        self._tally = NotKeptTally()
        self._sender: Sender | None = None
        self._deltas: Deltas | None = None
        self._welcome: m.Welcome | None = None
        self._marks = 0
        self._marking_ns = 0
        self._guarded = False
        self._failed = 0
        self._unread: set[int] = set()
        self._closing = False
        self._options = MirrorOptions()
        self._left = LeftTally()
        self._unknown_links: set[int] = set()
        self._links_elsewhere: set[int] = set()
        self._links_after = self._clock.monotonic()

    # -- the life of a session

    def handshake(self) -> None:
        """Introduce ourselves and be let in.

        Raises `Refused` (with the target's reason), `Held` (SourceReplaced), `Passing` (the target is not ready for
        us yet), `VolumeFull`, `Disconnected`, `ProtocolError`.
        """
        self._channel.send(msgspec.structs.replace(self._hello, now_ns=self._clock.now_ns()))
        answer = self._channel.receive(GREETING_SECONDS)
        match answer:
            case m.Welcome():
                self._let_in(answer)
            case m.Refuse():
                raise _refusal(answer)
            case m.Hold():
                raise Held(answer.message, reason=answer.reason.value, token=answer.token, hint=answer.hint)
            case _:
                raise ProtocolError(f"expected Welcome or Refuse, got {type(answer).__name__}")
        self._observer.event(Event(EventKind.CONNECTED))

    def _let_in(self, welcome: m.Welcome) -> None:
        if not m.OLDEST_VERSION <= welcome.version <= m.PROTOCOL_VERSION:
            raise ProtocolError(
                f"expected version {m.OLDEST_VERSION} to {m.PROTOCOL_VERSION}, the target says {welcome.version}"
            )
        if self._hello.look and m.FEATURE_VERIFY not in welcome.features:
            raise Refused(
                f"the target ({welcome.software or 'of an older release'}) cannot be looked at without writing",
                reason=m.RefusalReason.VERSION_TOO_OLD.value,
                hint="Both sides need this release.",
            )
        if self._hello.terms != EXACT and m.FEATURE_TERMS not in welcome.features:
            raise Refused(
                "the target agent is of an older release: it knows nothing of rules and orphans",
                reason="PeerTooOld",
                hint="Let it be replaced with one of this release.",
            )
        view = msgspec.structs.replace(
            welcome.view,
            selinux=self._keep.selinux and m.FEATURE_SELINUX in welcome.features,
            access_times=self._keep.access_times and m.FEATURE_FLAGS in welcome.features,
        )
        self._welcome = welcome = msgspec.structs.replace(welcome, view=view)
        if m.FEATURE_COMPRESS in welcome.features:
            self._channel.agree()
        self._sender = Sender(self._channel, self._volume, welcome.view, self._not_kept, lambda files, size: None)
        self._sender.unread = self._on_unread
        if m.FEATURE_FLAGS in welcome.features:
            through, flagged = welcome.flags_through_ns, welcome.flagged
            self._sender.flagging = Flagging(self._channel.send, self._sender.flush, through, flagged)
        able, in_vain = m.FEATURE_DELTA in welcome.features, InVain(self._clock)
        self._deltas = Deltas(self._sender, self._inbox, able, in_vain, welcome.partial, welcome.partial_size)
        threading.Thread(target=self._inbox.run, name="receiver", daemon=True).start()
        self._channel.start_ticking()

    def recall(self) -> None:
        """Tell what our volume held when it was promoted, where the target asks for it: it takes nothing else before,
        and keeps aside what deviates. Raises as `mirror`."""
        with self._explained():
            sender, welcome = self._ready()
            if not welcome.manifest:
                return
            self._volume.check_identity()
            recalling = Recalling(self._volume, welcome.manifest, sender.view, self._channel.send)
            recalling.tell_all()
            recalling.tell_wanted(self._inbox.recalled)
            kept = self._inbox.kept()
            self._hear()
            log.info("the target has kept aside %d entries, %d bytes", kept.entries, kept.bytes)

    def govern(self, transfer: TransferOrder) -> None:
        """How what is sent is sent: for any thread, before and after `handshake`, at any time. `BadInput` when it
        names a time or a zone that there is not."""
        self._channel.govern(transfer)
        limit = transfer.read_limit
        self._reads.govern(lambda: limit)
        self._volume.reading.before = None if limit is None else self._reads.take

    @property
    def wire_bytes(self) -> int:
        """Sent so far, headers included, before TLS."""
        return self._channel.wire_bytes

    @property
    def not_kept(self) -> NotKeptTally:
        """Since the last full mirror began."""
        return self._tally

    @property
    def left(self) -> tuple[LeftAlone, ...]:
        """What was left as it is on the target, since the last full mirror began."""
        return self._left.counts()

    def ping(self) -> None:
        """Raise what has gone wrong since the last call, a dead peer above all. Cheap: call it every second when
        there is nothing else to do. (The connection is kept alive, and its death noticed, without it.)"""
        with self._explained():
            self._hear()
            self._after_guard()
            self._find_links()

    def beat(self, interval_seconds: float) -> None:
        """Be heard by the target at least this often. For any thread."""
        self._channel.beat(interval_seconds)

    def leave(self) -> None:
        """Say goodbye, whatever is going on, and do no more: whoever works in this session gets `Disconnected`. For
        any thread; takes at most as long as a goodbye may."""
        self._reads.lift()
        # In a thread of its own: a target that takes nothing would keep us from ending.
        goodbye = threading.Thread(target=self._channel.leave, name="goodbye", daemon=True)
        goodbye.start()
        goodbye.join(2 * GOODBYE_SECONDS)
        self._inbox.fail(Disconnected("the session was closed"))

    def close(self) -> None:
        """End in good order where that is still possible; never raises."""
        if self._closing:
            return
        self._closing = True
        self.leave()
        self._channel.close()

    # -- work

    @property
    def disturbed(self) -> int:
        """So often the target has said that somebody else has changed it. It only grows."""
        return self._inbox.disturbed

    def mirror(self, options: MirrorOptions) -> MirrorResult:
        """One full comparison, and all that follows from it. Blocks; progress goes to the observer.

        Raises `Held` (MassDelete: everything was sent, nothing was deleted), `VolumeFull` (what needed no room was
        done), `VolumeError` (the target's disk fails or is read-only; or our own volume has gone), `Disconnected`.
        """
        with self._explained():
            return self._mirror(options)

    def _mirror(self, options: MirrorOptions) -> MirrorResult:
        sender, welcome = self._ready()
        self._options = options
        self._volume.check_identity()
        self._observer.event(Event(EventKind.MIRROR_STARTED))
        self._tally.clear()
        self._left.clear()
        if self._keep.selinux and not welcome.view.selinux:
            self._not_kept(NotKeptKind.XATTR, SELINUX)
        if self._keep.access_times and not welcome.view.access_times:
            self._not_kept(NotKeptKind.TIMES, b"")
        started = self._clock.now_ns()
        if options.sync_source:
            self._volume.sync()
        before, spared = self._channel.wire_bytes, self._channel.spared_bytes
        counts = sender.counts
        files, size, metadata, links = counts.files, counts.bytes, counts.metadata, counts.links
        self._groups = LinkGroups()
        sender.unsettled.clear()
        self._failed = 0
        self._unread.clear()
        drift = self._drift(options)
        comparison, answer = self._compare(WHOLE, drift)
        moved = answer.moved
        if comparison.full and answer.deleted:
            comparison, answer = self._compare(WHOLE, drift)  # there is room now
            moved += answer.moved
        self._left.orphans, self._left.first_orphans = answer.orphans, answer.first_orphans
        differing = self._check() if options.compare is CompareBy.CHECKSUM and welcome.has_entries else 0
        self._guarded = False
        more = f" (the first of {answer.failed:,} entries that could not be written)" if answer.failed > 1 else ""
        self._raise_failure(answer.reason, answer.message + more)
        self._volume.check_identity()
        self._welcome = msgspec.structs.replace(
            welcome, has_entries=True, entries=comparison.found.entries, manifest=0, partial=b"", capacity=0
        )
        self._observer.event(Event(EventKind.MIRROR_ENDED))
        return MirrorResult(
            started_ns=started,
            ended_ns=self._clock.now_ns(),
            entries=comparison.found.entries,
            bytes_total=comparison.found.bytes,
            files_sent=counts.files - files,
            bytes_sent=counts.bytes - size,
            metadata_sent=counts.metadata - metadata,
            links_sent=counts.links - links,
            deleted=answer.deleted,
            wire_bytes=self._channel.wire_bytes - before,
            spared_bytes=self._channel.spared_bytes - spared,
            failed=self._failed,
            unread=len(self._unread),
            not_kept=self._tally.counts(),
            left_alone=self._left.counts(),
            moved_aside=moved,
            differing=differing,
            drifted=drift.count if drift is not None else 0,
            drifted_first=tuple(drift.paths) if drift is not None else (),
            late_first=tuple(drift.late) if drift is not None else (),
        )

    def _drift(self, options: MirrorOptions) -> Drift | None:
        if options.settled_ns is None:
            return None
        terms = self._hello.terms
        exact = terms.orphans is OrphanPolicy.DELETE and not terms.keeps and not terms.older_than_seconds
        return Drift(options.settled_ns, exact, late_before_ns=options.late_before_ns)

    def apply(self, changes: Changes) -> None:
        """Bring the target up to what the source is now at the paths named. Returns once it is sent; `mark` waits.

        Raises as `mirror` does."""
        with self._explained():
            self._apply(changes)

    def _apply(self, changes: Changes) -> None:
        sender, welcome = self._ready()
        self._hear()
        self._after_guard()
        self._volume.check_identity()
        if b"" in changes.trees:
            self.mirror(self._options)
            return
        scanner = self._volume.scanner(welcome.view, self._not_kept)
        live = LiveChanges(self._inbox, sender, scanner, self._groups, self._sending_deltas())
        live.on_newer = self._on_newer
        live.strangers_known = self._links_elsewhere
        live.wait_for_links = self._clock.monotonic() >= self._links_after
        trees = live.apply(changes)
        for part in frames_of(list(trees)):
            self._groups.seen.clear()
            _, answer = self._compare(tuple(part))
            self._raise_failure(answer.reason, answer.message)
            live.linked(self._groups.seen)
            live.parents_of(tuple(part))
        self._unknown_links |= live.strangers
        sender.flush()
        if sender.flagging is not None:
            sender.flagging.tell()
        self._find_links()

    def mark(self, through_ns: int) -> None:
        """Return when all that was sent before is applied and durable on the target: `syncfs`, not only written.

        `through_ns` (nanoseconds since the Unix epoch, this side's clock) is remembered there. Raises as `mirror`.
        """
        self.begin_mark(through_ns)
        while not self.marked(None):
            pass

    def begin_mark(self, through_ns: int) -> None:
        """As `mark`, but do not wait: `marked` tells when it is so. What is sent meanwhile is for the next mark."""
        with self._explained():
            self._begin_mark(through_ns)

    def _begin_mark(self, through_ns: int) -> None:
        sender, _ = self._ready()
        Settler(sender, self._clock).settle(resend=False)
        sender.flush()
        self._marks += 1
        self._marking_ns = through_ns
        self._inbox.expect_mark(self._marks)
        self._channel.send(m.Mark(self._marks, through_ns))

    def marked(self, seconds: float | None) -> bool:
        """Whether all that was sent before the last `begin_mark` is durable on the target; at most so long is waited
        for that, None: as long as it takes. Raises as `mirror`."""
        with self._explained():
            answer = self._inbox.marked(self._marks, seconds)
            if answer is None:
                return False
            self._hear()
            self._raise_failure(answer.reason, answer.message)
            if self._after_guard():
                self._begin_mark(self._marking_ns)
                return False
            self._observer.event(Event(EventKind.MARKED, through_ns=self._marking_ns))
            return True

    # -- points

    @property
    def can_tell_points(self) -> bool:
        """Whether the target keeps a journal of points."""
        return self._welcome is not None and m.FEATURE_POINTS in self._welcome.features

    def line(self) -> SessionLine:
        """For the engine of points (`sync.pointmaker`). Nothing else may be asked of this session within a point."""
        # A mirror by hand makes no points, and need not wait for the engine of them.
        from storagemirror.sync.pointmaker.line import SessionLine

        sender, welcome = self._ready()
        sender.flush()
        return SessionLine(self._channel, self._inbox, sender.view, self._not_kept, welcome)

    # -- a proof

    @property
    def can_prove(self) -> bool:
        """Whether the target can tell sums."""
        return self._welcome is not None and m.FEATURE_SUMS in self._welcome.features

    @property
    def asking(self) -> Asking:
        """Where sums are asked for. Raises what has gone wrong since the last call."""
        self._inbox.check()
        return self._inbox.asking

    def summer(self) -> Summer:
        """Reads our own files as the target reads its."""
        _, welcome = self._ready()
        return Summer(self._volume.tree, welcome.view, self._volume.reading)

    def wait(self, seconds: float) -> None:
        """Until the target has answered what was asked, at most so long. Raises as `ping`."""
        with self._explained():
            self._inbox.pause(seconds)

    def differences(self, found: Callable[[Difference], None]) -> Found:
        """Compare everything by names, sizes, times and attributes, and send nothing; what the source has in all.
        `found` is told of each difference. Raises as `mirror`."""
        with self._explained():
            _, welcome = self._ready()
            self._volume.check_identity()
            differing = Differing(
                self._inbox, self._channel, self._volume.scanner(welcome.view, self._not_kept), welcome, found
            )
            seen = differing.run()
            self._hear()
            return seen

    def size(self, compare: CompareBy) -> Size:
        """What a mirror would cost; sends nothing. For a session that said it would only look. Raises as `mirror`."""
        with self._explained():
            _, welcome = self._ready()
            self._volume.check_identity()
            began = self._clock.monotonic()
            sizing = Sizing(compare)
            scanner = self._volume.scanner(welcome.view, self._not_kept)
            differing = Differing(self._inbox, self._channel, scanner, welcome, lambda difference: None)
            differing.absent, differing.listed, differing.doomed = sizing.absent, sizing.listed, sizing.doomed
            found = differing.run()
            took = self._clock.monotonic() - began
            self._hear()
            answer = differing.answer
            return Size(
                entries=found.entries,
                bytes_total=found.bytes,
                new_files=sizing.new_files,
                new_bytes=sizing.new_bytes,
                changed_files=sizing.changed_files,
                changed_bytes=sizing.changed_bytes,
                others=sizing.others,
                metadata=sizing.metadata,
                deleted=differing.cleared,
                left_alone=sizing.left(answer.orphans, answer.first_orphans),
                not_kept=self._tally.counts(),
                compare_seconds=took,
                estimated_seconds=took + sizing.seconds(self._volume, self._clock),
            )

    def is_file(self, path: bytes) -> bool:
        """Whether a regular file is there now, on this file system."""
        found = self._volume.tree.lstat(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def resend(self, paths: list[bytes]) -> None:
        """Send these files whole, whatever the target has. Raises as `apply`."""
        with self._explained():
            sender, _ = self._ready()
            self._volume.check_identity()
            resend(sender, self._groups, paths)

    def owed(self, paths: list[bytes]) -> list[bytes]:
        """Those of these files that the target is to have as they are here: it may keep newer ones of its own. Raises
        as `apply`."""
        if self._on_newer is None or not paths:
            return paths
        with self._explained():
            sender, welcome = self._ready()
            sender.flush()
            return without_newer(self._inbox, sender.volume, welcome.view, paths, self._on_newer)

    # -- parts

    def _check(self) -> int:
        """CompareBy every file by its content; how many differed although nothing showed it. Those are sent."""
        sender, _ = self._ready()
        self.asking.begin()
        proving = Proving(self, lambda path, found: False, to_the_end=True)
        for want in proving.run(files_of(self._volume.tree, lambda path, found: True, self._volume.selection)):
            sender.flush()
            if want is Want.WAIT:
                self._inbox.pause(_ANSWER_SECONDS)
        for path in proving.left:
            self._not_kept(NotKeptKind.CHANGING, path)
        self._hear()
        return proving.differing

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """When the connection breaks while we send: say what the target had said before, if it had."""
        try:
            yield
        except OSError as e:
            raise VolumeError(f"the source volume fails: {e.strerror}", reason="SourceNotReadable") from e
        except Disconnected as e:
            error = self._inbox.explain(e)
            if error is e:
                raise
            raise error from e

    def _ready(self) -> tuple[Sender, m.Welcome]:
        if self._sender is None or self._welcome is None:
            raise AssertionError("handshake first")
        self._inbox.check()
        return self._sender, self._welcome

    @property
    def compared_bytes(self) -> int:
        """Of large files, that were looked at for what differs since the session began."""
        return self._deltas.read if self._deltas is not None else 0

    def _sending_deltas(self) -> Deltas:
        if self._deltas is None:
            raise AssertionError("handshake first")
        return self._deltas

    def _finding_renames(self) -> Renamed | None:
        sender, welcome = self._ready()
        terms = self._hello.terms
        goes = terms.orphans is OrphanPolicy.DELETE and not terms.keeps  # else what is orphaned stays under its name
        if m.FEATURE_MOVE not in welcome.features or not goes:
            return None
        seen = sender.flagging.seen if sender.flagging is not None else nothing
        scanner = Scanner(self._volume.tree, welcome.view, selection=self._volume.selection)
        return Renamed(self._inbox, scanner, seen)

    def _compare(self, scopes: tuple[bytes, ...], drift: Drift | None = None) -> tuple[Comparison, m.Mirrored]:
        sender, welcome = self._ready()
        full = scopes == WHOLE
        has_entries = welcome.has_entries or not full
        meter = Meter(self._clock, self._observer.progress, lambda: self._channel.wire_bytes)
        sender.sent = meter.done
        if full and welcome.capacity:
            meter.room = welcome.capacity if has_entries else welcome.free
            meter.too_large = self._too_large
        self._inbox.expect_mirror(digests=has_entries)
        self._channel.send(m.Mirror(welcome.view, scopes, has_entries, full and self._options.follows))
        scanner = self._volume.scanner(welcome.view, self._not_kept, self._groups)
        flagging, started = sender.flagging, self._clock.now_ns()
        if flagging is not None:
            scanner.changed_since_ns = flagging.since_ns
        comparison = Comparison(
            self._inbox,
            sender,
            scanner,
            self._groups,
            self._clock,
            has_entries,
            self._sending_deltas(),
            self._on_failed,
            self._on_newer,
            self._finding_renames() if full and has_entries else None,
            drift,
        )
        try:
            meter.count(self._volume.tree, scopes, self._volume.selection)
            comparison.run(scopes)
            self._volume.check_identity()
            if flagging is not None and full:
                flagging.told_through(started)
            self._channel.send(m.MirrorEnd(comparison.found.entries, full))
            answer = self._inbox.mirrored()
            self._hear()
        except BaseException:
            meter.abandon()
            raise
        finally:
            sender.sent = lambda files, size: None
        meter.finish(comparison.found.entries, comparison.found.bytes)
        return comparison, answer

    def _not_kept(self, kind: NotKeptKind, path: bytes) -> None:
        self._tally.add(kind, path)
        self._observer.not_kept(kind, path)

    @property
    def _on_newer(self) -> Callable[[bytes], None] | None:
        return self._left.is_newer if self._options.compare is CompareBy.NEWER else None

    def _find_links(self) -> None:
        """A file got a further name, and we do not know the one it had: everything is compared, to find it. (Content
        is right already.) That takes at most a tenth of the time; else it waits."""
        if not self._unknown_links or self._clock.monotonic() < self._links_after:
            return
        began = self._clock.monotonic()
        self._mirror(self._options)
        self._links_after = self._clock.monotonic() + 9 * (self._clock.monotonic() - began)
        # Who still has names that we do not know has them outside of the volume's tree: not looked for again.
        self._links_elsewhere |= self._unknown_links
        self._unknown_links.clear()

    def _hear(self) -> None:
        """Pass on what the target could not do; raise what has gone wrong."""
        for report in self._inbox.reports():
            if isinstance(report, m.NotKept):
                self._not_kept(report.kind, report.path)
            else:
                self._on_failed(report)
        self._inbox.check()

    def _on_failed(self, report: m.Failed) -> None:
        if report.reason is m.FailureReason.GUARDED:
            self._guarded = True
            return
        self._failed += 1
        detail = f"{printable(report.path)}: {report.reason.value}: {report.message}"
        self._observer.event(Event(EventKind.FAILED_ENTRY, detail, hint=about_writing(report.reason)))
        if failure(report.reason, report.message) is None:
            self._not_kept(NotKeptKind.REFUSED, report.path)

    def _too_large(self, needed: int, room: int) -> None:
        there = "has in all" if self._ready()[1].has_entries else "has free"
        detail = f"the source takes {needed:,} bytes, the target {there} {room:,}: it will be full before all is there"
        log.warning("%s", detail)
        self._observer.event(Event(EventKind.SHORT_OF_SPACE, detail))

    def _on_unread(self, path: bytes, error: OSError) -> None:
        mark = hash(path)
        if mark in self._unread:
            return
        self._unread.add(mark)
        detail = f"{printable(path)}: {error.strerror or error}"
        self._observer.event(Event(EventKind.UNREAD_ENTRY, detail, hint=about_reading(error)))

    def _after_guard(self) -> bool:
        """The target's guard kept a live deletion from happening: a full comparison tells what all is to go, so that
        the hold names all of it; or lets it through, when it is not so much after all."""
        if not self._guarded:
            return False
        self._guarded = False
        self.mirror(self._options)
        return True

    @staticmethod
    def _raise_failure(reason: m.FailureReason | None, message: str) -> None:
        if reason is None:
            return
        error = failure(reason, message)
        if error is not None:
            raise error


def _refusal(answer: m.Refuse) -> StorageMirrorError:
    if answer.reason is m.RefusalReason.TARGET_FULL:
        return VolumeFull(answer.message, hint=answer.hint)
    kind = Passing if answer.reason in _PASSING else Refused
    return kind(answer.message, reason=answer.reason.value, hint=answer.hint)
