"""A stream whose other end is a script: no socket, no peer, no waiting for one."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterable

from storagemirror.errors import Disconnected
from storagemirror.wire.frame import HEADER
from storagemirror.wire.messages import FrameType
from tests.fuzz.frames import ANSWERED, PER_KIND, Frame

_IMPATIENCE = 0.02


class Script:
    """As `storagemirror.sync.stream.Stream`. What a frame answers has come before the frame does, unless it does not
    come within `patience` seconds (less, once it did not): then the peer speaks unasked. The end of the script is the
    end of the stream."""

    def __init__(self, frames: Iterable[Frame], patience: float = 0.5) -> None:
        self._frames = deque(frames)
        self._patience = patience
        self._news = threading.Condition()
        self._rest = memoryview(b"")
        self._heard = self._said_at = 0
        self._kinds: Counter[int] = Counter()
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
                self._kinds[kind] += 1

    def transmitted(self) -> None:
        """No network is in between."""

    def receive_into(self, buffer: memoryview) -> int:
        """The next of the script; 0 at its end."""
        with self._news:
            while not self._rest.nbytes:
                if self._closed:
                    raise Disconnected("the connection was closed")
                if not self._frames:
                    return 0
                frame = self._frames[0]
                if not self._may_come(frame):
                    answered = self._news.wait_for(lambda: self._closed or self._may_come(frame), self._patience)  # noqa: B023
                    # Out of step: what is answered is not what was recorded any more.
                    self._patience = self._patience if answered else min(self._patience, _IMPATIENCE)
                self._said_at = self._heard
                self._rest = memoryview(self._frames.popleft().wire)
            count = min(len(buffer), self._rest.nbytes)
            buffer[:count] = self._rest[:count]
            self._rest = self._rest[count:]
            return count

    def _may_come(self, frame: Frame) -> bool:
        if frame.after == ANSWERED:
            return self._heard > self._said_at
        kind, count = divmod(frame.after, PER_KIND)
        return (self._kinds[kind] if kind else self._heard) >= count

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
