"""A two-way stream of bytes whose death is noticed.

Two threads may use one stream at once: one receives, any send (one message at a time). OpenSSL allows only one call
at a time on a connection, so a TLS socket is made non-blocking and each call is made under a lock; nobody waits for
the network while holding it.

A stream is dead when nothing at all has come from the peer for `silence` seconds: both ends send something at least
every second (`storagemirror.sync.channel`). A peer that is alive but busy (waiting for its disk) may keep us from
sending for as long as it takes.

When something came is asked of the kernel, not of whoever receives: that thread may be waiting for a disk, and what it
reads then may be old.
"""

from __future__ import annotations

import contextlib
import fcntl
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from storagemirror.errors import Disconnected

SILENCE_SECONDS = 8.0
"""Without a byte from the peer for so long, it is given up."""

SLICE_SECONDS = 0.5
"""How long one wait lasts before the silence is looked at again."""

_LAST_DATA = 52
"""Offset of tcpi_last_data_recv in struct tcp_info (linux/tcp.h): milliseconds since data came, as u32."""
_BYTES_ACKED, _DELIVERY_RATE, _RWND_LIMITED = 120, 160, 176
"""Likewise, as u64: bytes acknowledged; bytes a second that were delivered lately, followed by the microseconds in
which data was on its way, and of these in which the peer had no room for more."""
_CLOSED = b"\x07"
"""The state TCP_CLOSE, the first byte of `struct tcp_info`."""
_TLS_RECORD = 16 << 10
"""So much may lie read from the socket and not yet handed over by OpenSSL."""
_AT_ONCE = 256 << 10
"""Bytes that are sent or received before the other direction has its turn."""
_LOOK_SECONDS = 0.01
_STUCK = 3
"""So many silences may nothing move, in and out, while bytes of the peer wait for us."""


@dataclass(frozen=True, slots=True)
class Transmitted:
    """What a connection has carried."""

    bytes: int
    """That the peer's machine has taken."""
    seconds: float
    """In which something was on its way while the peer had room for it."""
    rate: int
    """Bytes a second, lately, by the kernel's own estimate; 0: not known yet."""


def _in_records(call: Callable[[memoryview], int]) -> Callable[[memoryview], int]:
    """OpenSSL gives and takes one record a call: go on while records are full, without coming back for each."""

    def several(view: memoryview) -> int:
        done = last = call(view)
        most = min(view.nbytes, _AT_ONCE)
        while last == _TLS_RECORD and done < most:
            try:
                last = call(view[done:])
            except (OSError, ValueError):  # it would have to wait; or it is broken, and the next call says so too
                break
            done += last
        return done

    return several


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

    def finish(self) -> None:
        """What comes from now on is not wanted: `receive_into` gives what is here already, then 0. For any thread."""
        ...

    def quiet_seconds(self) -> float:
        """For how long nothing has come of the peer, whether or not anybody has read it."""
        ...

    def transmitted(self) -> Transmitted | None:
        """What the network alone has carried so far. None where nobody can say."""
        ...

    def delivered(self, seconds: float) -> bool:
        """Wait until the peer's machine has all that was sent, at most so long; whether it has."""
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
        self._give = _in_records(connection.send) if self._tls else connection.send
        self._get = _in_records(connection.recv_into) if self._tls else connection.recv_into
        self._silence = silence
        self._monotonic = monotonic
        self._heard = self._arrived = self._moved = monotonic()
        self._left: int | None = None
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
            sent, events = self._try(self._give, rest, select.POLLOUT)
            if sent is None:
                self._wait(events)
            elif sent == 0:  # OpenSSL, once the peer's end has been read: for ever
                raise Disconnected("the peer closed the connection")
            else:
                self._moved = self._monotonic()
                rest = rest[sent:]

    def receive_into(self, buffer: memoryview) -> int:
        """See `Stream`."""
        while True:
            if self._left is not None and self._left <= 0:
                return 0
            got, events = self._try(self._get, buffer, select.POLLIN)
            if got is not None:
                self._heard = self._moved = self._monotonic()
                self._ended = self._ended or got == 0
                if self._left is not None:
                    self._left -= got
                return got
            if self._left is not None:
                return 0
            self._wait(events)

    def deafen(self) -> None:
        """See `Stream`. The end of a stream counts for both directions: a peer that is gone may leave us with a full
        buffer and no word of it, where its reset is lost (a firewall that drops what it cannot place)."""
        self._ended = True

    def finish(self) -> None:
        """See `Stream`."""
        with self._lock:
            self._left = self._count(termios.FIONREAD) + _TLS_RECORD
            # What is here stays readable (Linux); whoever waits for more wakes up.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RD)

    def quiet_seconds(self) -> float:
        """See `Stream`."""
        with self._lock:
            self._look()
        return self._monotonic() - self._arrived

    def certificate(self) -> object:
        """The peer's, verified, as `SSLSocket.getpeercert` gives it; None without TLS."""
        with self._lock:
            return self._socket.getpeercert() if isinstance(self._socket, ssl.SSLSocket) else None

    def transmitted(self) -> Transmitted | None:
        """See `Stream`."""
        with self._lock:
            try:
                info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RWND_LIMITED + 8)
            except OSError:  # closed, or no TCP
                return None
        if len(info) < _RWND_LIMITED + 8:  # Linux before 4.10
            return None
        (acknowledged,) = struct.unpack_from("=Q", info, _BYTES_ACKED)
        rate, busy, no_room = struct.unpack_from("=QQQ", info, _DELIVERY_RATE)
        return Transmitted(acknowledged, max(0, busy - no_room) / 1e6, rate)

    def delivered(self, seconds: float) -> bool:
        """See `Stream`."""
        end = self._monotonic() + seconds
        while not self._closed:
            with self._lock:
                waiting, over = self._count(termios.TIOCOUTQ), self._is_over()
            if not waiting:
                return True
            if over or self._monotonic() >= end:
                return False
            time.sleep(_LOOK_SECONDS)
        return False

    def close(self) -> None:
        """See `Stream`."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._look()
            self._socket.close()

    def _look(self) -> None:
        """Find out when the last word came. Holds the lock."""
        now = self._monotonic()
        try:
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA + 4)
            room = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        except OSError:  # closed, or no TCP
            self._arrived = max(self._arrived, self._heard)
            return
        (quiet,) = struct.unpack_from("=I", info, _LAST_DATA)
        if self._count(termios.FIONREAD) > room // 4:
            quiet = 0  # it cannot say more before we have read that: the silence is ours
        self._arrived = max(self._arrived, now - quiet / 1000)

    def _is_over(self) -> bool:
        """Whether the peer has reset the connection: what it has not taken it never will. Holds the lock."""
        try:
            return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _CLOSED
        except OSError:  # closed by us, or no TCP
            return False

    def _count(self, request: int) -> int:
        """Bytes that lie unread, or unsent. Holds the lock."""
        if self._socket.fileno() < 0:
            return 0
        number = bytearray(4)
        try:
            fcntl.ioctl(self._socket.fileno(), request, number)
        except OSError:
            return 0
        return int(struct.unpack("=i", number)[0])

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
        # Not a sign of death: whoever receives on this stream may be busy, with the peer's bytes waiting for it. But
        # where nothing moves in either direction, these are all that it ever said: it takes nothing, and nor can we.
        poll.modify(self._socket.fileno(), select.POLLIN)
        if poll.poll(0) and self._monotonic() - self._moved < _STUCK * self._silence:
            self._heard = self._monotonic()
