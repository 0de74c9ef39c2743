"""REST calls to a Kubernetes API server for tests: JSON in, JSON out, the status code told."""

from __future__ import annotations

import copy
import http.client
import json
import ssl
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster.errors import ClusterError, CommandFailed


class ApiRefused(ClusterError):
    """The API server answered with an error; `answer` holds its status code and words."""

    def __init__(self, what: str, answer: ApiAnswer) -> None:
        super().__init__(f"{what}: {answer.status} {answer.message}")
        self.answer = answer


@dataclass(frozen=True)
class ApiAnswer:
    """What came back: the HTTP status (or a program's exit status), the text, the value (None when not JSON), and
    the server's warnings."""

    status: int
    text: str
    value: Any = None
    warnings: tuple[str, ...] = field(default=())

    @property
    def message(self) -> str:
        """The message of a Status object, or the text."""
        if isinstance(self.value, dict) and isinstance(self.value.get("message"), str):
            return str(self.value["message"])
        return self.text

    @staticmethod
    def of_command(words: Sequence[str], check: bool, stdin: str | None) -> ApiAnswer:
        """Run a program; standard output, then standard error, is the text."""
        done = subprocess.run(words, check=False, text=True, capture_output=True, input=stdin, timeout=120)
        if check and done.returncode != 0:
            raise CommandFailed(words, done.returncode, done.stderr or done.stdout)
        try:
            value = json.loads(done.stdout)
        except ValueError:
            value = None
        return ApiAnswer(done.returncode, done.stdout + done.stderr, value)


class ApiClient:
    """Calls with one bearer token; a connection per call, so that a server that was started again is no surprise."""

    def __init__(self, host: str, port: int, ca_file: Path, token: str) -> None:
        self._host, self._port = host, port
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}

    def acting_as(self, user: str) -> ApiClient:
        """The same, in the name of `user` (the token's owner needs the right to impersonate)."""
        other = copy.copy(self)
        other._headers = self._headers | {"Impersonate-User": user}
        return other

    def get(self, path: str, *, check: bool = True) -> ApiAnswer:
        return self.call("GET", path, check=check)

    def post(self, path: str, body: dict[str, Any], *, check: bool = True) -> ApiAnswer:
        return self.call("POST", path, body, check=check)

    def put(self, path: str, body: dict[str, Any], *, check: bool = True) -> ApiAnswer:
        return self.call("PUT", path, body, check=check)

    def delete(self, path: str, *, check: bool = True) -> ApiAnswer:
        return self.call("DELETE", path, check=check)

    def merge(self, path: str, body: dict[str, Any], *, check: bool = True) -> ApiAnswer:
        """PATCH with a JSON merge patch."""
        return self.call("PATCH", path, body, kind="application/merge-patch+json", check=check)

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        kind: str = "application/json",
        check: bool = True,
    ) -> ApiAnswer:
        """One request; `ApiRefused` on 400 and above unless `check` is off; OSError when nobody answers."""
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=30)
        try:
            connection.request(
                method,
                path,
                body=None if body is None else json.dumps(body),
                headers=self._headers | {"Content-Type": kind},
            )
            response = connection.getresponse()
            text = response.read().decode()
            warnings = tuple(response.headers.get_all("Warning") or ())
        finally:
            connection.close()
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        answer = ApiAnswer(response.status, text, value, warnings)
        if check and answer.status >= 400:
            raise ApiRefused(f"{method} {path}", answer)
        return answer
