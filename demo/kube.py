"""kubectl and helm against one cluster and one namespace."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from demo.screen import Failed, Step

T = TypeVar("T")
Json = dict[str, Any]
"""An object of the API as kubectl prints it: what the demo reads of it is in many kinds, none of them ours."""

POLL_SECONDS = 0.4


@dataclass(frozen=True)
class Kube:
    """Where kubectl and helm are, which cluster they speak to, and the demo's namespace."""

    kubectl: str
    helm: str
    kubeconfig: Path
    namespace: str

    def command(self, *words: str) -> str:
        """The kubectl command that a person would type."""
        return " ".join(["kubectl", "-n", self.namespace, *words])

    def run(self, *words: str, stdin: str | None = None, limit: float = 120) -> str:
        """Run kubectl in the demo's namespace; what it printed. `Failed` with what it said if it fails."""
        return self._run([self.kubectl, "-n", self.namespace, *words], stdin, limit)

    def run_helm(self, *words: str) -> str:
        """Run helm; what it printed."""
        return self._run([self.helm, *words], None, 300)

    def get(self, *words: str) -> Json:
        """One object or list of the API."""
        found: Json = json.loads(self.run("get", *words, "-o", "json"))
        return found

    def python(self, pod: str, container: str, script: str, *words: str, limit: float = 120) -> str:
        """Run a program in a container that has python3; what it printed."""
        command = ("exec", "-i", pod, "-c", container, "--", "python3", "-", *words)
        return self.run(*command, stdin=script, limit=limit)

    def find(self, *words: str) -> Json | None:
        """One object, or None when there is none of that name."""
        text = self.run("get", *words, "--ignore-not-found", "-o", "json")
        return json.loads(text) if text.strip() else None

    def apply(self, *objects: Json) -> None:
        """`kubectl apply` of some objects."""
        self.run("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def until(self, what: str, probe: Callable[[], T | None], *, limit: float, step: Step | None = None) -> T:
        """The first value of `probe` that is not None; `Failed` after `limit` seconds. `what` is awaited."""
        end = time.monotonic() + limit
        while (found := probe()) is None:
            if time.monotonic() > end:
                raise Failed(f"waited {limit:.0f} s for {what}", (self.command("get", "pods,events"),))
            if step:
                step.note(what)
            time.sleep(POLL_SECONDS)
        return found

    def _run(self, words: list[str], stdin: str | None, limit: float) -> str:
        env = {**os.environ, "KUBECONFIG": str(self.kubeconfig)}
        try:
            done = subprocess.run(
                words, input=stdin, text=True, capture_output=True, env=env, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired as e:
            raise Failed(f"{' '.join(words)}\n  did not end within {limit:.0f} s") from e
        except FileNotFoundError as e:
            raise Failed(f"{words[0]} is not on this machine") from e
        if done.returncode:
            raise Failed(f"{' '.join(words)}\n  {(done.stderr or done.stdout).strip()}")
        return done.stdout
