"""A small API server for tests of agents that need no real one: ConfigMaps and Leases, GET, merge PATCH and watch.

Kept honest by `tests.support.agent_api_contract`, which runs against this and against a real kube-apiserver.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from storagemirror.agent.settings import ApiSettings
from storagemirror.contract import ORDER_KEY, REPORT_ANNOTATION, Order, Report, decode, encode
from tests.support.agentcerts import Authority

TOKEN = "a-token-of-the-tests"


def config_map(namespace: str, name: str) -> str:
    """Its path in the API."""
    return f"/api/v1/namespaces/{namespace}/configmaps/{name}"


def lease(namespace: str, name: str) -> str:
    """Its path in the API."""
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"


class Store:
    """Objects by path, a history for watches, one counter of versions."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.objects: dict[str, dict[str, Any]] = {}
        self.history: list[tuple[int, str, str, dict[str, Any]]] = []
        self.oldest = 0
        self.version = 100
        self.requests: list[str] = []

    def put(self, path: str, value: dict[str, Any]) -> None:
        with self.changed:
            kind = "MODIFIED" if path in self.objects else "ADDED"
            self._keep(kind, path, value)
            self.objects[path] = value

    def delete(self, path: str) -> None:
        with self.changed:
            self._keep("DELETED", path, self.objects.pop(path))

    def merge(self, path: str, patch: dict[str, Any]) -> dict[str, Any] | None:
        with self.changed:
            if path not in self.objects:
                return None
            value: dict[str, Any] = merged(self.objects[path], patch)
            self.put(path, value)
            return value

    def expire(self) -> None:
        """Forget the history: watches from before get 410."""
        with self.changed:
            self.version += 1
            self.history.clear()
            self.oldest = self.version
            self.changed.notify_all()

    def _keep(self, kind: str, path: str, value: dict[str, Any]) -> None:
        self.version += 1
        value.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        self.history.append((self.version, kind, path, json.loads(json.dumps(value))))
        self.changed.notify_all()


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query).items()}
        if not self._allowed("GET " + self.path):
            return
        if query.get("watch") == "1":
            self._watch(url.path, query)
        elif (value := self.server.store.objects.get(url.path)) is None:
            self._status(404, "NotFound")
        else:
            self._json(200, value)

    def do_PATCH(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._allowed("PATCH " + self.path):
            return
        if self.headers["Content-Type"] != "application/merge-patch+json":
            self._status(415, "UnsupportedMediaType")
        elif (value := self.server.store.merge(self.path, json.loads(body))) is None:
            self._status(404, "NotFound")
        else:
            self._json(200, value)

    def _allowed(self, line: str) -> bool:
        self.server.store.requests.append(line)
        if self.server.unavailable:
            self._status(503, "ServiceUnavailable")
        elif self.headers.get("Authorization") != f"Bearer {self.server.token}":
            self._status(401, "Unauthorized")
        else:
            return True
        return False

    def _watch(self, path: str, query: dict[str, str]) -> None:
        store, at = self.server.store, int(query["resourceVersion"])
        wanted = f"{path}/{query['fieldSelector'].removeprefix('metadata.name=')}"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while not self.server.stopping:
                with store.changed:
                    if at < store.oldest:
                        self._chunk({"type": "ERROR", "object": _status(410, "Expired")})
                        return self._chunk(None)
                    if not self._news(at):
                        self._chunk({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(at)}}})
                    if at < store.oldest:
                        continue  # expired while we waited: what came with it is in no history
                    news = [(k, o) for v, k, p, o in store.history if v > at and p == wanted]
                    at = store.version
                for kind, value in news:
                    self._chunk({"type": kind, "object": value})
        except OSError:
            pass
        self.close_connection = True
        return None

    def _news(self, at: int) -> bool:
        store = self.server.store
        return store.changed.wait_for(lambda: store.version > at or self.server.stopping, 5)

    def _chunk(self, value: dict[str, Any] | None) -> None:
        data = b"" if value is None else json.dumps(value).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def _status(self, code: int, reason: str) -> None:
        self._json(code, _status(code, reason))

    def _json(self, code: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's own name)
        """Say nothing."""


def _status(code: int, reason: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": f"it is {reason}"}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, store: Store, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.store = store
        self.token = TOKEN
        self.unavailable = False
        self.stopping = False
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is no news."""


class SmallApi:
    """The server; `stop` and `start` are an outage that keeps the objects."""

    def __init__(self, directory: Path) -> None:
        self.store = Store()
        directory.mkdir(exist_ok=True)
        self._files = Authority("small-api").write_server(directory / "api")
        self._token_file = directory / "token"
        self._port = 0
        self.start()
        self.renew_token(TOKEN)

    def start(self) -> None:
        """Listen."""
        self._server = _Server(self.store, self._port)
        self._port = self._server.server_address[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._files / "tls.crt", self._files / "tls.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Be gone: connections are refused, watches end."""
        self._server.stopping = True
        with self.store.changed:
            self.store.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        for connection in list(self._server.connections):
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """While entered, nobody answers."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """While entered, each request is answered with 503."""
        self._server.unavailable = True
        try:
            yield
        finally:
            self._server.unavailable = False

    def renew_token(self, token: str) -> None:
        """Give out another token, as the kubelet does; the old one is no longer good."""
        self._server.token = token
        self._token_file.write_text(token + "\n")

    def settings(self) -> ApiSettings:
        """How an agent reaches it."""
        return ApiSettings("127.0.0.1", self._port, str(self._files / "ca.crt"), str(self._token_file))

    def make_lease(self, namespace: str, name: str) -> None:
        """As the operator makes it for an agent."""
        self.store.put(lease(namespace, name), {"metadata": {"name": name}, "spec": {}})

    def put_order(self, namespace: str, name: str, order: Order) -> None:
        """As the operator writes it."""
        self.store.put(config_map(namespace, name), {"metadata": {"name": name}, "data": {ORDER_KEY: encode(order)}})

    def put_data(self, namespace: str, name: str, data: dict[str, str]) -> None:
        """An order that is none."""
        self.store.put(config_map(namespace, name), {"metadata": {"name": name}, "data": data})

    def delete_order(self, namespace: str, name: str) -> None:
        """The ConfigMap goes."""
        self.store.delete(config_map(namespace, name))

    def lease(self, namespace: str, name: str) -> dict[str, Any]:
        """As it is now."""
        return self.store.objects[lease(namespace, name)]

    def report(self, namespace: str, name: str) -> Report | None:
        """What the agent told last."""
        text = self.lease(namespace, name)["metadata"].get("annotations", {}).get(REPORT_ANNOTATION)
        return None if text is None else decode(Report, text)
