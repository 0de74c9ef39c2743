"""A two-way stream of bytes whose death is noticed.

Two threads may use one stream at once: one receives, any send (one message at a time). OpenSSL allows only one call
at a time on a connection, so a TLS socket is made non-blocking and each call is made under a lock; nobody waits for
the network while holding it.

A stream is dead when nothing at all has come from the peer for `silence` seconds: both ends send something at least
every second (`storagemirror.sync.channel`). A peer that is alive but busy (waiting for its disk) may keep us from
sending for as long as it takes.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from storagemirror.errors import Disconnected

SILENCE_SECONDS = 8.0
"""Without a byte from the peer for so long, it is given up."""

SLICE_SECONDS = 0.5
"""How long one wait lasts before the silence is looked at again."""


class Stream(Protocol):
    """What a session needs of a connection."""

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it; `Disconnected` when the peer is gone. One thread at a time."""
        ...

    def receive_into(self, buffer: memoryview) -> int:
        """Bytes put into `buffer`, 0 at the orderly end; `Disconnected` when the peer is gone or silent."""
        ...

    def deafen(self) -> None:
        """Nobody receives any more: whoever waits in `send`, now or later, gets `Disconnected`."""
        ...

    def close(self) -> None:
        """Let go, at once; whoever waits in `send` or `receive_into` gets `Disconnected`."""
        ...


class SocketStream:
    """A connected socket, plain or TLS (handshake done). Takes it over: makes it non-blocking, closes it."""

    def __init__(
        self,
        connection: socket.socket,
        *,
        silence: float = SILENCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._socket = connection
        self._tls = hasattr(connection, "pending")
        self._lock = threading.Lock()
        self._silence = silence
        self._monotonic = monotonic
        self._heard = monotonic()
        self._closed = False
        self._ended = False
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            connection.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        connection.setblocking(False)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """See `Stream`."""
        rest = memoryview(data).cast("B")
        while rest.nbytes:
            sent, events = self._try(self._socket.send, rest, select.POLLOUT)
            if sent is None:
                self._wait(events)
            else:
                rest = rest[sent:]

    def receive_into(self, buffer: memoryview) -> int:
        """See `Stream`."""
        while True:
            got, events = self._try(self._socket.recv_into, buffer, select.POLLIN)
            if got is not None:
                self._heard = self._monotonic()
                self._ended = self._ended or got == 0
                return got
            self._wait(events)

    def deafen(self) -> None:
        """See `Stream`. The end of a stream counts for both directions: a peer that is gone may leave us with a full
        buffer and no word of it, where its reset is lost (a firewall that drops what it cannot place)."""
        self._ended = True

    def close(self) -> None:
        """See `Stream`."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._socket.close()

    def _try(self, call: Callable[[memoryview], int], view: memoryview, events: int) -> tuple[int | None, int]:
        """One call that does not wait; `(None, what to wait for)` when it would have to."""
        try:
            if not self._tls:
                return call(view), 0
            with self._lock:
                return call(view), 0
        except BlockingIOError:
            return None, events
        except InterruptedError:
            return None, events
        except OSError as e:
            name = type(e).__name__
            if name == "SSLWantReadError":
                return None, select.POLLIN
            if name == "SSLWantWriteError":
                return None, select.POLLOUT
            if name == "SSLZeroReturnError":
                return 0, 0
            raise Disconnected(f"the connection broke: {e}") from e
        except ValueError as e:
            raise Disconnected(f"the connection was closed: {e}") from e

    def _wait(self, events: int) -> None:
        if self._closed:
            raise Disconnected("the connection was closed")
        if self._ended:
            raise Disconnected("the peer closed the connection")
        quiet = self._monotonic() - self._heard
        if quiet > self._silence:
            raise Disconnected(f"nothing was heard of the peer for {quiet:.1f} s")
        poll = select.poll()
        try:
            poll.register(self._socket.fileno(), events)
        except ValueError as e:
            raise Disconnected("the connection was closed") from e
        if poll.poll(SLICE_SECONDS * 1000) or events == select.POLLIN:
            return
        # Not a sign of death: whoever receives on this stream may be busy, with the peer's bytes waiting for it.
        poll.modify(self._socket.fileno(), select.POLLIN)
        if poll.poll(0):
            self._heard = self._monotonic()
