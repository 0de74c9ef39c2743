"""A relay that brings everything, and each piece so much later."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque

from tests.support.relay import Relay

_CHUNK = 1 << 16


class SlowLink(Relay):
    """`delay`: seconds from when a piece came to when it is passed on; the same in both directions."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        super().__init__()

    def _pass(self, one: socket.socket, other: socket.socket, forth: bool) -> None:
        waiting: deque[tuple[float, bytes]] = deque()
        news = threading.Condition()

        def bring() -> None:
            while True:
                with news:
                    news.wait_for(lambda: waiting)
                    due, data = waiting.popleft()
                time.sleep(max(0.0, due - time.monotonic()))
                self._flows.wait()
                with contextlib.suppress(OSError):
                    if data:
                        other.sendall(data)
                    else:
                        other.shutdown(socket.SHUT_WR)
                if not data:
                    return

        threading.Thread(target=bring, daemon=True).start()
        data = b"first"
        while data:
            try:
                data = one.recv(_CHUNK)
            except OSError:
                data = b""
            with news:
                waiting.append((time.monotonic() + self.delay, data))
                news.notify_all()
