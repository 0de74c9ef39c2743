"""The few calls an agent makes to the Kubernetes API, by the standard library: a client library costs 25 to 45 MB.

Credentials are read again for each connection: the kubelet replaces the token and the CA while we run. An answer is a
value or a named error: `ApiUnavailable` is worth trying again soon, `ApiRefused` only slowly, since somebody has to
change something first.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

from storagemirror.agent.settings import ApiSettings
from storagemirror.errors import ApiUnavailable, BadInput, Permanent

CALL_SECONDS = 10.0
WATCH_SECONDS = 60
"""A watch is ended by the server after so long and begun again: one that has died in silence is noticed."""
_LINE_LIMIT = 8 << 20


class ApiRefused(Permanent):
    """The API server says no: 403 (rights), 404 (not there), and what else no retry mends."""

    reason = "ApiRefused"

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status


class WatchExpired(ApiUnavailable):
    """410: the resource version is too old; get the object again."""

    reason = "WatchExpired"


class WatchEvent(msgspec.Struct, frozen=True):
    """One line of a watch. `object` is left as it came."""

    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct, frozen=True):
    """What of a `Status` object tells what went wrong."""

    message: str = ""
    reason: str = ""
    code: int = 0


class ApiClient:
    """One connection, kept open; for one thread. Only `interrupt` may be called from another."""

    def __init__(self, settings: ApiSettings, timeout: float = CALL_SECONDS) -> None:
        self._settings = settings
        self._timeout = timeout
        self._connection: http.client.HTTPSConnection | None = None

    def get(self, path: str) -> bytes:
        """The object at `path`, as JSON."""
        return self._call("GET", path, None)

    def merge(self, path: str, patch: Mapping[str, Any]) -> bytes:
        """JSON merge patch (RFC 7386); returns the object as it is now."""
        return self._call("PATCH", path, msgspec.json.encode(patch))

    def watch(self, path: str, query: Mapping[str, str]) -> Iterator[WatchEvent]:
        """What happens to the objects at `path` from `query["resourceVersion"]` on, until the server ends the watch.

        Bookmarks are among the events. Raises `WatchExpired` when the resource version is too old.
        """
        full = {"watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS), **query}
        response = self._open("GET", f"{path}?{urlencode(full)}", None)
        try:
            if self._connection is not None and isinstance(self._connection.sock, socket.socket):
                self._connection.sock.settimeout(WATCH_SECONDS + self._timeout)
            yield from self._events(response)
        except (OSError, http.client.HTTPException) as e:
            raise ApiUnavailable(f"the watch broke: {_said(e)}") from e
        finally:
            # The rest of a chunked answer cannot be skipped: this connection is of no more use.
            self.close()

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def interrupt(self) -> None:
        """Break a call that waits for an answer: it raises `ApiUnavailable`."""
        connection = self._connection
        if connection is not None and isinstance(connection.sock, socket.socket):
            with contextlib.suppress(OSError):
                # The plain socket's shutdown: that of SSLSocket takes the TLS state from under the other thread.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def _events(self, response: http.client.HTTPResponse) -> Iterator[WatchEvent]:
        while line := response.readline(_LINE_LIMIT):
            try:
                event = msgspec.json.decode(line, type=WatchEvent)
            except msgspec.MsgspecError as e:
                raise ApiUnavailable(f"expected a watch event in JSON: {e}") from e
            if event.type == "ERROR":
                status = _status(bytes(event.object))
                kind = WatchExpired if status.code == 410 else ApiUnavailable
                raise kind(f"the watch ended: {status.code} {status.reason} {status.message}")
            yield event

    def _call(self, method: str, path: str, body: bytes | None) -> bytes:
        kept = self._connection is not None
        try:
            return self._open(method, path, body).read()
        except ApiUnavailable:
            self.close()
            if not kept:
                raise
        except (OSError, http.client.HTTPException) as e:
            self.close()
            if not kept:
                raise ApiUnavailable(f"{method} {path}: {_said(e)}") from e
        # The server has closed a connection that was idle: that says nothing yet. Both calls may be made twice.
        return self._call(method, path, body)

    def _open(self, method: str, path: str, body: bytes | None) -> http.client.HTTPResponse:
        """Send a request; returns the response with its body unread where it is good, else raises."""
        try:
            connection = self._connect()
            headers = {"Authorization": f"Bearer {self._token()}", "Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = "application/merge-patch+json"
            connection.request(method, path, body=body, headers=headers)
            response = connection.getresponse()
            if response.status < 300:
                return response
            text = response.read(_LINE_LIMIT)
        except (OSError, http.client.HTTPException) as e:
            self.close()
            raise ApiUnavailable(f"the API server cannot be reached: {_said(e)}") from e
        raise _refusal(method, path.partition("?")[0], response.status, text)

    def _connect(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            at = self._settings
            context = ssl.create_default_context(cafile=at.ca_file)
            self._connection = http.client.HTTPSConnection(at.host, at.port, timeout=self._timeout, context=context)
        return self._connection

    def _token(self) -> str:
        with open(self._settings.token_file, encoding="ascii") as f:
            token = f.read().strip()
        if not token.isprintable() or not token:
            raise BadInput(f"expected a token in {self._settings.token_file}")
        return token


def _refusal(method: str, path: str, code: int, text: bytes) -> ApiUnavailable | ApiRefused:
    said = _status(text).message or text[:200].decode(errors="replace")
    message = f"{method} {path}: {code} {said}"
    if code == 410:
        return WatchExpired(message)
    if code in (401, 408, 409, 429) or code >= 500:
        # 401: the token was replaced just now, or the API server is starting.
        return ApiUnavailable(message)
    hint = {
        403: "the operator gives this right by a Role of the same name; it may not be there yet",
        404: "the operator makes it; it may not be there yet, or the pair was deleted",
    }.get(code, "")
    return ApiRefused(code, message, hint)


def _status(text: bytes) -> _Status:
    try:
        return msgspec.json.decode(text, type=_Status)
    except msgspec.MsgspecError:
        return _Status()


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
