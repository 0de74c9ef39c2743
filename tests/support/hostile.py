"""A target that says what it likes to a real source, and a clock that is ahead."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from storagemirror.clock import Clock, SystemClock
from storagemirror.contract import Role
from storagemirror.entry import View
from storagemirror.errors import StorageMirrorError
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.requests import MirrorOptions
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Connection, Event
from tests.support.engine import PAIR, VOLUME, Recorder

WELCOME = m.Welcome(m.PROTOCOL_VERSION, 1, View(), has_entries=True, features=m.FEATURES)


def mirror_all(session: SourceSession) -> None:
    """What a source does first."""
    session.mirror(MirrorOptions())


class Fast(SystemClock):
    """A clock that goes so many times as fast."""

    def __init__(self, times: float) -> None:
        self._began = time.monotonic()
        self._times = times

    def monotonic(self) -> float:
        """Seconds."""
        return self._began + (time.monotonic() - self._began) * self._times


class LyingTarget:
    """Greets the source and lets it `work`, in a thread; `failure` is what it died of."""

    def __init__(
        self,
        source: Path,
        work: Callable[[SourceSession], None] = mirror_all,
        *,
        welcome: m.Welcome | None = WELCOME,
        silence: float = 2,
        clock: Clock | None = None,
    ) -> None:
        """`welcome`: None leaves the greeting to the test."""
        ours, theirs = socket.socketpair()
        self.socket = ours
        self.connection = Connection(Role.TARGET)
        self.failure: list[StorageMirrorError] = []
        self.volume = SourceVolume.open(str(source))
        who = hello(PAIR, VOLUME, 1, 1, self.volume.identity)
        self.session = SourceSession(self.volume, SocketStream(theirs, silence=silence), who, Recorder(), clock)

        def run() -> None:
            try:
                self.session.handshake()
                work(self.session)
            except StorageMirrorError as e:
                self.failure.append(e)

        self.thread = threading.Thread(target=run)
        self.thread.start()
        if welcome is not None:
            self.hear(m.Hello)
            self.say(welcome)

    def hear(self, kind: type[Event] | None = None) -> Event:
        """What the source says next, but for its Pings; of that kind, if one is given."""
        while True:
            event = self.connection.next_event()
            if event is None:
                count = self.socket.recv_into(self.connection.writable())
                assert count, "the source has closed the connection"
                self.connection.written(count)
            elif not isinstance(event, m.Ping) and (kind is None or isinstance(event, kind)):
                return event

    def say(self, message: m.Message) -> None:
        """One frame."""
        self.socket.sendall(self.connection.send(message))

    def end(self, seconds: float = 20) -> StorageMirrorError | None:
        """The source's error, once it has ended by itself."""
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "the source hangs"
        self.session.close()
        self.socket.close()
        self.volume.close()
        return self.failure[0] if self.failure else None
