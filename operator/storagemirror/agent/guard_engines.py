"""The guard's socket, and who is connected: engines, hardly ever more than one."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Iterator

from storagemirror.errors import ProtocolError
from storagemirror.sync import guardwords

_CONNECTIONS = 8


class Engines:
    """Listens at `path`, for the user it runs as alone. OSError."""

    def __init__(self, path: str, say: Callable[[str], None]) -> None:
        self._say = say
        self._connections: dict[int, socket.socket] = {}
        if os.path.lexists(path):  # of a guard before us
            os.unlink(path)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        old = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(old)
        self._listener.listen(_CONNECTIONS)

    def wait(self, wake: int, seconds: float) -> Iterator[tuple[socket.socket, list[str] | None]]:
        """Until something happens, `wake` is readable, or so long. What engines said; None from one that has gone, or
        said what makes no sense. `seconds` may be infinite."""
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._listener, select.POLLIN)
        for fd in self._connections:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(None if seconds == float("inf") else max(0.0, seconds * 1000)):
            if fd == self._listener.fileno():
                self._let_in()
            elif fd in self._connections:
                yield from self._hear(self._connections[fd])

    def tell(self, connection: socket.socket, word: str, *fields: object) -> bool:
        """Whether it could be told. If not it is gone, or does not read: then it is no use."""
        try:
            connection.send(guardwords.encode(word, *fields))
        except OSError:
            self.leave(connection)
            return False
        return True

    def leave(self, connection: socket.socket) -> None:
        """End it."""
        self._connections.pop(connection.fileno(), None)
        connection.close()

    def _let_in(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        if len(self._connections) >= _CONNECTIONS:
            connection.close()
        else:
            self._connections[connection.fileno()] = connection

    def _hear(self, connection: socket.socket) -> Iterator[tuple[socket.socket, list[str] | None]]:
        try:
            packet = connection.recv(guardwords.LONGEST_MESSAGE)
            if packet:
                yield connection, guardwords.decode(packet)
                return
        except BlockingIOError:
            return
        except ProtocolError as e:
            self._say(e.message)
        except OSError as e:
            self._say(f"an engine's connection broke: {e}")
        self.leave(connection)
        yield connection, None
