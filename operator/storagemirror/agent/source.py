"""The agent beside the application: reads its volume, and sends what changes.

Rules that hold whatever happens:

- The watch is set before the first mirror and outlives connections, so nothing falls between mirror and changes.
- A new connection begins with a full comparison, then applies what was seen meanwhile: the comparison cannot see a
  change that kept size and time, the watch cannot see what happened before it was set.
- `through` moves only after a mark: the target has applied and fsynced everything before it.
- In modes Scheduled and Manual a connection sends nothing but runs; each begins with a full comparison, or makes a
  point of what changed since the last.
- A source that is not the directory we started on (unmounted, replaced) ends all sending at once: what is missing
  there says nothing about what was deleted.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from storagemirror.agent.checking import Checker
from storagemirror.agent.checks import Checks
from storagemirror.agent.context import Backoff, Context
from storagemirror.agent.follow import IDLE_SECONDS, Ends, Following
from storagemirror.agent.lag import Unsettled
from storagemirror.agent.pointing import Pointing, Points
from storagemirror.agent.prove import Prover
from storagemirror.agent.queueing import Queueing, disk_queue
from storagemirror.agent.rescan import Rescan
from storagemirror.agent.runs import Runs
from storagemirror.agent.together import Together
from storagemirror.agent.verify import Verifier
from storagemirror.agent.view import facts_of, problem_of
from storagemirror.contract import (
    Action,
    CompareBy,
    Consistency,
    Order,
    Peer,
    Phase,
    ProofStage,
    ProveOrder,
    ReplicationOrder,
    Role,
    RuleOrder,
    TransferOrder,
    VerifyOrder,
    VolumeFacts,
    peer_name,
)
from storagemirror.errors import (
    BadInput,
    Disconnected,
    Held,
    Passing,
    StorageMirrorError,
    Superseded,
    VolumeError,
    VolumeFull,
)
from storagemirror.fs.identity import NETWORK_FILE_SYSTEMS
from storagemirror.fs.selection import selection_of
from storagemirror.fs.source import SourceVolume
from storagemirror.fs.trace import Trace, open_trace, receive_trace
from storagemirror.sync.freezing import CannotFreeze, GuardFreezer
from storagemirror.sync.guardwords import SOCKET_NAME
from storagemirror.sync.pointmaker.making import Maker, MirrorAgain
from storagemirror.sync.pointmaker.queue import Queue
from storagemirror.sync.pointmaker.tracing import TraceCapture
from storagemirror.sync.recalling import origin_of
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.watch import TreeWatch
from storagemirror.terms import OrphanPolicy
from storagemirror.wire.messages import HoldReason, RefusalReason

log = logging.getLogger("storagemirror.agent")

CONNECT_SECONDS = 5.0
HELD_SECONDS, PERMANENT_SECONDS, FULL_SECONDS = 30.0, 5.0, 10.0
"""How long until an attempt is made again without a new order: after a hold and after a full target (each attempt
compares everything), and after what else somebody has to change."""

CANNOT_FREEZE_SECONDS = 60.0
"""A volume that cannot be frozen is tried again after so long; changes are applied as they come until then."""


class SourceAgent:
    """Runs until stopped; one volume."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._view = context.view
        self._backoff = Backoff(0.2, 5.0)
        self._lock = threading.Lock()
        self._connected: tuple[SocketStream, Order] | None = None
        self._at_work: SourceSession | None = None
        self._volume: SourceVolume | None = None
        self._watch: TreeWatch | None = None
        self._rules: tuple[RuleOrder, ...] = ()
        """Under which it watches."""
        self._unsettled: Unsettled | None = None
        self._queueing: Queueing | None = None
        self._maker: Maker | None = None
        self._capture: TraceCapture | None = None
        """The maker's."""
        self._pointing: tuple[SourceSession, Pointing] | None = None
        self._runs = Runs(context.orders.current, context.view, context.clock)
        self._together = Together(context)
        self._number = 0
        """Of the latest point that was begun; it only grows."""
        self._freezer: GuardFreezer | None = None
        self._live_until = 0.0
        self._checks = Checks(
            Prover(self._to_prove, context.view, context.clock, NETWORK_FILE_SYSTEMS),
            Verifier(self._to_verify, context.view, context.clock),
        )

    def run(self) -> None:
        """Do what the order says until stopped. Raises `Superseded` when another agent has taken over."""
        orders = self._context.orders
        try:
            while not self._context.stop.is_set():
                current = orders.current()
                order = self._context.order()
                if order is not None and order.action is Action.STOP:
                    log.info("the order says stop")
                    return
                delay = self._attempt(order)
                if delay > 0:
                    # What is in the way may be a matter of the order: another one ends the wait.
                    orders.wait(current, delay)
        finally:
            self._together.close()
            self._let_go()

    def reconsider(self) -> None:
        """The order has changed, or we are to stop: end a connection that is not wanted any more.

        One that follows is left when we stop: it sends what has changed up to now, and then says goodbye.
        """
        self._together.take_up(None if self._context.stop.is_set() else self._context.orders.current())
        with self._lock:
            watch, session = self._watch, self._at_work
            if self._connected is None:
                return
            if self._wanted(self._connected[1]):
                order = self._context.orders.current()
                if session is not None and order is not None:
                    # Nothing that the connection depends on: it is taken up at once.
                    session.beat(order.beat.interval_seconds)
                    self._govern(session, order)
                    self._limit(order)
                    self._view.see(order=order)
                if watch is not None:
                    watch.wake()
                return
            if self._context.stop.is_set() and self._view.sight.phase is Phase.REPLICATING and watch is not None:
                watch.wake()
                return
        self.cut()

    def cut(self) -> None:
        """End the connection now, with a goodbye where that is possible: the target must not take us for dead."""
        with self._lock:
            connected, session = self._connected, self._at_work
        if session is not None:
            session.leave()
        if connected is not None:
            connected[0].close()

    @staticmethod
    def _govern(session: SourceSession, order: Order) -> None:
        try:
            session.govern(_transfer(order))
        except BadInput as e:  # the operator refuses it before; what held until now goes on
            log.warning("the order's limits are not taken up: %s", e.message)

    def _to_prove(self) -> ProveOrder | None:
        order = self._context.orders.current()
        return order.prove if order is not None else None

    def _to_verify(self) -> VerifyOrder | None:
        order = self._context.orders.current()
        return order.verify if order is not None else None

    def _wanted(self, under: Order) -> bool:
        """May a connection made under this order go on?"""
        now = self._context.orders.current()
        return (
            now is not None
            and not self._context.stop.is_set()
            and now.action is Action.RUN
            and (now.peer, now.instance, now.epoch, now.pair_uid, now.volume)
            == (under.peer, under.instance, under.epoch, under.pair_uid, under.volume)
            and (now.mirror.compare, now.mirror.terms()) == (under.mirror.compare, under.mirror.terms())
        )

    def _attempt(self, order: Order | None) -> float:
        """Follow the order as far as it goes; returns how long to wait before the next attempt."""
        view = self._view
        view.see(order=order)
        self._together.take_up(order)
        if order is None:
            why = self._context.orders.problem()
            view.see(phase=Phase.STARTING, problem=None if why is None else problem_of(why))
            return 5.0
        if order.action is not Action.RUN:
            view.see(phase=Phase.PAUSED, problem=None)
            return 60.0
        self._confirmed(order)
        try:
            self._open(order)
            if order.peer is None:
                view.see(phase=Phase.CONNECTING, problem=None)
                return 60.0
            self._connect_and_follow(order, order.peer)
        except Held as e:
            return self._hold(e, order)
        except Superseded:
            raise
        except StorageMirrorError as e:
            if e.reason == RefusalReason.SUPERSEDED:
                raise Superseded(f"the target says: {e.message}") from e
            return self._trouble(e) if self._wanted(order) else 0.0
        except OSError as e:
            return self._trouble(VolumeError(f"reading the source failed: {e}", reason="SourceUnreadable"))
        finally:
            view.see(peer_connected=False)
        return 0.0

    def _confirmed(self, order: Order) -> None:
        """A hold that a person lets through is shown no longer."""
        held = self._view.sight.problem
        if held is not None and held.token is not None and held.token == order.mirror.confirm:
            log.info("the hold %s is confirmed", held.token)
            self._view.see(phase=Phase.CONNECTING, problem=None)

    def _trouble(self, error: StorageMirrorError) -> float:
        known = self._view.sight.problem
        if known is None or known.message != error.message:
            log.warning("%s: %s%s", error.reason, error.message, f" ({error.hint})" if error.hint else "")
        self._view.trouble(error, Phase.CONNECTING if isinstance(error, Disconnected) else Phase.FAILED)
        if isinstance(error, VolumeError):
            # Nothing that we hold open says anything any more: begin with the path again.
            self._let_go()
        if isinstance(error, VolumeFull):
            return FULL_SECONDS
        return self._backoff.next() if isinstance(error, Passing) else PERMANENT_SECONDS

    def _hold(self, held: Held, order: Order) -> float:
        known = self._view.sight.problem
        if known is None or known.token != held.token:
            log.warning("held: %s: %s (token %s)", held.reason, held.message, held.token)
        self._view.trouble(held, Phase.HELD)
        if order.mirror.confirm == held.token:
            return 1.0  # the target has not heard of the confirmation yet
        # Another file system is noticed in the handshake already, and the right one may be back soon.
        return PERMANENT_SECONDS if held.reason == HoldReason.SOURCE_REPLACED else HELD_SECONDS

    # -- the volume

    def _open(self, order: Order) -> None:
        """The volume and its watch, as long as it is the same one, under the same rules; `VolumeError` when it cannot
        be read, `BadInput` when a rule cannot be meant."""
        selection = selection_of(order.mirror.terms().rules)
        if self._volume is not None and self._rules != order.mirror.rules:
            self._let_go()  # what was left out is not watched
        self._rules = order.mirror.rules
        if self._volume is not None:
            try:
                self._volume.check_identity()
            except VolumeError as e:
                log.warning("%s", e.message)
                self._let_go()
            else:
                return
        volume = SourceVolume.open(self._context.settings.volume)
        watch = TreeWatch(volume.tree, clock=self._context.clock, selection=selection)
        try:
            watch.start()
        except VolumeError:
            watch.close()
            volume.close()
            raise
        self._volume, self._watch = volume, watch
        self._unsettled = Unsettled(volume.tree, watch)
        self._queueing = Queueing(watch, self._unsettled)
        self._limit(order)
        self._view.measures.queue = self._queueing.report
        self._view.measures.lag_bytes = self._unsettled.lag_bytes
        self._view.measures.volume = self._measure
        where = os.fsdecode(self._context.settings.volume)
        log.info("source %s: %s, %s, %d directories watched", where, volume.identity, watch.capture, watch.watches)

    def _let_go(self) -> None:
        watch, volume = self._watch, self._volume
        self._end_points()
        self._watch = self._volume = self._unsettled = self._queueing = None
        self._view.measures.queue = lambda: None
        self._checks.forget()
        self._view.measures.lag_bytes = lambda: None
        self._view.measures.volume = lambda: None
        if watch is not None:
            watch.close()
        if volume is not None:
            volume.close()

    def _limit(self, order: Order) -> None:
        if self._queueing is not None:
            self._queueing.limit(order.replication.queue)

    def _measure(self) -> VolumeFacts | None:
        return facts_of(self._volume)

    # -- the connection

    def _connect_and_follow(self, order: Order, peer: Peer) -> None:
        if self._view.sight.phase not in (Phase.HELD, Phase.FAILED):
            self._view.see(phase=Phase.CONNECTING)
        stream = self._dial(order, peer)
        with self._lock:
            self._connected = (stream, order)
        self.reconsider()
        try:
            self._session(order, stream)
        finally:
            with self._lock:
                self._connected = None
            stream.close()
            if self._unsettled is not None:
                self._unsettled.unsettle()

    def _dial(self, order: Order, peer: Peer) -> SocketStream:
        try:
            raw = socket.create_connection((peer.address, peer.port), CONNECT_SECONDS)
        except OSError as e:
            raise Disconnected(f"the target agent at {peer.address} port {peer.port} does not answer: {e}") from e
        try:
            secured = self._context.tls.connect(raw, peer_name(Role.TARGET, order.volume, order.pair_uid))
        except BaseException:
            raw.close()
            raise
        return SocketStream(secured)

    def _session(self, order: Order, stream: SocketStream) -> None:
        volume, watch, unsettled, queueing = self._volume, self._watch, self._unsettled, self._queueing
        if volume is None or watch is None or unsettled is None or queueing is None:
            raise VolumeError("the source is not open")
        origin = origin_of(volume)
        terms = order.mirror.terms()
        who = hello(
            order.pair_uid, order.volume, order.epoch, order.instance, volume.identity, origin=origin, terms=terms
        )
        session = SourceSession(volume, stream, who, self._view, keep=order.mirror.keep)
        session.beat(order.beat.interval_seconds)
        session.govern(_transfer(order))
        with self._lock:
            self._at_work = session
        self.reconsider()
        try:
            session.handshake()
            self._backoff.reset()
            log.info("connected to %s", order.peer.address if order.peer else "?")
            self._view.see(peer_connected=True)
            session.recall()
            self._checks.connect(session, volume)
            context = self._context
            checker = Checker(session, volume, context.clock)
            rescan = Rescan(
                volume.tree, selection_of(terms.rules), context.clock, watch.put_back, grain_ns=volume.grain_ns
            )
            ends = Ends(session, volume, watch, unsettled, self._checks, checker, queueing, rescan, self._remirror)
            follow = Following(ends, self._view, context.clock, context.settings.compare_seconds, order.mirror.compare)
            self._replicate(order, session, follow)
        finally:
            with self._lock:
                self._at_work = None
            session.close()

    # -- points, or changes as they come

    def _replicate(self, order: Order, session: SourceSession, follow: Following) -> None:
        """As long as the connection is wanted, the one or the other, as the order says by then."""
        while True:
            if self._runs.wanted():
                self._in_runs(order, session, follow)
            elif self._points_wanted(session):
                self._make_points(order, session, follow)
            else:
                self._no_points()
                follow.run(lambda: self._wanted(order) and self._live_wanted(session))
                if self._context.stop.is_set():
                    follow.settle()
            if not self._wanted(order):
                return

    def _no_points(self) -> None:
        self._end_points()
        self._view.see(points=None)

    def _live_wanted(self, session: SourceSession) -> bool:
        return not self._runs.wanted() and not self._points_wanted(session)

    def _in_runs(self, order: Order, session: SourceSession, follow: Following) -> None:
        """What is due, and nothing between."""
        orders, first = self._context.orders, True

        def wanted() -> bool:
            return self._wanted(order) and self._runs.wanted()

        while wanted():
            current = orders.current()
            run = self._runs.due()
            if run is None:
                self._runs.rest(first=first)
                session.ping()
                if self._volume is not None:
                    self._volume.check_identity()
                orders.wait(current, IDLE_SECONDS)
            elif self._points_wanted(session):
                self._runs.do(run, lambda: self._one_point(session, follow, wanted))
            else:
                self._no_points()
                self._runs.do(run, follow.once)
            first = False

    def _one_point(self, session: SourceSession, follow: Following, wanted: Callable[[], bool]) -> bool:
        with self._making(session, follow) as pointing:
            return pointing.once(wanted)
        return False  # the volume cannot be frozen just now

    def _points_wanted(self, session: SourceSession) -> bool:
        """A proof and a verification are about what the source is now, not about a point of before."""
        order = self._context.orders.current()
        if order is None or order.replication.consistency is not Consistency.POINT or order.prove is not None:
            return False
        if self._context.settings.guard is None or self._context.clock.monotonic() < self._live_until:
            return False
        terms = order.mirror.terms()
        if terms.orphans is not OrphanPolicy.DELETE or terms.keeps or terms.older_than_seconds:
            return False  # what the source has not, a point has not
        seen = self._view.sight.verification
        verified = order.verify is None or (seen is not None and seen.run == order.verify.run)
        return verified and session.can_tell_points

    def _make_points(self, order: Order, session: SourceSession, follow: Following) -> None:
        with self._making(session, follow) as pointing:
            self._view.measures.interval = pointing.interval
            pointing.run(lambda: self._wanted(order) and self._points_wanted(session) and not self._runs.wanted())
            if self._context.stop.is_set():
                pointing.finish()

    @contextmanager
    def _making(self, session: SourceSession, follow: Following) -> Iterator[Pointing]:
        """For as long as points are made. What the maker knows is kept for the next time."""
        queueing = self._queueing
        if queueing is None:
            raise VolumeError("the source is not open")
        if self._maker is None or self._pointing is None or self._pointing[0] is not session:
            queueing.maker = self._maker = self._maker or self._new_maker()
            points = Points(session, self._maker, follow, queueing, self._replication, self._together)
            self._pointing = (session, Pointing(points, self._view, self._context.clock))
        maker, (_, pointing) = self._maker, self._pointing
        self._view.measures.lag_bytes = lambda: maker.unsent_bytes
        try:
            yield pointing
        except CannotFreeze as e:
            log.warning("no points here: %s: %s", e.reason, e.message)
            maker.let_go(session.line())
            self._live_until = self._context.clock.monotonic() + CANNOT_FREEZE_SECONDS
        except MirrorAgain:
            self._end_points()
            raise
        finally:
            self._number = maker.number
            if self._unsettled is not None:
                self._view.measures.lag_bytes = self._unsettled.lag_bytes

    def _new_maker(self) -> Maker:
        volume, watch, guard = self._volume, self._watch, self._context.settings.guard
        if volume is None or watch is None or guard is None:
            raise VolumeError("the source is not open")
        if self._freezer is None:
            self._freezer = GuardFreezer(os.path.join(guard, SOCKET_NAME))
        clock, tracer = self._context.clock, self._context.settings.tracer
        uid = self._context.settings.pod_uid or f"pid-{os.getpid()}"

        def opens() -> Trace:
            return receive_trace(volume.tree.root, tracer) if tracer else open_trace(volume.tree.root, uid)

        self._capture = TraceCapture(watch, opens, clock)
        queue = Queue(disk_queue(self._context.settings.queue, volume.tree.root))
        return Maker(volume, self._capture, self._freezer, clock, number=self._number, queue=queue)

    def _end_points(self) -> None:
        capture, maker = self._capture, self._maker
        self._maker = self._capture = self._pointing = None
        self._view.measures.interval = lambda: None
        if maker is not None:
            maker.forget()
        if self._queueing is not None:
            self._queueing.maker = None
        if capture is not None:
            capture.close()

    def _remirror(self) -> CompareBy | None:
        return self._replication().remirror

    def _replication(self) -> ReplicationOrder:
        order = self._context.orders.current()
        return order.replication if order is not None else ReplicationOrder()


def _transfer(order: Order) -> TransferOrder:
    """As the order says; but while an application waits for the last of its data, nothing is read slowly."""
    if order.prove is not None and order.prove.stage is ProofStage.FINAL:
        return msgspec.structs.replace(order.transfer, read_limit=None)
    return order.transfer
