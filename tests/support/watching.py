"""Every state of some objects that a watch of the API told: what came and went between two looks is seen as well."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cluster.cluster import Cluster

Json = dict[str, Any]


@dataclass(frozen=True)
class Seen:
    """One event of the watch: when it came (seconds since 1970), ADDED, MODIFIED or DELETED, and the object."""

    at: float
    event: str
    object: Json


class Watching:
    """A `kubectl get --watch` that is started again whenever it ends (the API server may be away)."""

    def __init__(self, cluster: Cluster, namespace: str, *words: str) -> None:
        self.history: list[Seen] = []
        self._rules: list[tuple[Callable[[Seen], bool], Callable[[Seen], None]]] = []
        self._command = cluster.kubectl_command(
            "-n", namespace, "get", *words, "--watch", "--output-watch-events", "-o", "json"
        )
        self._process: subprocess.Popen[str] | None = None
        self._ended = False
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def once(self, when: Callable[[Seen], bool], then: Callable[[Seen], None]) -> None:
        """Do something at the first event (from now on, or the latest one) of which `when` holds, at once, in the
        watch's own thread."""
        latest = self.history[-1] if self.history else None
        if latest is not None and when(latest):
            then(latest)
        else:
            self._rules.append((when, then))

    def stop(self) -> None:
        """Look no more."""
        self._ended = True
        if self._process is not None:
            self._process.kill()
        self._thread.join(10)

    def _follow(self) -> None:
        while not self._ended:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
            self._read(self._process)
            self._process.wait()
            time.sleep(0.3)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            event = json.loads(line)
            if event["type"] in ("ADDED", "MODIFIED", "DELETED"):
                self._tell(Seen(time.time(), event["type"], event["object"]))

    def _tell(self, seen: Seen) -> None:
        self.history.append(seen)
        due = [rule for rule in self._rules if rule[0](seen)]
        self._rules = [rule for rule in self._rules if rule not in due]
        for _, then in due:
            then(seen)
