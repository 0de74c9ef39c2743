"""The target's door: takes connections, lets in who proves to be the source of this volume, one at a time.

Who connects and says nothing must not keep the source out: handshakes run beside each other, each with a time limit;
when there are too many the oldest is turned away (ours takes milliseconds). Nothing of a stranger's is read beyond
TLS.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Sequence

from storagemirror.agent.tls import Tls
from storagemirror.errors import BadInput, Disconnected, Refused, StorageMirrorError
from storagemirror.sync.stream import SocketStream

log = logging.getLogger("storagemirror.agent")

MOST_HANDSHAKES = 16
KEEPALIVE = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))


class Listener:
    """`offer` is called, from a thread of its own, with each connection of a peer that is expected."""

    def __init__(
        self,
        port: int,
        tls: Tls,
        expected: Callable[[], str | Sequence[str] | None],
        offer: Callable[[SocketStream], None],
        *,
        host: str = "",
    ) -> None:
        """`expected` gives the peer's name, or those of several; None while nobody is expected. Port 0 takes any;
        `host`: where, else everywhere."""
        self._tls = tls
        self._expected = expected
        self._offer = offer
        self._lock = threading.Lock()
        self._greeted: dict[int, socket.socket] = {}  # oldest first
        self._closing = False
        try:
            self._socket = _listen_at(host, port) if host else _listen(port)
        except OSError as e:
            raise BadInput(f"cannot listen on TCP port {port}: {e}", reason="PortTaken") from e
        self._thread = threading.Thread(target=self._accept, name="listener", daemon=True)

    @property
    def port(self) -> int:
        """Where we listen."""
        return int(self._socket.getsockname()[1])

    @property
    def address(self) -> str:
        """Of this machine, where we listen."""
        return str(self._socket.getsockname()[0])

    def start(self) -> None:
        """Begin to let in."""
        self._thread.start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._closing = True
        # Closing a socket does not wake an accept; shutting it down does.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(1)
        self._socket.close()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, address = self._socket.accept()
            except OSError as e:
                if self._closing:
                    return
                log.warning("cannot accept a connection: %s", e)
                threading.Event().wait(0.5)
                continue
            with self._lock:
                if len(self._greeted) >= MOST_HANDSHAKES:
                    oldest = self._greeted.pop(next(iter(self._greeted)))
                    with contextlib.suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)
                # A handle of our own, so that its thread may close its one meanwhile.
                handle = connection.dup()
                self._greeted[handle.fileno()] = handle
            threading.Thread(target=self._greet, args=(connection, address[0], handle), daemon=True).start()

    def _greet(self, connection: socket.socket, address: str, handle: socket.socket) -> None:
        try:
            peer = self._expected()
            if peer is None:
                connection.close()
                return
            for option, value in KEEPALIVE:
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            self._offer(SocketStream(self._tls.accept(connection, peer)))
        except (StorageMirrorError, OSError) as e:
            level = logging.WARNING if isinstance(e, (Refused, BadInput)) else logging.INFO
            if not isinstance(e, Disconnected) or not self._closing:
                log.log(level, "%s is not let in: %s", address, e)
            connection.close()
        finally:
            with self._lock:
                self._greeted.pop(handle.fileno(), None)
                handle.close()


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128)
        except OSError as e:
            log.info("no IPv6 here (%s): listening on IPv4 alone", e)
    return socket.create_server(("0.0.0.0", port), backlog=128)  # noqa: S104 (a pod has one network, its own)


def _listen_at(host: str, port: int) -> socket.socket:
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address, family=family, backlog=128)
