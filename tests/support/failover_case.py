"""An application with a standby on a cluster whose nodes die: what a failover test does and sees, in words of the test.

A `Stage` is one pair with all that belongs to it; several may stand in one case, beside each other on the same nodes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.support import failover_objects as objects
from tests.support import ledger_lines as ledger
from tests.support import operators
from tests.support.asker import Client
from tests.support.case import Case, Claim, Json
from tests.support.failover_objects import Shape
from tests.support.node_words import attest
from tests.support.watching import Seen, Watching

ENDED = ("Completed", "RolledBack", "Failed", "Superseded")


@dataclass(frozen=True)
class Nodes:
    """Where both sides are, and the third node, from which the client asks."""

    source: str
    target: str
    witness: str


@dataclass
class Stage:
    """One application, its standby, their pair `name` and Service `name`."""

    case: Case
    nodes: Nodes
    scratch: Path
    """Where the client's log is kept, on this machine."""
    name: str = "p"
    shape: Shape = field(default_factory=Shape)
    source: Claim = field(init=False)
    target: Claim = field(init=False)
    clients: list[Client] = field(default_factory=list)
    watches: list[Watching] = field(default_factory=list)

    # ------------------------------------------------------------ making

    @property
    def app(self) -> str:
        """The source's workload."""
        return f"{self.name}-app"

    @property
    def standby(self) -> str:
        """The target's workload."""
        return f"{self.name}-standby"

    def set_up(self, *, paired: bool = True) -> None:
        """Make everything (or all but the pair); do not wait for it."""
        self.source = self.case.claim(f"{self.name}-src", self.nodes.source, size=self.shape.size)
        self.target = self.case.claim(f"{self.name}-dst", self.nodes.target, size=self.shape.size)
        self.case.apply(
            *([objects.label_service(self.name, self.name)] if self.shape.strategy == "Label" else []),
            self.workload("source"),
            *([self.pair()] if paired else []),
        )
        if self.shape.start == "Gate":  # it would start on the copy before the gate is there
            self.until("the gate to close the target", lambda: self.status().get("closedSides") == ["Target"])
        self.case.apply(self.workload("target"))

    def workload(self, side: str) -> Json:
        """The object of a side's workload, as it stands in Git."""
        if side == "source":
            return objects.workload(self.shape, self.app, side, self.source.name)
        return objects.workload(self.shape, self.standby, side, self.target.name)

    def pair(self) -> Json:
        """The pair's object."""
        spec = objects.pair_spec(self.shape, self.app, self.standby, self.name)
        return self.case.pair_object(self.name, ("data", self.source.name, self.target.name), **spec)

    def ready(self, seconds: float = 90) -> None:
        """Until the copy is whole, it could be promoted, and the application answers through its Service."""
        for kind in ("Replicating", "Fenceable", "Promotable"):
            self.case.wait(kind, name=self.name, seconds=seconds)
        self.until("a first answer", lambda: self.client().last() is not None, 30)
        self.until_answers("source")

    def runs(self) -> bool:
        """Whether the source's pod is ready."""
        status = self.case.get(self.shape.kind.lower(), self.app).get("status") or {}
        return status.get("readyReplicas") == 1

    def client(self) -> Client:
        """The client that asks the Service; started with its first use."""
        if not self.clients:
            address = str(self.case.get("service", self.name)["spec"]["clusterIP"])
            log = self.scratch / f"{self.case.namespace}-{self.name}.asked"
            self.clients.append(Client(self.case.cluster, self.nodes.witness, address, 80, log))
        return self.clients[0]

    def watch(self, *words: str) -> Watching:
        """Follow some objects of the namespace until the stage is struck."""
        made = Watching(self.case.cluster, self.case.namespace, *words)
        self.watches.append(made)
        return made

    def watch_pair(self) -> Watching:
        """Follow the pair."""
        return self.watch("mirrorpair", self.name)

    def strike(self) -> None:
        """End what this machine runs for the stage."""
        for client in self.clients:
            client.stop()
        for watch in self.watches:
            watch.stop()

    # ------------------------------------------------------------ acting

    def attest(self) -> None:
        """Say what a fencing controller says: the source's node is off."""
        attest(self.case.cluster, self.nodes.source)

    def failover(
        self, name: str, mode: str = "Planned", *, epoch: int | None = None, approved: bool = True, **spec: object
    ) -> None:
        """Ask for a failover of the pair, from its present epoch, with approval by the user who asks."""
        user = self.case.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}") if approved else None
        at = self.status()["epoch"] if epoch is None else epoch
        self.case.apply(objects.failover(name, self.name, mode, at, approved_by=user, **spec))

    def approve(self, name: str, **spec: object) -> str:
        """Approve a Failover that waits; the user's name."""
        user = self.case.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        patch = {"spec": {"approved": True, "approvedBy": user, **spec}}
        self.case.kubectl("patch", "failover", name, "--type=merge", "-p", json.dumps(patch))
        return user

    def scale(self, side: str, count: int) -> None:
        """As a person or a controller does."""
        name = self.app if side == "source" else self.standby
        self.case.kubectl("scale", self.shape.kind.lower(), name, f"--replicas={count}")

    def debug(self, name: str = "debug") -> None:
        """A pod that somebody left on the source claim; waits until it runs."""
        self.case.apply(objects.debug_pod(name, self.source.name, self.nodes.source))
        self.case.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")

    # ------------------------------------------------------------ seeing

    def status(self) -> Json:
        """The pair's status."""
        return self.case.status(self.name)

    def volume(self) -> Json:
        """The status of the pair's volume."""
        return self.case.volume_status(self.name)

    def operation(self) -> Json:
        """status.operation of the pair; empty while there was none."""
        found: Json = self.status().get("operation") or {}
        return found

    def failovers(self) -> list[Json]:
        """The Failovers that name this pair, oldest first."""
        items = self.case.get("failovers")["items"]
        mine = [item for item in items if item["spec"]["pairName"] == self.name]
        return sorted(mine, key=lambda item: str(item["metadata"]["creationTimestamp"]))

    def phase(self, name: str) -> str:
        """The phase of a Failover; empty while it has none, and where there is none of that name."""
        found = [f for f in self.failovers() if f["metadata"]["name"] == name]
        return str((found[0].get("status") or {}).get("phase", "")) if found else ""

    def until(self, what: str, probe: Callable[[], bool], seconds: float = 60) -> None:
        """Wait; on failure tell everything there is to tell, the operators' words too."""
        try:
            self.case.until(f"{what} ({self.name})", probe, seconds)
        except Exception as e:
            e.add_note(self.told())
            raise

    def until_phase(self, name: str, *phases: str, seconds: float = 60) -> Json:
        """Until a Failover is in one of the phases; its status. At once wrong where it ended in another."""

        def there() -> bool:
            phase = self.phase(name)
            if phase in ENDED and phase not in phases:
                raise AssertionError(f"failover {name} ended in {phase}, expected {phases}\n{self.told()}")
            return phase in phases

        self.until(f"failover {name} to be in {' or '.join(phases)}", there, seconds)
        return self.failover_status(name)

    def until_reason(self, name: str, reason: str, seconds: float = 60) -> str:
        """Until a Failover gives a reason; its message."""
        self.until(
            f"failover {name} to say {reason}",
            lambda: self.failover_status(name).get("reason") == reason,
            seconds,
        )
        return str(self.failover_status(name)["message"])

    def until_automatic(self, seconds: float = 60, after: int = 0) -> str:
        """Until the operator made a Failover (the one after so many others); its name."""
        self.until("an automatic Failover", lambda: len(self.failovers()) > after, seconds)
        made = self.failovers()[after]
        assert made["metadata"]["labels"]["storagemirror.io/automatic"], made
        return str(made["metadata"]["name"])

    def failover_status(self, name: str) -> Json:
        """The status of a Failover; empty while there is none."""
        found: Json = self.case.get("failover", name).get("status") or {}
        return found

    def timeline(self, name: str) -> list[str]:
        """The phases a Failover went through."""
        return [str(step["phase"]) for step in self.failover_status(name).get("timeline") or []]

    def writers(self) -> set[str]:
        """The names of the pods that may write the source, as the pair knows them."""
        return {str(w["name"]) for w in self.status().get("writers") or [] if w["side"] == "Source"}

    def until_answers(self, side: str, seconds: float = 60, since: float | None = None) -> float:
        """Until a side answers a question asked from now (or `since`) on; when that was asked, Unix seconds."""
        start = time.time() if since is None else since
        client = self.client()
        self.until(f"an answer from the {side}", lambda: client.first_of(side, start) is not None, seconds)
        answer = client.first_of(side, start)
        assert answer is not None
        return answer.asked

    def source_lines(self) -> list[ledger.Line]:
        """What the source's volume holds."""
        return ledger.lines(self.source)

    def target_lines(self) -> list[ledger.Line]:
        """What the target's volume holds."""
        return ledger.lines(self.target)

    def pods(self, side: str) -> list[Json]:
        """The pods of a side's workload."""
        name = self.app if side == "source" else self.standby
        found: list[Json] = self.case.get("pods", "-l", f"app={name}")["items"]
        return found

    def replicas(self, side: str) -> int:
        """spec.replicas of a side's workload."""
        name = self.app if side == "source" else self.standby
        return int(self.case.get(self.shape.kind.lower(), name)["spec"]["replicas"])

    def told(self) -> str:
        """The Failovers, the Service and the operators' last words."""
        parts = [f"operation of {self.name}: {json.dumps(self.operation(), indent=1)}"]
        for words in (("get", "failovers"), ("get", "services,endpointslices", "-o", "wide")):
            parts.append(f"$ kubectl {' '.join(words)}\n{self.case.kubectl(*words, check=False)}")
        return "\n".join([*parts, operators.told(self.case.cluster)])


def seconds_of(text: str) -> float:
    """A time of the API in Unix seconds."""
    return datetime.fromisoformat(text).timestamp()


def operation_is(*phases: str) -> Callable[[Seen], bool]:
    """For `Watching.once`: the pair's operation is in one of these phases."""

    def holds(seen: Seen) -> bool:
        operation = (seen.object.get("status") or {}).get("operation") or {}
        return operation.get("phase") in phases

    return holds
