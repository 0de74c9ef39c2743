"""A process: stands at the API server's address and answers 503 to everything, over the API server's own certificate.

`python -m tests.cluster.unavailable CERTIFICATE KEY PORT`. The body is the Status object Kubernetes would send.
"""

from __future__ import annotations

import http.server
import json
import ssl
import sys

BODY = json.dumps(
    {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the server is currently unable to handle the request",
        "reason": "ServiceUnavailable",
        "code": 503,
    }
).encode()


class Unavailable(http.server.BaseHTTPRequestHandler):
    """503, whatever is asked."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(length)
        self.send_response(503)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(BODY)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """One line a request is too much for what only says no."""


class Server(http.server.ThreadingHTTPServer):
    """Shakes hands over TLS in the connection's own thread, so that a slow client holds up nobody."""

    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients come and go."""


def main(words: list[str]) -> None:
    """Serve until killed."""
    certificate, key, port = words
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = Server(("0.0.0.0", int(port)), Unavailable)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
