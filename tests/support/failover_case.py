"""An application with a standby on a cluster whose nodes die: what a test of failover or restore does and sees.

A `Stage` is one pair with all that belongs to it; several may stand in one case, beside each other on the same nodes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import failover_objects as objects
from tests.support import ledger_lines as ledger
from tests.support.asker import Answered, Client
from tests.support.case import Case, Claim, Json
from tests.support.failover_objects import Shape
from tests.support.node_words import attest
from tests.support.operations import Operations
from tests.support.watching import Watching


@dataclass(frozen=True)
class Nodes:
    """Where both sides are, and the third node, from which the client asks."""

    source: str
    target: str
    witness: str


@dataclass
class Stage(Operations):
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
        """Make everything (or what is there before a pair is); do not wait for it."""
        self.source, self.target = (
            self.case.claim(f"{self.name}-{end}", node, size=self.shape.size, fs=self.shape.fs)
            for end, node in (("src", self.nodes.source), ("dst", self.nodes.target))
        )
        self.case.apply(
            *([objects.label_service(self.name, self.name)] if self.shape.strategy == "Label" else []),
            self.workload("source"),
        )
        if paired:
            self.join()

    def join(self) -> None:
        """Make the pair, and the standby; do not wait for them."""
        self.case.apply(self.pair())
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

    def synced(self) -> None:
        """Until everything that was done up to now is safe on the copy."""
        self.case.synced_after(time.time(), self.name)

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

    def scale(self, side: str, count: int) -> None:
        """As a person or a controller does."""
        name = self.app if side == "source" else self.standby
        self.case.kubectl("scale", self.shape.kind.lower(), name, f"--replicas={count}")

    def debug(self, name: str = "debug", side: str = "source") -> None:
        """A pod that somebody left on a side's claim; waits until it runs."""
        claim, node = (self.source, self.nodes.source) if side == "source" else (self.target, self.nodes.target)
        self.case.apply(objects.debug_pod(name, claim.name, node))
        self.case.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")

    def lose_source(self) -> None:
        """Its claim is deleted, and its volume with it."""
        self.case.kubectl("delete", "pvc", self.source.name, "--timeout=60s")
        self.until("the source's volume to be let go of", lambda: self.case.removed(self.source.volume))

    def renew_source(self, size: str) -> None:
        """A claim of the same name, on a volume that is new and empty."""
        self.source = self.case.claim(self.source.name, self.nodes.source, size=size)

    # ------------------------------------------------------------ seeing

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

    def kept_aside(self, epoch: int) -> Path:
        """Where the source's volume keeps what its side wrote after it was cut off."""
        return self.source.path() / ".storagemirror" / "diverged" / str(epoch)

    def missing(self, side: str, aside: Iterable[ledger.Line] = ()) -> list[Answered]:
        """What was acknowledged to the client by now and is neither on a side's volume nor in what was kept `aside`, in
        the order it was heard."""
        heard = self.client().answers()
        kept = {*(self.source_lines() if side == "source" else self.target_lines()), *aside}
        return [answer for answer in heard if answer.number and answer.line not in kept]

    def equal_at_rest(self) -> None:
        """The source is live: its workload stops, both sides get equal, as rsync sees them, and it starts again."""
        count = self.replicas("source")
        self.scale("source", 0)
        self.until("no pod of the source", lambda: self.pods("source") == [])
        self.case.equal(self.source, self.target)
        self.scale("source", count)
        self.until_answers("source")

    def pods(self, side: str) -> list[Json]:
        """The pods of a side's workload."""
        name = self.app if side == "source" else self.standby
        found: list[Json] = self.case.get("pods", "-l", f"app={name}")["items"]
        return found

    def replicas(self, side: str) -> int:
        """spec.replicas of a side's workload."""
        name = self.app if side == "source" else self.standby
        return int(self.case.get(self.shape.kind.lower(), name)["spec"]["replicas"])
