"""A connection with its stream: messages out from any thread, events in on one."""

from __future__ import annotations

import threading

from storagemirror.clock import Clock, SystemClock
from storagemirror.contract import Role, TransferOrder
from storagemirror.errors import Disconnected
from storagemirror.point import Names, Object
from storagemirror.sync.shaper import Shaper
from storagemirror.sync.stream import Stream
from storagemirror.wire.connection import Connection, Event
from storagemirror.wire.content import Contents, Record
from storagemirror.wire.messages import Bye, FrameType, Hello, Mark, Message, Ping

TICK_SECONDS = 0.5
"""After so long a silence a Ping is sent, so that something comes at least every second; a peer that wants to hear us
more often gets it sooner (`beat`)."""
LEAST_SECONDS = 0.1
GREETING_SECONDS = 30.0
"""Within so long the peer's greeting must have come whole. (It may come as slowly as it likes later: a link may be.)"""
LAST_WORD_SECONDS = 5.0
_SET_BACK_NS = 1_000_000_000
"""The peer's clock was set back when it says so much less than before."""
GOODBYE_SECONDS = 0.5
"""How long a goodbye may wait for a frame that is being sent, and then for the way to the peer."""


class Channel:
    """Sends whole frames in order; answers nothing by itself but sends a Ping when all else is quiet.

    A target never fails in sending: what the source said before it went is still received, and only then the end is
    told; what a thread of it says after its last word is not said. A source's Pings tell its clock, between all else
    that it sends.
    """

    def __init__(self, role: Role, stream: Stream, clock: Clock | None = None, *, ahead: int = 0) -> None:
        """`ahead`: what an event shows holds while so many more are received."""
        self._role = role
        self._connection = Connection(role, ahead)
        self._stream = stream
        self._clock = clock if clock is not None else SystemClock()
        # Two locks: who sends holds the first while it waits for the network, and then the second must be free, or
        # the two ends could wait for each other for ever.
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._quiet_since = self._told = self._clock.monotonic()
        self._beat = TICK_SECONDS
        self._mute = False
        self._left = False
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self._shaper = Shaper(self._clock, stream.transmitted)
        self.wire_bytes = 0
        """Sent so far, headers included, before TLS."""
        self.peer_ns: int | None = None
        """What the peer's clock said in its last word that told it: nanoseconds since the Unix epoch."""
        self._behind_ns: int | None = None
        """Our monotonic clock less the peer's, as small as it ever was: the difference, and the quickest way here."""

    def beat(self, interval_seconds: float) -> None:
        """Be heard at least this often, whatever else is done."""
        self._beat = min(TICK_SECONDS, max(LEAST_SECONDS, interval_seconds / 2))

    def govern(self, transfer: TransferOrder) -> None:
        """How what is sent is sent, from now on. `BadInput` when it cannot be done."""
        self._shaper.govern(transfer)

    def agree(self) -> None:
        """The peer can take compressed frames, and frames in pieces."""
        self._shaper.agreed = True

    @property
    def spared_bytes(self) -> int:
        """How many more would have been sent without compression."""
        return self._shaper.saved

    def quiet_seconds(self) -> float:
        """For how long nothing has come of the peer."""
        return self._stream.quiet_seconds()

    def send(self, message: Message) -> None:
        """`Disconnected` when the peer is gone."""
        with self._sending:
            with self._state:
                self._check()
                if self._role is Role.TARGET and self._connection.over:
                    return
                frame = self._connection.send(message)
            self._put_frame(frame)

    def send_pack(self, records: list[Record], contents: Contents | list[bytes]) -> None:
        """See `Connection.send_pack`."""
        with self._sending:
            with self._state:
                self._check()
                prefix, body = self._connection.send_pack(records, contents)
            self._put_frame(prefix, body)

    def send_data(self, offset: int, content: memoryview) -> None:
        """A piece of the large file that was begun."""
        with self._sending:
            with self._state:
                self._check()
                prefix = self._connection.send_data(offset, content.nbytes)
            self._put_frame(prefix, content)

    def send_record(self, record: Object | Names) -> bytes:
        """A record of the point that was begun; its bytes, which the point's digest is over."""
        with self._sending:
            with self._state:
                self._check()
                prefix, payload = self._connection.send_record(record)
            self._put_frame(prefix, payload)
        return payload

    def _check(self) -> None:
        if self._left:
            raise Disconnected("we have said goodbye")

    def _put_frame(self, prefix: bytes, body: bytes | memoryview = b"") -> None:
        if self._role is Role.TARGET:
            self._shaper.follow(self._connection.codec)
        for piece, whole in self._shaper.pieces(prefix, body):
            self._put(piece)
            if whole:
                self._tell_time()

    def _put(self, data: bytes | memoryview) -> None:
        if self._mute:
            return
        try:
            self._stream.send(data)
        except Disconnected:
            if self._role is Role.SOURCE:
                raise
            self._mute = True
            return
        self.wire_bytes += len(data)
        self._quiet_since = self._clock.monotonic()

    def _tell_time(self) -> None:
        """While much is sent, nobody is quiet enough for a Ping: the source's clock is told all the same."""
        if self._role is Role.SOURCE and self._clock.monotonic() - self._told >= self._beat:
            self._ping()

    def _ping(self) -> None:
        """Where it may be. Holds the lock of sending."""
        with self._state:
            now = self._clock.now_ns() if self._role is Role.SOURCE else None
            may = not self._left and self._connection.may_send(FrameType.PING)
            frame = self._connection.send(Ping(now)) if may else b""
        self._told = self._clock.monotonic()
        if frame:
            self._shaper.pacer.take(len(frame), wait=False)
            self._put(frame)

    def receive(self, within: float | None = None) -> Event:
        """The next event that is no Ping. `Disconnected` at the end of the stream, when the peer is silent, or when it
        has not come `within` seconds although bytes come."""
        end = None if within is None else self._clock.monotonic() + within
        while True:
            with self._state:
                event = self._connection.next_event()
            if event is None:
                if end is not None and self._clock.monotonic() > end:
                    raise Disconnected(f"the peer's greeting has not come within {within:g} s")
                view = self._connection.writable()
                count = self._stream.receive_into(view)
                if count == 0:
                    raise Disconnected("the peer closed the connection")
                self._connection.written(count)
            else:
                self._learn(event)
                if not isinstance(event, Ping):
                    return event

    @property
    def event_bytes(self) -> int:
        """Of the payload of what `receive` gave last, uncompressed. For the thread that receives."""
        return self._connection.event_bytes

    def heard_ns(self) -> int | None:
        """What the peer's clock said at the latest when its last byte came: nanoseconds since the Unix epoch.

        Its last word about its clock may be old by then: it waited behind megabytes in a narrow link, or waits to be
        read. What the peer did after it, up to that byte, counts as done.
        """
        if self.peer_ns is None or self._behind_ns is None:
            return self.peer_ns
        heard = self._clock.monotonic() - self.quiet_seconds()
        return max(self.peer_ns, int(heard * 1e9) - self._behind_ns)

    def _learn(self, event: Event) -> None:
        """What the peer's clock says, where the event tells it."""
        if isinstance(event, (Hello, Ping)) and event.now_ns is not None:
            if self.peer_ns is not None and event.now_ns < self.peer_ns - _SET_BACK_NS:
                self._behind_ns = None  # words come in their order: it was set back
            self.peer_ns = event.now_ns
        elif isinstance(event, Mark):
            self.peer_ns = max(self.peer_ns or 0, event.through_ns)
        else:
            return
        behind = int(self._clock.monotonic() * 1e9) - self.peer_ns
        self._behind_ns = behind if self._behind_ns is None else min(self._behind_ns, behind)

    def start_ticking(self) -> None:
        """Send a Ping whenever nothing else was sent for a while."""
        self._ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        self._ticker.start()

    def _tick(self) -> None:
        while not self._stop.wait(self._beat):
            if self._mute or self._clock.monotonic() - max(self._quiet_since, self._told) < self._beat / 2:
                continue
            # Somebody who is sending now is sign of life enough; the peer reads as fast as it can.
            if not self._sending.acquire(blocking=False):
                continue
            try:
                self._ping()
            except Disconnected:
                return
            finally:
                self._sending.release()

    def leave(self) -> None:
        """Say Bye, from whatever thread, between two frames; whoever sends after it gets `Disconnected`. Where the
        peer does not take what we say, it is left without."""
        self._shaper.pacer.lift()  # a frame that is on its way slowly must not keep us from it
        if not self._sending.acquire(timeout=GOODBYE_SECONDS):
            return
        try:
            with self._state:
                may = not self._left and self._connection.may_send(FrameType.BYE)
                frame = self._connection.send(Bye()) if may else b""
                self._left = True
            if frame:
                self._put(frame)
        except Disconnected:
            return
        finally:
            self._sending.release()
        # A socket that is closed while bytes of the peer lie unread takes back what is still on its way.
        self._stream.delivered(GOODBYE_SECONDS)

    def finish(self) -> None:
        """Take what has come, and no more; say nothing more. For any thread."""
        self._mute = True
        self._stream.finish()
        self._stream.deafen()

    def deafen(self) -> None:
        """Nobody receives any more: sending must not wait for a peer that may be gone."""
        self._stream.deafen()

    def may_send(self, kind: FrameType) -> bool:
        """Whether the protocol allows a frame of `kind` now."""
        with self._state:
            return self._connection.may_send(kind)

    def last_word(self) -> None:
        """We are about to close: let the peer read what we said last. (A socket that is closed while bytes of the
        peer lie unread resets the connection, and our word would be lost.) Takes no longer than the peer does to
        close, or `LAST_WORD_SECONDS`."""
        self._stop.set()
        deadline = self._clock.monotonic() + LAST_WORD_SECONDS
        waste = memoryview(bytearray(1 << 16))
        try:
            while self._clock.monotonic() < deadline and self._stream.receive_into(waste):
                pass
        except Disconnected:
            return

    def close(self) -> None:
        """Let go; whoever waits on the stream gets `Disconnected`."""
        self._stop.set()
        self._stream.close()
        if self._ticker is not None and self._ticker is not threading.current_thread():
            self._ticker.join()
