"""A relay between two ends of a TCP connection, that counts what passes: bytes on the wire, whoever sends them."""

from __future__ import annotations

import contextlib
import socket
import threading

_CHUNK = 1 << 16
_BUFFER = 64 << 10
"""Small, so that little waits here that the ends take for sent."""


class Relay:
    """Listens on a port of its own; each connection is passed on to `upstream` as it is then."""

    def __init__(self) -> None:
        self.upstream = 0
        """Port on this machine."""
        self.forth = 0
        """Bytes from those who dialled."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._flows = threading.Event()
        self._flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def hold(self) -> None:
        """From now on what comes is kept here, in both directions, until the cut."""
        self._flows.clear()

    def cut(self) -> None:
        """End all connections, with what was held of them; new ones are passed on."""
        self._cut()
        self._flows.set()

    def close(self) -> None:
        """Cut everything."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.cut()

    def _cut(self) -> None:
        ends, self._ends = self._ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._socket.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.upstream))
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
            self._ends += [near, far]
            threading.Thread(target=self._pass, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(far, near, False), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, forth: bool) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(_CHUNK):
                self._flows.wait()
                if forth:
                    self.forth += len(data)
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
