"""The agent beside the copy: lets the source in, and writes what it sends.

One connection is served at a time. A newer one takes the place of an older: a source whose node or network has gone
leaves a connection behind that says nothing for a while, and must not be kept out by it. The old one has ended before
the new one is served, so there is only ever one writer.

When it is ordered to drain or to promote, what has come whole is still applied, and nobody is let in any more.
"""

from __future__ import annotations

import contextlib
import logging
import threading

from storagemirror.agent.context import Context
from storagemirror.agent.hearing import Hearing
from storagemirror.agent.listener import Listener
from storagemirror.agent.peer import PeerWatch
from storagemirror.agent.view import facts_of, point_of, problem_of
from storagemirror.agent.watching import Watching
from storagemirror.contract import Action, Order, Phase, Problem, Role, VolumeFacts, peer_name
from storagemirror.entry import Identity
from storagemirror.errors import Disconnected, Held, StorageMirrorError, VolumeError
from storagemirror.fs.target import TargetVolume
from storagemirror.sync import handover
from storagemirror.sync.keeping import is_kept, told
from storagemirror.sync.knownsums import KnownSums, known_sums
from storagemirror.sync.requests import Expectation
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession

log = logging.getLogger("storagemirror.agent")

RETRY_SECONDS = 5.0
_LAST_ORDERS = (Action.DRAIN, Action.PROMOTE)


class TargetAgent:
    """Runs until stopped; one volume."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._view = context.view
        self._peer = PeerWatch(context.clock, context.view.wake)
        self._volume: TargetVolume | None = None
        self._identity: Identity | None = None  # of the volume that was open last
        self._handed_over: Order | None = None
        self._known: KnownSums | None = None  # of the volume that is open
        self._latest = 0  # number of the latest source agent that was here
        self._door = threading.Condition()  # guards what follows
        self._next: SocketStream | None = None
        self._served: tuple[TargetSession, SocketStream, Order] | None = None
        self._view.measures.peer = self._peer.seen
        self._view.measures.copy_point = lambda: point_of(self._volume)
        self._watching = Watching(context.view, context.clock, context.settings.compare_seconds, self._others_changed)
        self._view.measures.drifted = self._watching.report

    def run(self) -> None:
        """Do what the order says until stopped. Raises `Superseded` when another agent has taken over."""
        settings = self._context.settings
        listener = Listener(settings.port, self._context.tls, self._expected, self._offer)
        listener.start()
        log.info("listening on port %d", listener.port)
        threading.Thread(target=self._peer.run, name="peer", daemon=True).start()
        try:
            while not self._context.stop.is_set():
                order = self._context.order()
                if order is not None and order.action is Action.STOP:
                    log.info("the order says stop")
                    return
                self._attempt(order)
        finally:
            listener.close()
            self._peer.close()
            self._let_go()

    def reconsider(self) -> None:
        """The order has changed, or we are to stop: end a connection that is not wanted under it."""
        now = self._current()
        self._peer.expect(None if self._context.stop.is_set() else now)
        with self._door:
            if self._served is not None and self._wanted(self._served[2]):
                self._view.see(order=now)
            elif self._served is not None:
                session, stream, _ = self._served
                if now is not None and now.action in _LAST_ORDERS and not self._context.stop.is_set():
                    session.finish()
                else:
                    stream.close()
            self._door.notify_all()

    def cut(self) -> None:
        """Time is up: break the connection."""
        self.reconsider()

    def _current(self) -> Order | None:
        """The latest order, when it is ours."""
        order = self._context.orders.current()
        return order if order is not None and order.instance == self._context.settings.instance else None

    def _expected(self) -> str | None:
        """Who may come in now."""
        order = self._current()
        if order is None or order.action is not Action.RUN:
            return None
        return peer_name(Role.SOURCE, order.volume, order.pair_uid)

    def _wanted(self, under: Order) -> bool:
        """May a connection let in under this order go on?"""
        now = self._context.orders.current()
        return (
            now is not None
            and not self._context.stop.is_set()
            and now.action is Action.RUN
            and (now.instance, now.epoch, now.pair_uid, now.volume, now.mirror, now.restore)
            == (under.instance, under.epoch, under.pair_uid, under.volume, under.mirror, under.restore)
        )

    def _offer(self, stream: SocketStream) -> None:
        """A connection of our source: it is served next, and whoever came before makes room."""
        with self._door:
            if self._next is not None:
                self._next.close()
            self._next = stream
            if self._served is not None:
                log.info("a new connection of the source takes the place of the old one")
                self._served[1].close()
            self._door.notify_all()

    def _turn_away(self) -> None:
        """Whoever came while nobody was to come in."""
        with self._door:
            if self._next is not None:
                self._next.close()
                self._next = None

    def _attempt(self, order: Order | None) -> None:
        view = self._view
        if order is None:
            why = self._context.orders.problem()
            view.see(order=order, phase=Phase.STARTING, problem=None if why is None else problem_of(why))
            self._context.orders.wait(None, RETRY_SECONDS)
            return
        self._peer.expect(order)
        phase = view.sight.phase
        if order.action is not Action.RUN:
            self._turn_away()
        if order.action is Action.PAUSE:
            view.see(order=order, phase=Phase.PAUSED, problem=None)
            with contextlib.suppress(StorageMirrorError):  # tried again, also before the volume is handed over
                if self._volume is not None:
                    self._settle_others(self._volume, order)
            self._context.orders.wait(order, 60.0)
            return
        # What was reached under another order is not told of this one.
        rests = phase in (Phase.STARTING, Phase.PAUSED, Phase.DRAINED, Phase.PROMOTED)
        view.see(order=order, phase=Phase.CONNECTING if rests and order != self._handed_over else phase)
        try:
            if order.action in _LAST_ORDERS:
                self._hand_over(order)
                return
            self._handed_over = None
            volume = self._open(order)
            self._finish_point(volume, order)
            self._settle_others(volume, order)
            self._watching.begin(volume, order, self._expect(order))
        except StorageMirrorError as e:
            self._trouble(e)
            self._let_go()
            self._context.orders.wait(order, RETRY_SECONDS)
            return
        session = self._await(volume, order)
        if session is not None:
            self._serve(session, order)

    def _finish_point(self, volume: TargetVolume, order: Order) -> None:
        """What was committed is applied without a source, too: there may be none any more. One that is at the door has
        it done, and is told where it cannot be. Raises `VolumeError` and `VolumeFull`."""
        with self._door:
            if self._next is not None:
                return
        try:
            done = handover.finish_point(volume, self._expect(order))
        except OSError as e:
            raise VolumeError(f"the target volume failed: {e.strerror}", reason="TargetFailing") from e
        if done:
            self._view.see(phase=Phase.CONNECTING, problem=None)
            self._view.wake()

    def _hand_over(self, order: Order) -> None:
        """Drain or promote, once for each order, and rest. Raises `VolumeError` and `VolumeFull`."""
        if order != self._handed_over:
            try:
                settled = self._carry_out(order)
            except OSError as e:
                raise VolumeError(f"the target volume failed: {e.strerror}", reason="TargetFailing") from e
            self._handed_over = order
            phase = Phase.PROMOTED if order.action is Action.PROMOTE else Phase.DRAINED
            problem = None
            if settled.doubt:
                log.warning("the copy is in doubt: %s", settled.doubt)
                problem = Problem(reason="TargetInDoubt", message=settled.doubt, retrying=False)
            elif settled.forgotten:
                log.warning("the copy is promoted without a manifest: %s", settled.forgotten)
                problem = Problem(reason="ManifestMissing", message=settled.forgotten, retrying=False)
            if not settled.whole:
                log.warning("the copy was never whole: some of the source's entries are on the source alone")
            through = settled.through_ns or self._view.sight.through_ns
            self._view.see(phase=phase, problem=problem, through_ns=through)
            log.info("%s at epoch %d", phase, order.epoch)
        self._context.orders.wait(order, 60.0)

    def _carry_out(self, order: Order) -> handover.Settled:
        volume, expect = self._open(order), self._expect(order)
        self._settle_others(volume, order)
        if order.action is Action.DRAIN:
            return handover.drain(volume, expect)
        settled = handover.promote(volume, expect)
        self._view.see(volume=self._measure())
        self._let_go()
        return settled

    def _expect(self, order: Order) -> Expectation:
        return Expectation.from_order(order, self._latest)

    def _await(self, volume: TargetVolume, order: Order) -> TargetSession | None:
        """The next connection; None when the order has changed first."""
        with self._door:
            self._door.wait_for(
                lambda: (
                    self._next is not None
                    or self._context.stop.is_set()
                    or self._context.orders.current() != order
                    or self._watching.unsettled
                ),
                60.0,
            )
            stream, self._next = self._next, None
            if stream is None:
                return None
            hearing = Hearing(self._view, self._context.clock, self._let_in, lambda: self._know_kept(volume, order))
            session = TargetSession(
                volume, stream, self._expect(order), hearing, self._context.clock, known=self._known
            )
            session.noted = self._watching.noted
            self._served = (session, stream, order)
        self.reconsider()
        return session

    def _serve(self, session: TargetSession, order: Order) -> None:
        why: StorageMirrorError = Disconnected("the source agent has closed the connection")
        try:
            session.serve()
        except StorageMirrorError as e:
            why = e
        except OSError as e:
            why = VolumeError(f"the target volume failed: {e}", reason="TargetFailing")
        finally:
            session.close()
            with self._door:
                self._served = None
            # A connection that broke says nothing yet; what ended it on this side is no silence of the source. One that
            # was ended for a change of the copy counts as broken: the source must be back soon.
            broke = isinstance(why, Disconnected) and not session.goodbye and self._wanted(order)
            self._peer.gone(session, let_go=not broke)
            self._view.see(peer_connected=False)
        self._ended(why, order)

    def _others_changed(self) -> None:
        """Somebody else has changed the copy: the source shall mirror it anew. From any thread."""
        with self._door:
            if self._served is not None:
                self._served[0].others_changed()
            self._door.notify_all()

    def _settle_others(self, volume: TargetVolume, order: Order) -> None:
        """Raises `VolumeError` and `VolumeFull`."""
        try:
            self._watching.settle(volume, self._expect(order))
        except OSError as e:
            raise VolumeError(f"the target volume failed: {e.strerror}", reason="TargetFailing") from e

    def _let_in(self, instance: int) -> None:
        self._latest = max(self._latest, instance)
        with self._door:
            served = self._served
        if served is not None:
            self._peer.come(served[0])

    def _ended(self, why: StorageMirrorError, order: Order) -> None:
        """A connection has ended; the next one may already be waiting."""
        with self._door:
            replaced = self._next is not None
        gone = isinstance(why, Disconnected)
        ours = self._watching.unsettled or not self._wanted(order)
        if self._context.stop.is_set() or (gone and (replaced or ours)):
            return
        self._trouble(why)
        if isinstance(why, VolumeError):
            # Begin with the path again: the volume may have been replaced under us.
            self._let_go()

    def _trouble(self, error: StorageMirrorError) -> None:
        known = self._view.sight.problem
        if known is None or known.message != error.message:
            log.warning("%s: %s%s", error.reason, error.message, f" ({error.hint})" if error.hint else "")
        phase = Phase.FAILED
        if isinstance(error, Held):
            phase = Phase.HELD
        elif isinstance(error, Disconnected):
            phase = Phase.CONNECTING
        self._view.trouble(error, phase)

    # -- the volume

    def _open(self, order: Order) -> TargetVolume:
        if self._volume is None:
            volume = self._volume = TargetVolume.open(self._context.settings.volume)
            self._view.measures.volume = self._measure
            self._known = known_sums(volume)
            self._watching.open(volume)
            log.info("target %s: %s", self._context.settings.volume, volume.identity)
            self._know(volume, order)
        self._know_kept(self._volume, order)
        return self._volume

    def _know(self, volume: TargetVolume, order: Order) -> None:
        """What the volume knows is known at once: there may be no source any more that could say it."""
        try:
            through = handover.known(volume, self._expect(order)).through_ns
        except (StorageMirrorError, OSError) as e:
            log.warning("cannot read what the target volume says about itself: %s", e)
            return
        before = self._view.sight.through_ns
        if through is not None and before is not None and volume.identity == self._identity:
            through = max(through, before)
        self._identity = volume.identity
        self._view.see(through_ns=through)

    def _know_kept(self, volume: TargetVolume, order: Order) -> None:
        """What is kept aside under this order, also by an agent before us."""
        if order.restore is None:
            return
        try:
            record = is_kept(volume, order.restore)
        except (StorageMirrorError, OSError) as e:
            log.warning("cannot read what was kept aside on the target volume: %s", e)
            return
        if record is not None:
            self._view.see(kept=told(record))

    def _let_go(self) -> None:
        volume, self._volume = self._volume, None
        self._view.measures.volume = lambda: None
        self._watching.close()
        if volume is not None:
            volume.close()

    def _measure(self) -> VolumeFacts | None:
        return facts_of(self._volume)
