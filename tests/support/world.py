"""A small cluster in memory around the fake API: scheduler, kubelets, agents, a clock, and an operator that can die."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from storagemirror.clock import rfc3339
from storagemirror.contract import (
    ORDER_KEY,
    REPORT_ANNOTATION,
    Capture,
    Drifted,
    Freezing,
    Missed,
    Order,
    Phase,
    PointsMade,
    Queued,
    ReplicationMode,
    Report,
    Role,
    RunDone,
    Verification,
    decode,
    encode,
)
from storagemirror.errors import BadInput, Passing
from storagemirror.kube.authority import CertificateAuthority
from storagemirror.kube.credentials import Credentials
from storagemirror.kube.endings import Endings
from storagemirror.kube.events import Events
from storagemirror.kube.execute import Executor
from storagemirror.kube.gate import Gate
from storagemirror.kube.gather import Key, Sources
from storagemirror.kube.heartbeats import Heartbeats
from storagemirror.kube.passes import Reconciler
from storagemirror.plan.objects import Lease
from storagemirror.plan.observed import Reached
from storagemirror.resources import labels
from storagemirror.resources.pod import Image
from tests.support.fake_api import FakeApi, Killed, Object

NAMESPACE = "shop"
HOME = "storagemirror-system"
KEY = Key(NAMESPACE, "orders")
CHILDREN = ("configmaps", "leases", "secrets", "serviceaccounts", "roles", "rolebindings")
MIRRORED_AT = "2026-01-02T03:04:30Z"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NODES = ("node-a", "node-b", "node-c")


@dataclass
class HeldClock:
    """A clock that moves when it is told to."""

    moment: datetime = START

    def now_ns(self) -> int:
        return int((self.moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e9)

    def monotonic(self) -> float:
        return (self.moment - START).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@dataclass
class World:
    """Everything around one operator. `worn`: which pod UIDs ever had which name."""

    clock: HeldClock = field(default_factory=HeldClock)
    dead_nodes: set[str] = field(default_factory=set)
    silent: set[Role] = field(default_factory=set)
    worn: dict[str, set[str]] = field(default_factory=dict)
    image: str = "storagemirror:1"
    finding: dict[str, Any] | None = None
    """What source agents find when they verify; None: they have not ended yet."""

    freezing: Freezing | None = None
    points: PointsMade | None = None
    """What source agents say of their guards."""
    in_runs: RunDone | None = None
    """What becomes of a run that is ordered in mode Scheduled or Manual; None: it has not ended yet."""
    ran: list[str] = field(default_factory=list)
    """The runs that were done."""
    drifted: Drifted | None = None
    """What source agents found changed on the target."""
    watched: Drifted | None = None
    """What target agents saw changed."""
    capture: tuple[Capture, str] | None = None
    """How source agents say that they see changes, and why no better."""
    missed: Missed | None = None
    """What source agents found that nothing had named."""
    queue: Queued | None = None
    """What source agents say that waits."""
    through: str | None = ""
    """Up to when the last one sent everything; None: the agent is new, and does not know."""

    source_ahead: float = 0.0
    """Seconds by which the clock of the source's node is ahead of all others."""

    def __post_init__(self) -> None:
        self.api = FakeApi(lambda: self.clock.moment)
        self.api.put("namespaces", {"metadata": {"name": NAMESPACE}})
        for node in NODES:
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            self.api.put("nodes", {"metadata": {"name": node}, "status": ready})
        self.start_operator()

    def start_operator(self) -> None:
        """A new process: nothing is remembered."""
        api, clock = self.api, self.clock
        self.heartbeats = Heartbeats(clock)
        authority = CertificateAuthority(api, HOME, clock)
        self.endings = Endings()
        sources = Sources(
            api,
            self.heartbeats,
            Image(self.image),
            authority.authority,
            clock,
            self.reach,
            Credentials(clock),
            Gate("system:serviceaccount:storagemirror-system:storagemirror-probe"),
            self.endings,
            lambda key: True,
        )
        self.operator = Reconciler(sources, Executor(api, authority), Events(api, clock), clock, lambda: True)

    def reach(self, targets: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[Reached, ...]]:
        """Every address takes connections."""
        return {service: tuple(Reached(address, True) for address in some) for service, some in targets.items()}

    # what users do

    def claim(self, name: str, *, bound: bool = True, size: str = "10Gi", **spec: Any) -> None:
        wanted = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            "volumeMode": "Filesystem",
        }
        body: Object = {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": wanted | spec}
        status = {"phase": "Bound", "capacity": {"storage": size}} if bound else {"phase": "Pending"}
        self.api.put("persistentvolumeclaims", body | {"status": status})

    def writer(self, name: str, node: str | None, claim: str = "orders-data", **spec: Any) -> None:
        """A pod of the application."""
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        mount = {"name": "data", "mountPath": "/data"}
        body: Object = {"containers": [{"name": "app", "volumeMounts": [mount]}], "volumes": volumes, **spec}
        if node is not None:
            body["nodeName"] = node
        meta = {"name": name, "namespace": NAMESPACE}
        self.api.put("pods", {"metadata": meta, "spec": body, "status": {"phase": "Running" if node else "Pending"}})

    def pair(self, name: str = "orders", volumes: list[Object] | None = None, **spec: Any) -> None:
        one = {"name": "data", "source": {"claimName": "orders-data"}, "target": {"claimName": "orders-standby"}}
        body = {
            "apiVersion": "storagemirror.io/v1alpha1",
            "kind": "MirrorPair",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"volumes": volumes or [one], **spec},
        }
        self.api.put("mirrorpairs", body)

    def usual(self, **spec: Any) -> None:
        """Two bound claims, a writer on node-a, a pair."""
        self.claim("orders-data")
        self.claim("orders-standby")
        self.writer("orders-0", "node-a")
        self.pair(**spec)

    # what the operator does

    def pass_once(self, key: Key = KEY) -> bool:
        """One pass; whether it wrote anything."""
        try:
            return self.operator.run(key).wrote
        except Passing:
            return True
        finally:
            self._remember()

    def passes(self, key: Key = KEY, most: int = 12) -> None:
        """Until a pass has nothing to do."""
        for _ in range(most):
            if not self.pass_once(key):
                return
        raise AssertionError(f"still writing after {most} passes: {self.api.history[-8:]}")

    def _remember(self) -> None:
        for pod in self.agents():
            self.worn.setdefault(pod["metadata"]["name"], set()).add(pod["metadata"]["uid"])

    # what the cluster does

    def settle(self, seconds: int = 60, *, quiet: int = 4) -> None:
        """Everybody works until the operator has had nothing to write for `quiet` seconds; at most `seconds`."""
        still = 0
        for _ in range(seconds):
            self.tick()
            still = 0 if self.pass_once() else still + 1
            if still == quiet:
                return

    def killed_at(self, number: int, after: bool, seconds: int = 20) -> bool:
        """As `settle`, and the operator is killed before or after its write `number` from now; whether it was."""
        self.api.kill_at = (self.api.writes + number, after)
        try:
            self.settle(seconds)
        except Killed:
            self.start_operator()
            return True
        finally:
            self.api.kill_at = None
        return False

    def tick(self) -> None:
        """A second passes: the scheduler, the kubelets and the agents do their work."""
        self.clock.sleep(1.0)
        for pod in self.api.all("pods"):
            self._kubelet(pod)
        for pod in self.agents():
            self._agent(pod)
        leases = self.api.list(Lease, ("/apis/coordination.k8s.io/v1", "leases"), labels=labels.AGENT_SELECTOR)
        self.heartbeats.listened(leases)

    def _kubelet(self, pod: Object) -> None:
        meta, node = pod["metadata"], pod["spec"].get("nodeName")
        address = ("pods", meta["namespace"], meta["name"])
        if node in self.dead_nodes:
            return
        if "deletionTimestamp" in meta:
            self.api.remove(address)
        elif node is None and labels.PAIR in meta.get("labels", {}):
            self._schedule(pod)
        elif node is not None and pod["status"].get("phase") == "Pending":
            running = {"startedAt": self.clock.moment.strftime("%Y-%m-%dT%H:%M:%SZ")}
            states = [{"name": "agent", "containerID": "c://1", "state": {"running": running}}]
            ip = f"10.0.{NODES.index(node)}.{len(self.api.history) % 250 + 1}"
            status = {"phase": "Running", "podIP": ip, "containerStatuses": states}
            self.api.put("pods", {"metadata": _named(pod), "status": status})

    def _schedule(self, pod: Object) -> None:
        """Follows required node affinity; else the first node that lives."""
        affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
        nodes = [n for n in NODES[::-1] if n not in self.dead_nodes]
        for field_ in (f for term in required for f in term["matchFields"]):
            nodes = [n for n in nodes if (n in field_["values"]) == (field_["operator"] == "In")]
        if nodes:
            self.api.put("pods", {"metadata": _named(pod), "spec": {"nodeName": nodes[0]}})
        elif not pod["status"].get("conditions"):
            stamp = self.clock.moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            no = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
            self.api.put(
                "pods", {"metadata": _named(pod), "status": {"conditions": [no | {"lastTransitionTime": stamp}]}}
            )

    def _agent(self, pod: Object) -> None:
        """A good agent: does what its order says, as far as the order means it."""
        meta = pod["metadata"]
        role = Role.SOURCE if meta["labels"][labels.ROLE] == "source" else Role.TARGET
        running = pod["status"].get("phase") == "Running" and "deletionTimestamp" not in meta
        if role in self.silent or not running or pod["spec"]["nodeName"] in self.dead_nodes:
            return
        base = meta["name"].rpartition("-")[0]
        found = self.api.objects.get(("configmaps", meta["namespace"], base))
        instance = int(meta["annotations"][labels.INSTANCE])
        if found is None:
            return
        try:
            order = decode(Order, found["data"][ORDER_KEY])
        except BadInput:
            return
        if order.instance == instance:
            self.say(role, base, self._report(role, order))

    def _report(self, role: Role, order: Order) -> Report:
        now = rfc3339(self.clock.now_ns())
        common: dict[str, Any] = {"instance": order.instance, "epoch": order.epoch, "revision": order.revision}
        if role is Role.TARGET:
            return Report(phase=Phase.REPLICATING, peer_connected=True, drifted=self.watched, **common)
        common |= {"freezing": self.freezing, "points": self.points, "drifted": self.drifted, "queue": self.queue}
        common |= {"missed": self.missed}
        if self.capture is not None:
            common |= {"capture": self.capture[0], "capture_why": self.capture[1]}
        if order.peer is None:
            return Report(phase=Phase.CONNECTING, **common)
        whole: dict[str, Any] = {
            "mirrored_at": "2026-01-02T03:04:30Z",
            "synced_through": now,
            "lag_seconds": 0.0,
            "lag_bytes": 0,
        }
        if order.verify is not None and self.finding is not None:
            whole["verification"] = Verification(run=order.verify.run, at=now, **self.finding)
        if order.replication.mode is not ReplicationMode.CONTINUOUS and order.prove is None:
            return self._in_runs(order, common, whole)
        return Report(phase=Phase.REPLICATING, peer_connected=True, **common, **whole)

    def _in_runs(self, order: Order, common: dict[str, Any], whole: dict[str, Any]) -> Report:
        run, now = order.replication.run, whole["synced_through"]
        if run is not None and self.in_runs is None:
            return Report(phase=Phase.REPLICATING, peer_connected=True, **common)
        if run is not None and self.in_runs is not None and run not in self.ran:
            self.ran.append(run)
            self.through = now
        idle: dict[str, Any] = {"phase": Phase.IDLE, "peer_connected": True, **common}
        if not self.ran or self.in_runs is None or not self.through:
            return Report(**idle)
        done = RunDone(run=self.ran[-1], began=self.through, at=self.through, error=self.in_runs.error)
        return Report(**idle, run=done, **{**whole, "synced_through": self.through, "lag_seconds": None})

    def say(self, role: Role, base: str, report: Report) -> None:
        """An agent's heartbeat."""
        meta = {"name": base, "namespace": NAMESPACE, "annotations": {REPORT_ANNOTATION: encode(report)}}
        ahead = self.source_ahead if role is Role.SOURCE else 0.0
        spec = {"renewTime": rfc3339(self.clock.now_ns() + int(ahead * 1e9)), "holderIdentity": role.value}
        self.api.put("leases", {"metadata": meta, "spec": spec})

    # what can be seen

    def agents(self, role: Role | None = None) -> list[Object]:
        """Agents' pods."""
        found = [p for p in self.api.all("pods") if labels.PAIR in p["metadata"].get("labels", {})]
        return [p for p in found if role is None or p["metadata"]["labels"][labels.ROLE] == role.value.lower()]

    def order(self, role: Role) -> Order:
        found = [c for c in self.api.all("configmaps") if c["metadata"]["labels"][labels.ROLE] == role.value.lower()]
        return decode(Order, found[0]["data"][ORDER_KEY])

    def end(self) -> Object:
        """What it came to, without what may differ: numbers, names and times."""
        told = self.status()
        return {
            "phase": told["phase"],
            "conditions": sorted((c["type"], c["status"], c["reason"]) for c in told["conditions"]),
            "agents": sorted((p["metadata"]["labels"][labels.ROLE], p["spec"]["nodeName"]) for p in self.agents()),
            "orders": [(o.action, o.mirror, o.peer is not None) for o in map(self.order, Role)],
            "children": {kind: len(self.api.all(kind)) for kind in CHILDREN},
        }

    def check(self) -> None:
        """What must hold at every moment."""
        for name, uids in self.worn.items():
            assert len(uids) == 1, f"two pods wore the number of {name}"
        targets = self.agents(Role.TARGET)
        assert len(targets) <= 1, f"two agents on the target: {[p['metadata']['name'] for p in targets]}"
        for role in Role:
            for pod in self.agents(role):
                instance = int(pod["metadata"]["annotations"][labels.INSTANCE])
                assert self.order(role).instance >= instance, "a pod whose number the order does not know"

    def replicates(self, node: str) -> bool:
        """Whether all is well, with the source's agent on `node`."""
        agents = [(p["spec"].get("nodeName"), "deletionTimestamp" in p["metadata"]) for p in self.agents(Role.SOURCE)]
        return bool(self.status().get("phase") == "Replicating" and agents == [(node, False)])

    def status(self, name: str = "orders") -> Object:
        found: Object = self.api.objects[("mirrorpairs", NAMESPACE, name)].get("status", {})
        return found

    def condition(self, kind: str, name: str = "orders") -> tuple[str, str]:
        """Status and reason."""
        found = next(c for c in self.status(name)["conditions"] if c["type"] == kind)
        return found["status"], found["reason"]

    def events(self) -> set[tuple[str, str]]:
        return {(e["type"], e["reason"]) for e in self.api.all("events")}


def _named(pod: Object) -> Object:
    return {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}


__all__ = ["HOME", "KEY", "NAMESPACE", "NODES", "START", "HeldClock", "Killed", "World"]
