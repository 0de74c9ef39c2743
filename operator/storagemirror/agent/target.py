"""The agent beside the copy: lets the source in, and writes what it sends.

One connection is served at a time. A newer one takes the place of an older: a source whose node or network has gone
leaves a connection behind that says nothing for a while, and must not be kept out by it. The old one has ended before
the new one is served, so there is only ever one writer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from storagemirror.agent.context import Context
from storagemirror.agent.listener import Listener
from storagemirror.agent.view import View, facts_of, problem_of
from storagemirror.clock import Clock
from storagemirror.contract import Action, Order, Phase, Role, VolumeFacts, peer_name
from storagemirror.entry import NotKeptKind
from storagemirror.errors import Disconnected, Held, StorageMirrorError, VolumeError
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.observer import Event, EventKind, Progress
from storagemirror.sync.requests import Expectation
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession

log = logging.getLogger("storagemirror.agent")

RETRY_SECONDS = 5.0


class TargetAgent:
    """Runs until stopped; one volume."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._view = context.view
        self._volume: TargetVolume | None = None
        self._latest = 0  # number of the latest source agent that was here
        self._door = threading.Condition()  # guards what follows
        self._next: SocketStream | None = None
        self._served: tuple[SocketStream, Order] | None = None

    def run(self) -> None:
        """Do what the order says until stopped. Raises `Superseded` when another agent has taken over."""
        settings = self._context.settings
        listener = Listener(settings.port, self._context.tls, self._expected, self._offer)
        listener.start()
        log.info("listening on port %d", listener.port)
        try:
            while not self._context.stop.is_set():
                order = self._context.order()
                if order is not None and order.action is Action.STOP:
                    log.info("the order says stop")
                    return
                self._attempt(order)
        finally:
            listener.close()
            self._let_go()

    def reconsider(self) -> None:
        """The order has changed, or we are to stop: break a connection that is not wanted under it."""
        with self._door:
            if self._served is not None and not self._wanted(self._served[1]):
                self._served[0].close()
            self._door.notify_all()

    def cut(self) -> None:
        """Time is up: break the connection."""
        self.reconsider()

    def _expected(self) -> str | None:
        """Who may come in now."""
        order = self._context.orders.current()
        if order is None or order.action is not Action.RUN or order.instance != self._context.settings.instance:
            return None
        return peer_name(Role.SOURCE, order.volume, order.pair_uid)

    def _wanted(self, under: Order) -> bool:
        """May a connection let in under this order go on?"""
        now = self._context.orders.current()
        return (
            now is not None
            and not self._context.stop.is_set()
            and now.action is Action.RUN
            and (now.instance, now.epoch, now.pair_uid, now.volume, now.mirror)
            == (under.instance, under.epoch, under.pair_uid, under.volume, under.mirror)
        )

    def _offer(self, stream: SocketStream) -> None:
        """A connection of our source: it is served next, and whoever came before makes room."""
        with self._door:
            if self._next is not None:
                self._next.close()
            self._next = stream
            if self._served is not None:
                log.info("a new connection of the source takes the place of the old one")
                self._served[0].close()
            self._door.notify_all()

    def _attempt(self, order: Order | None) -> None:
        view = self._view
        view.see(order=order)
        if order is None:
            why = self._context.orders.problem()
            view.see(phase=Phase.STARTING, problem=None if why is None else problem_of(why))
            self._context.orders.wait(None, RETRY_SECONDS)
            return
        if order.action is Action.PAUSE:
            view.see(phase=Phase.PAUSED, problem=None)
            self._context.orders.wait(order, 60.0)
            return
        try:
            volume = self._open()
        except VolumeError as e:
            self._trouble(e)
            self._context.orders.wait(order, RETRY_SECONDS)
            return
        if view.sight.phase in (Phase.STARTING, Phase.PAUSED):
            view.see(phase=Phase.CONNECTING)
        stream = self._await(order)
        if stream is not None:
            self._serve(volume, stream, order)

    def _await(self, order: Order) -> SocketStream | None:
        """The next connection; None when the order has changed first."""
        with self._door:
            self._door.wait_for(
                lambda: (
                    self._next is not None or self._context.stop.is_set() or self._context.orders.current() != order
                ),
                60.0,
            )
            stream, self._next = self._next, None
            if stream is None:
                return None
            self._served = (stream, order)
        self.reconsider()
        return stream

    def _serve(self, volume: TargetVolume, stream: SocketStream, order: Order) -> None:
        expect = Expectation.from_order(order.pair_uid, order.volume, order.epoch, order.mirror, self._latest)
        try:
            TargetSession(volume, stream, expect, _Hearing(self._view, self._context.clock, self._let_in)).serve()
            self._ended(Disconnected("the source agent has closed the connection"))
        except StorageMirrorError as e:
            self._ended(e)
        except OSError as e:
            self._ended(VolumeError(f"the target volume failed: {e}", reason="TargetFailing"))
        finally:
            stream.close()
            with self._door:
                self._served = None
            self._view.see(peer_connected=False)

    def _let_in(self, instance: int) -> None:
        self._latest = max(self._latest, instance)

    def _ended(self, why: StorageMirrorError) -> None:
        """A connection has ended; the next one may already be waiting."""
        with self._door:
            replaced = self._next is not None
        if self._context.stop.is_set() or (replaced and isinstance(why, Disconnected)):
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

    def _open(self) -> TargetVolume:
        if self._volume is None:
            self._volume = TargetVolume.open(self._context.settings.volume)
            self._view.measures.volume = self._measure
            log.info("target %s: %s", self._context.settings.volume, self._volume.identity)
        return self._volume

    def _let_go(self) -> None:
        volume, self._volume = self._volume, None
        self._view.measures.volume = lambda: None
        if volume is not None:
            volume.close()

    def _measure(self) -> VolumeFacts | None:
        return facts_of(self._volume)


class _Hearing:
    """What a session of the target tells, put into the view."""

    def __init__(self, view: View, clock: Clock, let_in: Callable[[int], None]) -> None:
        self._view = view
        self._clock = clock
        self._let_in = let_in

    def progress(self, progress: Progress) -> None:
        """See `Observer`."""
        self._view.progress(progress)

    def not_kept(self, kind: NotKeptKind, path: bytes) -> None:
        """See `Observer`."""
        self._view.not_kept(kind, path)

    def event(self, event: Event) -> None:
        """See `Observer`."""
        view = self._view
        view.event(event)
        held = view.sight.phase is Phase.HELD
        if event.kind is EventKind.CONNECTED:
            self._let_in(event.instance or 0)
            # A hold stays shown until what was held is through.
            view.see(peer_connected=True, problem=view.sight.problem if held else None)
        elif event.kind is EventKind.MIRROR_STARTED and not held and view.sight.phase is not Phase.REPLICATING:
            view.see(phase=Phase.MIRRORING)
        elif event.kind is EventKind.MIRROR_ENDED:
            view.see(phase=Phase.REPLICATING, mirrored_ns=self._clock.now_ns(), problem=None)
        elif event.kind is EventKind.MARKED and event.through_ns is not None:
            view.see(through_ns=event.through_ns)
