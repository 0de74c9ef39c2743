"""kubectl, typed, for end-to-end tests: objects in as dictionaries, objects out as dictionaries."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError, CommandFailed, TimedOut

Object = dict[str, Any]
T = TypeVar("T")


def wait_for(
    what: str,
    look: Callable[[], T],
    seconds: float,
    *,
    every: float = 0.25,
    explain: Callable[[], str] | None = None,
) -> T:
    """Look until `look()` gives something true, and return that. Raises TimedOut with what was last seen, and with
    what `explain()` says. A CommandFailed while looking (the API server is away, the object is not there yet) counts
    as "not yet"."""
    started = time.monotonic()
    while True:
        seen: object
        try:
            value = look()
            if value:
                return value
            seen = value
        except CommandFailed as e:
            seen = e.message
        if time.monotonic() - started > seconds:
            more = f"\n{explain()}" if explain is not None else ""
            raise TimedOut(f"waited {seconds:.0f} s for {what}; last seen: {seen!r}{more}")
        time.sleep(every)


class Kubectl:
    """Speaks to one cluster about one namespace (None: about none)."""

    def __init__(self, cluster: Cluster, namespace: str | None = None) -> None:
        self.cluster = cluster
        self.namespace = namespace

    def run(
        self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Any kubectl command. Raises CommandFailed unless `check` is off."""
        scope = ["--namespace", self.namespace] if self.namespace else []
        return self.cluster.kubectl(*scope, *words, check=check, stdin=stdin, timeout=timeout)

    def apply(self, *objects: Mapping[str, Any]) -> None:
        """Apply objects, in this order, by server-side apply. Raises CommandFailed with the API server's words."""
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.run("apply", "--server-side", "--force-conflicts", "--field-manager=tests", "-f", "-", stdin=listed)

    def refused(self, item: Mapping[str, Any]) -> str:
        """What the API server says against this object; an AssertionError if it takes it."""
        done = self.run("create", "--dry-run=server", "-f", "-", stdin=json.dumps(item), check=False)
        assert done.returncode != 0, f"the API server takes {item}"
        return done.stderr

    def get(self, kind: str, name: str) -> Object:
        """One object. Raises CommandFailed where there is none."""
        found: Object = json.loads(self.run("get", kind, name, "-o", "json").stdout)
        return found

    def find(self, kind: str, name: str) -> Object | None:
        """One object, or None where there is none."""
        done = self.run("get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def find_all(self, kind: str, labels: str = "") -> list[Object]:
        """All objects of a kind, by a label selector."""
        chosen = ["-l", labels] if labels else []
        found: list[Object] = json.loads(self.run("get", kind, *chosen, "-o", "json").stdout)["items"]
        return found

    def get_json(self, *words: str) -> Object:
        """`kubectl get WORDS -o json`."""
        found: Object = json.loads(self.run("get", *words, "-o", "json").stdout)
        return found

    def patch(self, kind: str, name: str, change: Mapping[str, Any]) -> None:
        """A JSON merge patch."""
        self.run("patch", kind, name, "--type=merge", "-p", json.dumps(change))

    def delete(self, kind: str, name: str, *, now: bool = False, wait: bool = True) -> None:
        """Delete one object; `now` leaves a pod no time. No error where there is none."""
        words = [*(["--now"] if now else []), f"--wait={str(wait).lower()}"]
        self.run("delete", kind, name, "--ignore-not-found", *words)

    def exec(self, pod: str, *command: str, stdin: str | None = None, check: bool = True) -> str:
        """Run a command in a pod's first container; returns what it printed."""
        words = ["exec", *(["-i"] if stdin is not None else []), pod, "--", *command]
        return self.run(*words, stdin=stdin, check=check).stdout

    def logs(self, pod: str, *words: str) -> str:
        """What a pod printed."""
        return self.run("logs", pod, *words).stdout

    def events(self, about: str = "") -> list[Object]:
        """Events of the namespace, oldest first; `about` chooses the name of the object they are about."""
        found = self.find_all("events")
        found.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or e["metadata"]["creationTimestamp"])
        return [event for event in found if not about or event["involvedObject"].get("name") == about]

    def wait_ready(self, *pods: str, seconds: float = 60) -> None:
        """Until the pods are Ready; on failure what happened to them is told."""
        for pod in pods:
            wait_for(f"pod {pod} to be Ready", partial(self._ready, pod), seconds, explain=self.diagnosis)

    def diagnosis(self) -> str:
        """Pods, claims, pairs and the last events of the namespace: what a person would look at first."""
        parts = []
        for words in (
            ("get", "pods,pvc,leases,configmaps", "-o", "wide"),
            ("get", "mirrorpairs", "-o", "yaml"),
            ("get", "events", "--sort-by=.metadata.creationTimestamp"),
        ):
            try:
                done = self.run(*words, "--request-timeout=10s", check=False, timeout=30)
                parts.append(f"$ kubectl {' '.join(words)}\n{(done.stdout or done.stderr)[-6000:]}")
            except ClusterError as e:
                parts.append(f"$ kubectl {' '.join(words)}\n{e.message}")
        return "\n".join(parts)

    def pod_logs(self, lines: int = 40) -> str:
        """The last lines of every pod of the namespace, of the run before too."""
        parts = []
        for pod in self.find_all("pods"):
            name = pod["metadata"]["name"]
            for previous in ((), ("--previous",)):
                done = self.run("logs", name, "--all-containers", f"--tail={lines}", *previous, check=False)
                if done.returncode == 0 and done.stdout:
                    parts.append(f"--- logs of {name} {' '.join(previous)}\n{done.stdout}")
        return "\n".join(parts)

    def _ready(self, pod: str) -> bool:
        found = self.find("pod", pod)
        return found is not None and condition(found, "Ready") == "True"


def condition(item: Mapping[str, Any], kind: str) -> str | None:
    """The status ("True", "False", "Unknown") of a condition of an object, or None where it has none."""
    for entry in item.get("status", {}).get("conditions", ()):
        if entry["type"] == kind:
            return str(entry["status"])
    return None


def condition_reason(item: Mapping[str, Any], kind: str) -> str | None:
    """The reason of a condition of an object, or None where it has none."""
    for entry in item.get("status", {}).get("conditions", ()):
        if entry["type"] == kind:
            return str(entry.get("reason", ""))
    return None


def names(items: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of objects."""
    return [str(item["metadata"]["name"]) for item in items]
