"""The target's end of a session."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec

from storagemirror.clock import Clock, SystemClock
from storagemirror.contract import Role
from storagemirror.entry import NotKeptKind, View, printable
from storagemirror.errors import (
    Disconnected,
    Held,
    ProtocolError,
    StorageMirrorError,
    VolumeError,
    VolumeFull,
)
from storagemirror.fs.journal.others import Changed
from storagemirror.fs.scan import Scanner
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.admission import Admitted, NotAdmitted, admit, welcome
from storagemirror.sync.ahead import AHEAD, Ahead
from storagemirror.sync.answers import listing, looked
from storagemirror.sync.applier import Applier
from storagemirror.sync.bases import Bases
from storagemirror.sync.channel import GREETING_SECONDS, Channel
from storagemirror.sync.deletions import Deletions
from storagemirror.sync.disturbed import Disturbances
from storagemirror.sync.durability import Durability
from storagemirror.sync.inbox import aborted
from storagemirror.sync.keeping import Keeping, is_kept
from storagemirror.sync.knownsums import KnownSums
from storagemirror.sync.lacking import Lacking
from storagemirror.sync.looking import Looking
from storagemirror.sync.moving import move_all
from storagemirror.sync.observer import Event, EventKind, Observer
from storagemirror.sync.points import Points
from storagemirror.sync.requests import Expectation
from storagemirror.sync.sparing import Sparing
from storagemirror.sync.stream import Stream
from storagemirror.sync.summing import Summing
from storagemirror.sync.walker import Walker
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Event as WireEvent
from storagemirror.wire.content import Data, Pack, Told

_BESIDE_HELD = (m.Point, Told, m.PointEnd, m.PointRelease, m.Mark, m.Bye, m.Abort)
"""What neither changes the volume nor asks what is in it, or settles the point that is held back by itself."""
_ABORTS = {"TargetNotWritable": m.FailureReason.READ_ONLY, "NotKeptAside": m.FailureReason.DENIED}


class TargetSession:
    """Serves one connection, until it ends. `close` may be called from any thread."""

    def __init__(
        self,
        volume: TargetVolume,
        stream: Stream,
        expect: Expectation,
        observer: Observer,
        clock: Clock | None = None,
        *,
        sync_at_end: bool = True,
        known: KnownSums | None = None,
    ) -> None:
        """`known`: of this volume's large files, from session to session; None: each is read when it is asked about."""
        self._volume = volume
        self._known = known
        self._expect = expect
        self._observer = observer
        self._clock = clock if clock is not None else SystemClock()
        # One is dealt with, and one has come while those that wait are kept.
        self._channel = Channel(Role.TARGET, stream, self._clock, ahead=AHEAD + 2)
        self._ahead = Ahead(self._channel)
        self._sync_at_end = sync_at_end
        self._admitted: Admitted | None = None
        self._walker: Walker | None = None
        self._scanner: Scanner | None = None
        self._view: View | None = None
        """As the source compares; known when it has begun to."""
        self._summing: Summing | None = None
        self._bases = Bases(volume.tree, self._channel.send, volume.open_partial, self._known)
        self._keeping: Keeping | None = None
        self._whole = False
        self._marking: tuple[m.Marked, int | None] | None = None
        """The answer to a mark that is being made durable, and up to when the target has everything then; None: as
        before."""
        self._synced = False
        """The sync of a mark has ended."""
        self._disturbances: Disturbances | None = None
        self.noted: Callable[[Changed], None] = lambda changed: None
        """Told what others have changed once the volume knows of it."""
        self.goodbye = False
        """The source has said that it goes."""

    @property
    def source_ns(self) -> int | None:
        """What the source's clock said when it was last heard: nanoseconds since the Unix epoch."""
        return self._channel.heard_ns()

    def quiet_seconds(self) -> float:
        """For how long nothing has come of the source. For any thread, also after the end."""
        return self._channel.quiet_seconds()

    def finish(self) -> None:
        """Apply what has come whole, and end: `serve` raises `Disconnected` then. For any thread."""
        self._channel.finish()

    def others_changed(self) -> None:
        """Somebody else has changed the volume. While changes follow the source is told, and compares; else as
        `finish`. For any thread."""
        disturbances = self._disturbances
        if disturbances is None or not disturbances.follows:
            self.finish()
            return
        disturbances.found()
        self._ahead.nudge()

    def serve(self) -> None:
        """Returns when the source has said goodbye.

        Raises `Disconnected`, `ProtocolError`, `VolumeError` (also when the source was refused for the sake of the
        volume: TargetNotEmpty, TargetOwnedByAnother, TargetNotWritable, TargetBusy ...), `Refused` (when it was
        refused for its own), `Held`, `VolumeFull`. The session is closed then.
        """
        self._volume.report = self._report
        try:
            hello = self._channel.receive(GREETING_SECONDS)
            if not isinstance(hello, m.Hello):
                raise ProtocolError(f"expected Hello, got {type(hello).__name__}")
            if hello.look:
                self._look(hello)
                return
            self._admit(hello)
            self._ahead.start()
            while self._next():
                pass
            self._finish()
        except Disconnected:
            self._finish()  # what came before it stays, and is nobody's to doubt
            raise
        except Held as held:
            with contextlib.suppress(StorageMirrorError):
                self._finish()  # what was deleted before the hold counts on in the next session
            self._say(m.Hold(m.HoldReason(held.reason), held.message, held.token, held.hint))
            self._observer.event(Event(EventKind.HELD, held.message))
            raise
        except NotAdmitted as refused:
            self._say(refused.answer)
            raise refused.error() from refused
        except ProtocolError as e:
            self._say(m.Abort(m.FailureReason.PROTOCOL, e.message))
            raise
        except OSError as e:
            self._say(m.Abort(m.FailureReason.IO, f"the target volume fails: {e.strerror}"))
            raise VolumeError(f"the target volume fails: {e.strerror}", reason="TargetFailing") from e
        except VolumeFull as e:
            self._say(m.Abort(m.FailureReason.FULL, e.message))
            raise
        except VolumeError as e:
            self._say(m.Abort(_ABORTS.get(e.reason, m.FailureReason.IO), e.message))
            raise
        finally:
            self._end()

    def close(self) -> None:
        """End it: whoever is in `serve` gets `Disconnected`."""
        self._channel.close()

    def _say(self, message: m.Message) -> None:
        try:
            self._channel.send(message)
            self._ahead.last_word()
        except (StorageMirrorError, AssertionError):
            return  # there is nobody left to tell

    def _end(self) -> None:
        self._channel.close()
        self._ahead.stop()
        if self._walker is not None:
            self._walker.stop()
        if self._summing is not None:
            self._summing.stop()
        self._bases.stop()
        if self._keeping is not None:
            self._keeping.close()
        if self._admitted is not None:
            self._applier.leave()
            self._points.close()
            if self._applier.sparing is not None:
                self._applier.sparing.close()
            self._deletions.orphans.close()
            self._durability.join()

    # -- letting in

    def _admit(self, hello: m.Hello) -> None:
        admitted = admit(self._volume, self._expect, hello, self._clock.now_ns())
        synced = admitted.synced
        self._deletions = Deletions(
            self._volume,
            self._expect.options.max_delete_percent,
            self._expect.confirm,
            admitted.marker.entries,
            self._clock.now_ns,
            admitted.terms,
        )
        if synced is not None and admitted.marker.entries is not None:
            self._deletions.go_on(synced.deleted, synced.base)
        self._applier = Applier(self._volume, self._deletions, self._channel.send, known=self._known)
        self._durability = Durability(self._volume, admitted, self._applier, self._deletions, self._clock)
        self._admitted = admitted
        self._lacking = Lacking(self._volume, self._applier, admitted, self._report)
        self._points = Points(
            self._volume,
            admitted,
            self._deletions,
            self._durability,
            holds=m.FEATURE_HOLD in hello.features,
            send=self._channel.send,
            observer=self._observer,
        )
        self._points.let_in()
        restore = self._expect.restore
        self._disturbances = Disturbances(
            self._volume, admitted.terms, self._channel.send, self.noted, restoring=restore is not None
        )
        self._disturbances.let_in()
        if restore is not None and is_kept(self._volume, restore) is None:
            self._keeping = Keeping(self._volume, restore, self._clock, same_volume=admitted.same_volume)
        elif restore is not None:
            self._applier.sparing = Sparing(self._volume, restore)
        asked = restore.epoch if restore is not None and self._keeping is not None else 0
        if m.FEATURE_COMPRESS in hello.features:
            self._channel.agree()
        self._channel.send(self._lacking.told(welcome(self._volume, admitted, asked)))
        self._channel.start_ticking()
        self._observer.event(Event(EventKind.CONNECTED, instance=hello.instance))

    def _look(self, hello: m.Hello) -> None:
        """A source that only compares."""
        looking = Looking(self._volume, self._expect, self._channel)
        try:
            looking.serve(hello)
            self.goodbye = True
        finally:
            looking.stop()

    def _report(self, kind: NotKeptKind, path: bytes) -> None:
        self._observer.not_kept(kind, path)
        self._channel.send(m.NotKept(kind, path))

    # -- one event

    def _next(self) -> bool:
        """Wait for what is next, and do it; False when that was all."""
        event = self._ahead.receive()
        if event is not None:
            with self._disturbed.writing():
                return self._take(event)
        self._disturbed.take()
        if self._synced:
            self._end_mark()
        return True

    @property
    def _disturbed(self) -> Disturbances:
        if self._disturbances is None:
            raise AssertionError("nobody was let in")
        return self._disturbances

    def _take(self, event: WireEvent) -> bool:
        """Do what the source says; False when that was all."""
        if self._keeping is not None and not isinstance(event, (m.Bye, m.Abort)):
            self._keep(self._keeping, event)
            return True
        if self._points.held and not isinstance(event, _BESIDE_HELD):
            self._points.settle()
        match event:
            case Told():
                self._points.told(event)
            case Data() if self._points.coming:
                self._points.data(event)
            case m.Hole() if self._points.coming:
                self._points.hole(event)
            case m.Drop() if self._points.coming:
                self._points.drop()
            case m.Point():
                self._disturbed.follows = False
                self._points.begin(event)
            case m.PointEnd():
                self._points.end(event)
            case m.PointRelease():
                self._points.release(event)
            case Pack():
                self._before_change()
                self._applier.pack(event)
            case Data():
                self._applier.data(event)
            case m.Begin():
                self._before_change()
                self._applier.begin(event)
            case m.Delta():
                self._before_change()
                self._applier.delta(event, self._bases.take(event.number))
            case m.Hole():
                self._applier.hole(event)
            case m.Copy():
                self._applier.copy(event)
            case m.End():
                self._applier.end(event)
            case m.Drop():
                self._applier.drop()
            case m.Link():
                self._before_change()
                self._applier.link(event)
            case m.Rename():
                self._before_change()
                self._applier.rename(event)
            case m.Moves():
                self._before_change()
                self._applier.changed = True
                self._channel.send(move_all(self._volume, self._deletions, event))
            case m.Delete():
                self._before_change()
                self._applier.delete(event)
            case m.Flags():
                self._before_change()
                self._lacking.flags(event)
            case m.Bye():
                self._end_mark()
                self.goodbye = True
                return False
            case _:
                self._take_question(event)
        self._durability.maybe_checkpoint()
        return True

    def _before_change(self) -> None:
        self._points.before_change(follows=self._disturbed.follows)
        self._durability.before_change()

    def _keep(self, keeping: Keeping, event: WireEvent) -> None:
        """Nothing is written, and nothing is compared, before what deviates is kept aside."""
        match event:
            case m.Manifest():
                keeping.begin(event)
                self._applier.changed = True
                self._before_change()
            case m.ManifestDigests():
                keeping.digests(event, self._channel.send)
            case m.ManifestPart():
                keeping.part(event)
            case m.ManifestEnd():
                record = keeping.end()
                keeping.close()
                self._keeping = None
                if self._expect.restore is not None:
                    self._applier.sparing = Sparing(self._volume, self._expect.restore)
                self._observer.event(Event(EventKind.KEPT))
                self._channel.send(m.Kept(record.entries, record.bytes, record.deleted))
            case _:
                raise ProtocolError(
                    f"{type(event).__name__} is not taken before the source has told what its volume held when it was "
                    "promoted"
                )

    def _take_question(self, event: WireEvent) -> None:
        match event:
            case m.Mirror():
                self._begin_mirror(event)
            case m.Credit() if self._walker is not None:
                self._walker.credit(event.frames)
            case m.Want():
                for path in event.directories:
                    for answer in listing(self._scanning(), path):
                        self._channel.send(answer)
            case m.Look():
                self._channel.send(looked(self._scanning(), event.paths))
            case m.Doomed():
                self._deletions.announce(event.paths, in_the_way=event.in_the_way)
                if event.last:
                    self._channel.send(m.Cleared(self._deletions.clear(self._base(event.remaining))))
            case m.Blocks() | m.LetGo():
                self._bases.hear(event)
            case m.MirrorEnd():
                self._end_mirror(event)
            case m.FlagsTold():
                self._lacking.told_through_ns = event.through_ns
            case m.Mark():
                self._mark(event)
            case m.Sum() | m.Tally() | m.Examine():
                if self._summing is None:
                    self._summing = Summing(self._volume.tree, self._view or self._volume.view, self._channel.send)
                self._summing.take(event)
            case m.Abort():
                self.goodbye = True
                raise aborted(event)
            case _:
                raise ProtocolError(f"{type(event).__name__} was not expected here")

    def _scanning(self) -> Scanner:
        if self._scanner is None:
            self._scanner = self._volume.scanner(self._view if self._view is not None else self._volume.view)
        return self._scanner

    # -- a mirror

    def _begin_mirror(self, message: m.Mirror) -> None:
        self._observer.event(Event(EventKind.MIRROR_STARTED))
        if self._walker is not None:
            self._walker.stop()
        self._whole = message.scopes == (b"",)
        if self._whole:
            self._points.mirroring(follows=message.follows)
            self._disturbed.mirroring(follows=message.follows)
            self._applier.forget_failures()
        self._applier.live = not self._whole
        self._deletions.begin_mirror()
        self._deletions.orphans.begin(whole=self._whole)
        self._view = _within(message.view, self._volume)
        self._volume.placer.look_with(self._view)
        self._scanner = self._volume.scanner(self._view)
        self._walker = Walker(self._scanner, message.scopes, self._channel.send)
        if message.digests:
            self._walker.start()

    def _base(self, remaining: int) -> int | None:
        """How many entries deletions are counted against."""
        base = self._deletions.base
        if base is not None or self._walker is None or self._admitted is None:
            return base
        stored = self._admitted.stored
        if self._expect.restore is not None or (stored is not None and stored.pair_uid == self._expect.pair_uid):
            # A first mirror that was not finished, or what the pair's other side has as well: what is there is ours.
            return self._walker.entries
        # Adopted: whatever is there may go, unless the source has nothing at all.
        return self._walker.entries if remaining == 0 else None

    def _end_mirror(self, message: m.MirrorEnd) -> None:
        if self._walker is not None:
            self._walker.stop()
            self._walker = None
        self._scanner = None
        first = self._applier.first
        full = message.full and self._whole
        if full:
            with contextlib.suppress(OSError):
                self._volume.forget_partial()
        if full and (first is None or first.reason is not m.FailureReason.FULL):
            self._volume.distrust_after_ns = None
            self._deletions.compared(message.entries)
            self._durability.compared(message.entries)
            if first is None:
                self._points.mirrored()
                self._disturbed.mirrored()
        self._lacking.end_mirror(whole=full)
        self._applier.live = True
        why = f"{printable(first.path)}: {first.message}" if first is not None else ""
        self._observer.event(Event(EventKind.MIRROR_ENDED, why))
        orphans = self._deletions.orphans
        reason = first.reason if first is not None else None
        told = m.Mirrored(self._deletions.total, self._applier.failed, reason, why)
        told = msgspec.structs.replace(
            told, orphans=orphans.left, moved=orphans.moved, first_orphans=tuple(orphans.first)
        )
        self._channel.send(told)

    # -- durability

    def _mark(self, message: m.Mark) -> None:
        """Begin to sync; the answer comes when that is over, and what follows does not wait for it."""
        self._end_mark()
        self._tell_spared()
        first = self._applier.first
        # Where something could not be done, not everything up to then is here: the time stands still.
        self._volume.locks.give_back()
        behind = self._applier.failed > 0 or self._applier.held_back
        answer = m.Marked(
            message.number,
            self._applier.failed,
            first.reason if first is not None else None,
            f"{printable(first.path)}: {first.message}" if first is not None else "",
        )
        through_ns = None if behind else message.through_ns
        self._marking = (answer, through_ns)
        self._disturbed.marking()
        self._durability.begin_mark(through_ns, self._sync_ended)

    def _sync_ended(self) -> None:
        """From any thread."""
        self._synced = True
        self._ahead.nudge()

    def _end_mark(self) -> None:
        """Answer the mark that was begun, if there is one."""
        self._synced = False
        if self._marking is None:
            return
        (answer, through_ns), self._marking = self._marking, None
        self._durability.end_mark()
        self._disturbed.marked()
        if through_ns is not None:
            self._observer.event(Event(EventKind.MARKED, through_ns=through_ns))
        self._channel.send(answer)

    def _tell_spared(self) -> None:
        """What was kept aside since: it counts with the rest."""
        if self._admitted is not None and self._applier.sparing is not None and self._applier.sparing.tell():
            self._observer.event(Event(EventKind.KEPT))

    def _finish(self) -> None:
        """The session is over: leave all in order."""
        self._tell_spared()
        self._volume.locks.give_back()
        if self._sync_at_end and self._admitted is not None:
            self._durability.finish()


def _within(asked: View, volume: TargetVolume) -> View:
    """What the source asked to look at, as far as this target can."""
    able = volume.view
    return msgspec.structs.replace(
        asked,
        owner=asked.owner and able.owner,
        devices=asked.devices and able.devices,
        acls=asked.acls and able.acls,
        user_xattrs=asked.user_xattrs and able.user_xattrs,
        capabilities=asked.capabilities and able.capabilities,
        trusted_xattrs=asked.trusted_xattrs and able.trusted_xattrs,
        time_grain_ns=max(asked.time_grain_ns, able.time_grain_ns),
        oldest_ns=max(asked.oldest_ns, able.oldest_ns),
        latest_ns=min(asked.latest_ns, able.latest_ns),
        selinux=asked.selinux and volume.takes_labels,
    )
