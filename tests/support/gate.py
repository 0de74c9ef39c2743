"""A namespace with pairs whose sides are closed and opened, and somebody who makes pods in it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tests.support.api_client import ApiAnswer, ApiClient
from tests.support.apiserver import ApiServer
from tests.support.manifests import pair, volume
from tests.support.pairs import CORE, PAIRS

SOURCE, TARGET = "orders-data", "orders-standby"
GATE = "ValidatingAdmissionPolicy 'storagemirror-gate'"


@dataclass(frozen=True)
class Place:
    """A namespace with pairs, and somebody who makes pods in it."""

    server: ApiServer
    namespace: str
    client: ApiClient

    def pair(self, name: str = "orders", source: str = SOURCE, target: str = TARGET) -> None:
        self.server.client().post(PAIRS.format(self.namespace), pair(volume("data", source, target), name=name))

    def status(self, name: str = "orders", **status: Any) -> None:
        """What the operator would write."""
        self.server.client().merge(f"{PAIRS.format(self.namespace)}/{name}/status", {"status": status})

    def close(self, *sides: str, live: str = "Source", name: str = "orders") -> None:
        """Close these sides, and wait until the gate has heard of it."""
        epoch = self.server.client().get(f"{PAIRS.format(self.namespace)}/{name}").value.get("status", {}).get("epoch")
        self.status(name, closedSides=list(sides), activeSide=live, epoch=(epoch or 0) + 1)
        pair = self.server.client().get(f"{PAIRS.format(self.namespace)}/{name}").value
        (volume,) = pair["spec"]["volumes"]
        for side in ("Source", "Target"):
            claim = volume[side.lower()]["claimName"]
            self.until_admits(claim, side not in sides)

    def until(self, check: Callable[[], bool], what: str) -> float:
        """Wait for `check`; returns seconds."""
        began = time.monotonic()
        while not check():
            assert time.monotonic() - began < 10, f"the gate never turned: {what}"
            time.sleep(0.005)
        return time.monotonic() - began

    def until_admits(self, claim: str, wanted: bool) -> float:
        """Wait until the gate does (or does not) let pass a pod that mounts `claim`; returns seconds."""
        return self.until(lambda: self.admits(claim) == wanted, f"{claim} is to be {'open' if wanted else 'closed'}")

    def admits(self, claim: str) -> bool:
        """Whether an administrator could make a pod that mounts `claim`."""
        answer = replace(self, client=self.server.client()).make(claim, dry_run=True)
        assert answer.status in {201, 403, 422}, answer.message
        return answer.status == 201

    def make(self, *claims: str, dry_run: bool = False, body: dict[str, Any] | None = None) -> ApiAnswer:
        """Make a pod that mounts these claims."""
        where = CORE.format(self.namespace, "pods") + ("?dryRun=All" if dry_run else "")
        return self.client.post(where, body or pod(*claims), check=False)


def pod(*claims: str, name: str = "app", **spec: Any) -> dict[str, Any]:
    volumes = [{"name": f"v{i}", "persistentVolumeClaim": {"claimName": c}} for i, c in enumerate(claims)]
    mounts = [{"name": f"v{i}", "mountPath": f"/v{i}"} for i in range(len(claims))]
    container = {"name": "app", "image": "app:1", "volumeMounts": mounts}
    return {"metadata": {"name": name}, "spec": {"containers": [container], "volumes": volumes, **spec}}
