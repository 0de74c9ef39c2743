"""A stream whose other end is a script: no socket, no peer, no waiting for one."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable

from storagemirror.errors import Disconnected
from storagemirror.sync.stream import Transmitted
from storagemirror.wire.frame import HEADER
from storagemirror.wire.messages import FrameType
from tests.fuzz.frames import Frame


class Script:
    """As `storagemirror.sync.stream.Stream`. What a frame answers has come before the frame does, unless it does not
    come within `patience` seconds: then the peer speaks unasked. The end of the script is the end of the stream."""

    def __init__(self, frames: Iterable[Frame], patience: float = 0.03) -> None:
        self._frames = deque(frames)
        self._patience = patience
        self._news = threading.Condition()
        self._rest = memoryview(b"")
        self._heard = 0
        self._partial = bytearray()
        self._skip = 0
        self._closed = False
        self._deaf = False
        self.received = 0
        """Bytes that we were sent."""

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """Counts the frames that are not Pings; keeps nothing."""
        with self._news:
            if self._closed or self._deaf:
                raise Disconnected("the script is at its end")
            self.received += len(data)
            self._count(memoryview(data).cast("B"))
            self._news.notify_all()

    def _count(self, data: memoryview) -> None:
        while data.nbytes:
            skipped = min(self._skip, data.nbytes)
            self._skip -= skipped
            data = data[skipped:]
            missing = HEADER.size - len(self._partial)
            self._partial += data[:missing]
            data = data[missing:]
            if len(self._partial) == HEADER.size:
                kind, self._skip = HEADER.unpack(self._partial)
                self._partial.clear()
                self._heard += kind != FrameType.PING

    def transmitted(self) -> Transmitted | None:
        """No network is in between."""
        return

    def receive_into(self, buffer: memoryview) -> int:
        """The next of the script; 0 at its end."""
        with self._news:
            while not self._rest.nbytes:
                if self._closed:
                    raise Disconnected("the connection was closed")
                if not self._frames:
                    return 0
                frame = self._frames[0]
                if self._heard < frame.after:
                    self._news.wait_for(lambda: self._closed or self._heard >= frame.after, self._patience)  # noqa: B023
                self._rest = memoryview(self._frames.popleft().wire)
            count = min(len(buffer), self._rest.nbytes)
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count

    def deafen(self) -> None:
        """See `Stream`."""
        self._deaf = True

    def finish(self) -> None:
        """See `Stream`."""
        with self._news:
            self._frames.clear()

    def quiet_seconds(self) -> float:
        """See `Stream`."""
        return 0.0

    def delivered(self, seconds: float) -> bool:
        """See `Stream`."""
        return True

    def close(self) -> None:
        """See `Stream`."""
        with self._news:
            self._closed = True
            self._news.notify_all()
