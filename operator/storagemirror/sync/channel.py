"""A connection with its stream: messages out from any thread, events in on one."""

from __future__ import annotations

import threading

from storagemirror.clock import Clock, SystemClock
from storagemirror.contract import Role
from storagemirror.errors import Disconnected
from storagemirror.sync.stream import Stream
from storagemirror.wire.connection import Connection, Event
from storagemirror.wire.content import Record
from storagemirror.wire.messages import FrameType, Message, Ping

TICK_SECONDS = 1.0
"""Something is sent at least this often."""
LAST_WORD_SECONDS = 5.0


class Channel:
    """Sends whole frames in order; answers nothing by itself but sends a Ping when all else is quiet."""

    def __init__(self, role: Role, stream: Stream, clock: Clock | None = None) -> None:
        self._connection = Connection(role)
        self._stream = stream
        self._clock = clock if clock is not None else SystemClock()
        # Two locks: who sends holds the first while it waits for the network, and then the second must be free, or
        # the two ends could wait for each other for ever.
        self._sending = threading.Lock()
        self._state = threading.Lock()
        self._quiet_since = self._clock.monotonic()
        self._stop = threading.Event()
        self._ticker: threading.Thread | None = None
        self.wire_bytes = 0
        """Sent so far, headers included, before TLS."""

    def send(self, message: Message) -> None:
        """`Disconnected` when the peer is gone."""
        with self._sending:
            with self._state:
                frame = self._connection.send(message)
            self._put(frame)

    def send_pack(self, records: list[Record], contents: list[bytes]) -> None:
        """See `Connection.send_pack`."""
        with self._sending:
            with self._state:
                prefix, body = self._connection.send_pack(records, contents)
            self._put(prefix)
            self._put(body)

    def send_data(self, offset: int, content: memoryview) -> None:
        """A piece of the large file that was begun."""
        with self._sending:
            with self._state:
                prefix = self._connection.send_data(offset, content.nbytes)
            self._put(prefix)
            self._put(content)

    def _put(self, data: bytes | memoryview) -> None:
        self._stream.send(data)
        self.wire_bytes += len(data)
        self._quiet_since = self._clock.monotonic()

    def receive(self) -> Event:
        """The next event that is no Ping. `Disconnected` at the end of the stream, or when the peer is silent."""
        while True:
            with self._state:
                event = self._connection.next_event()
            if event is None:
                view = self._connection.writable()
                count = self._stream.receive_into(view)
                if count == 0:
                    raise Disconnected("the peer closed the connection")
                self._connection.written(count)
            elif not isinstance(event, Ping):
                return event

    def start_ticking(self) -> None:
        """Send a Ping whenever nothing else was sent for a second."""
        self._ticker = threading.Thread(target=self._tick, name="ticker", daemon=True)
        self._ticker.start()

    def _tick(self) -> None:
        while not self._stop.wait(TICK_SECONDS / 2):
            if self._clock.monotonic() - self._quiet_since < TICK_SECONDS / 2:
                continue
            # Somebody who is sending now is sign of life enough; the peer reads as fast as it can.
            if not self._sending.acquire(blocking=False):
                continue
            try:
                with self._state:
                    frame = self._connection.send(Ping()) if self._connection.may_send(FrameType.PING) else b""
                if frame:
                    self._put(frame)
            except Disconnected:
                return
            finally:
                self._sending.release()

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
