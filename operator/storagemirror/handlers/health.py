"""Is the operator alive: asked by the kubelet over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from storagemirror.clock import Clock

STALE_SECONDS = 180.0
"""A loop that has not come round for so long hangs. Longer than any request may take, with its retries."""


class Pulse:
    """When each loop last came round. Safe for threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}

    def beat(self, loop: str) -> None:
        """`loop` has come round, whether or not it found the API server."""
        with self._lock:
            self._last[loop] = self._clock.monotonic()

    def stale(self) -> Mapping[str, float]:
        """Loops that hang, and for how many seconds."""
        with self._lock:
            now = self._clock.monotonic()
            return {loop: now - at for loop, at in self._last.items() if now - at > STALE_SECONDS}


def serve_health(pulse: Pulse, port: int) -> ThreadingHTTPServer:
    """Answer /healthz and /readyz on `port` (0: any free one) from a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path not in ("/healthz", "/readyz"):
                self.send_error(404)
                return
            stale = pulse.stale()
            text = "; ".join(f"{loop} hangs for {age:.0f} s" for loop, age in sorted(stale.items())) or "ok"
            body = f"{text}\n".encode()
            self.send_response(503 if stale else 200)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name for it
            """Quiet: the kubelet asks every few seconds."""

    server = ThreadingHTTPServer(("", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server
