"""A small cluster in memory with two sides: workloads and their controllers, the gate, Services, and agents that obey.

Beside what the objects say the world knows what is true: which containers run, on nodes that are off, cut off or well.
So it can tell when two sides write at once, whatever the API shows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from storagemirror.clock import rfc3339
from storagemirror.contract import (
    ORDER_KEY,
    Action,
    CopyPoint,
    KeptAside,
    Order,
    PeerSeen,
    PeerState,
    Phase,
    Problem,
    Proof,
    Report,
    Role,
    decode,
)
from storagemirror.kube.gather import Key
from storagemirror.resources import labels
from tests.support.fake_api import Killed, Object
from tests.support.world import KEY, NAMESPACE, HeldClock, World

SOURCE, TARGET = "orders", "orders-standby"
CLAIMS = {SOURCE: "orders-data", TARGET: "orders-standby"}
HOME_NODES = {SOURCE: "node-a", TARGET: "node-b"}
MISSED_SECONDS = 5


@dataclass
class FailoverWorld(World):
    """`cut_nodes` run on, but nobody hears them; `dead_nodes` are off."""

    cut_nodes: set[str] = field(default_factory=set)
    gate: bool = True
    ready: bool = True
    """Whether the standby's pods get Ready."""
    finishes: bool = True
    """Whether proofs of equality end."""
    problem: Problem | None = None
    """What hinders the agents that read."""
    trouble: Problem | None = None
    """What hinders the agents that write, while they are to take in what comes."""
    doubt: Problem | None = None
    """What the agents that write say against their own volumes, once they take in nothing more."""
    refuses: bool = False
    """Whether they do not promote them therefore."""
    copy_point: CopyPoint | None = None
    """What the agents that write say of their copy's point."""
    drained_point: CopyPoint | None = None
    """The same once they take in nothing more; None: as before."""
    copy_points: dict[str, CopyPoint] = field(default_factory=dict)
    """The same of single volumes, by name; what is not here is as `copy_point` says."""
    drained_points: dict[str, CopyPoint] = field(default_factory=dict)
    keeps: bool = True
    """Whether what the old side wrote has been kept aside."""
    epoch_on_volume: int = 1
    two_writers: list[str] = field(default_factory=list)
    """Every moment at which both sides' containers ran."""
    _contact: dict[str, str] = field(default_factory=dict)
    _missed: int = 0
    _pods: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.api.admission = self._admission

    # what users do

    def protected(self, *, failover: Object | None = None, more: tuple[str, ...] = (), **spec: Any) -> None:
        """Two sides, a Service, an application that runs on node-a; `more`: names of further volumes that it mounts."""
        self.claim("orders-data")
        self.claim("orders-standby")
        for name in more:
            self.claim(f"orders-{name}")
            self.claim(f"standby-{name}")
        if more:
            volumes = [
                {"name": "data", "source": {"claimName": CLAIMS[SOURCE]}, "target": {"claimName": CLAIMS[TARGET]}}
            ]
            for name in more:
                ends = {"source": {"claimName": f"orders-{name}"}, "target": {"claimName": f"standby-{name}"}}
                volumes.append({"name": name, **ends})
            spec["volumes"] = volumes
        self.workload(SOURCE, 1, *(f"orders-{name}" for name in more))
        self.workload(TARGET, 0, *(f"standby-{name}" for name in more))
        sides = {
            side: {"workloads": [{"kind": "Deployment", "name": name}]}
            for side, name in (("source", SOURCE), ("target", TARGET))
        }
        services = [{"name": "orders", "ports": [{"port": 80, "targetPort": 8080}]}]
        self.pair(sides=sides, services=services, failover=failover or {}, **spec)

    def workload(self, name: str, replicas: int, *claims: str) -> None:
        """A Deployment whose pods mount the side's claim, and further ones."""
        mounted = [("data", CLAIMS[name]), *((claim, claim) for claim in claims)]
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "containers": [
                    {"name": "app", "volumeMounts": [{"name": v, "mountPath": f"/{v}"} for v, _ in mounted]}
                ],
                "volumes": [{"name": v, "persistentVolumeClaim": {"claimName": claim}} for v, claim in mounted],
            },
        }
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
        self.api.put("deployments", {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})

    def failover(self, name: str = "now", *, mode: str = "Planned", epoch: int = 1, **spec: Any) -> None:
        """A person's Failover, approved unless said otherwise."""
        wanted = {"pairName": "orders", "fromEpoch": epoch, "mode": mode, "approved": True, "approvedBy": "jo"} | spec
        self.api.put("failovers", {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": wanted})

    def restore(self, name: str = "home", *, epoch: int | None = 2, **spec: Any) -> None:
        """A person's Restore, which moves the application home as soon as it can unless said otherwise."""
        wanted: Object = {"pairName": "orders"} | ({"fromEpoch": epoch} if epoch is not None else {}) | spec
        self.api.put("restores", {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": wanted})

    def attest(self, node: str) -> None:
        """Somebody says that the node is off."""
        taint = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
        self.api.put("nodes", {"metadata": {"name": node}, "spec": {"taints": [taint]}})

    def power_off(self, node: str) -> None:
        """The node is off; its kubelet says nothing any more."""
        self.dead_nodes.add(node)
        self._unready(node)

    def cut(self, node: str) -> None:
        """The node runs on, and nobody hears it."""
        self.cut_nodes.add(node)
        self._unready(node)

    def heal(self, node: str) -> None:
        """The node is heard again."""
        self.cut_nodes.discard(node)
        self._condition(node, "True")

    def boot(self, node: str) -> None:
        """A node that was off comes back; what ran on it has ended, and nobody calls it off any more."""
        for name in [name for name, (_, where) in self._containers.items() if where == node]:
            del self._containers[name]
        self.dead_nodes.discard(node)
        self.api.put("nodes", {"metadata": {"name": node}, "spec": {"taints": []}})
        self.heal(node)

    def _unready(self, node: str) -> None:
        self._condition(node, "Unknown")

    def _condition(self, node: str, status: str) -> None:
        ready = {"type": "Ready", "status": status, "lastTransitionTime": self._stamp()}
        self.api.put("nodes", {"metadata": {"name": node}, "status": {"conditions": [ready]}})

    # what the cluster does

    def tick(self) -> None:
        self._controllers()
        super().tick()
        self._endpoints()
        both = [self.running(SOURCE), self.running(TARGET)]
        if all(both):
            self.two_writers.append(f"{self._stamp()}: {both}")
        self._agents_beside_writers()

    def _agents_beside_writers(self) -> None:
        """An agent that writes what an application writes is a second writer too."""
        for pod in self.agents(Role.TARGET):
            claim = next(
                v["persistentVolumeClaim"]["claimName"] for v in pod["spec"]["volumes"] if v["name"] == "volume"
            )
            name, meta = next((app for app, of in CLAIMS.items() if of == claim), None), pod["metadata"]
            order = self.order_of(pod)
            at_work = order is not None and order.action is Action.RUN and pod["status"].get("phase") == "Running"
            if name is not None and at_work and self.running(name):
                self.two_writers.append(f"{self._stamp()}: {meta['name']} beside {self.running(name)}")

    def running(self, workload: str) -> list[str]:
        """Pods of a workload whose containers run in truth, also where no object tells of them any more."""
        return sorted(name for name, (of, node) in self._containers.items() if of == workload and self._lives(node))

    def _lives(self, node: str) -> bool:
        return node not in self.dead_nodes

    @property
    def _containers(self) -> dict[str, tuple[str, str]]:
        found: dict[str, tuple[str, str]] = self.__dict__.setdefault("_running", {})
        return found

    def _admission(self, plural: str, manifest: Object) -> str | None:
        """The gate, as the chart has it. Agents' pods are the operator's own."""
        if plural != "pods" or not self.gate or labels.PAIR in manifest["metadata"].get("labels", {}):
            return None
        mounted = {v["persistentVolumeClaim"]["claimName"] for v in manifest["spec"].get("volumes", ())}
        for pair in self.api.all("mirrorpairs"):
            for side in pair.get("status", {}).get("closedSides", ()):
                for volume in pair["spec"]["volumes"]:
                    if volume[side.lower()]["claimName"] in mounted:
                        said = f"the {side} side is closed to new pods"
                        return f"ValidatingAdmissionPolicy 'storagemirror-gate' denied: {said}"
        return None

    def _controllers(self) -> None:
        for workload in self.api.all("deployments"):
            name, wanted = workload["metadata"]["name"], workload["spec"]["replicas"]
            mine = [p for p in self.api.all("pods") if p["metadata"].get("labels", {}).get("app") == name]
            there = [p for p in mine if "deletionTimestamp" not in p["metadata"]]
            if len(there) < wanted:
                self._make_pod(workload)
            for pod in there[wanted:]:
                self.api.put("pods", {"metadata": _named(pod) | {"deletionTimestamp": self._stamp()}})

    def _make_pod(self, workload: Object) -> None:
        self._pods += 1
        name, template = workload["metadata"]["name"], workload["spec"]["template"]
        meta = {"name": f"{name}-{self._pods}", "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
        if self._admission("pods", {"metadata": meta, "spec": template["spec"]}) is None:
            self.api.put("pods", {"metadata": meta, "spec": template["spec"], "status": {"phase": "Pending"}})

    def _kubelet(self, pod: Object) -> None:
        meta, node = pod["metadata"], pod["spec"].get("nodeName")
        if labels.PAIR in meta.get("labels", {}):
            if node not in self.cut_nodes:
                super()._kubelet(pod)
            return
        name, app = meta["name"], meta.get("labels", {}).get("app", "")
        if node is None:
            self._place(pod, app)
        elif node in self.dead_nodes or node in self.cut_nodes:
            return
        elif "deletionTimestamp" in meta:
            self._containers.pop(name, None)
            ended = [{"name": "app", "containerID": "c://1", "state": {"terminated": {"exitCode": 0}}}]
            done = {"type": "Ready", "status": "False", "reason": "PodCompleted"}
            status = {"phase": "Succeeded", "containerStatuses": ended, "conditions": [done]}
            self.api.put("pods", {"metadata": _named(pod), "status": status})
            self._gone(pod)
        elif pod["status"].get("phase") == "Pending":
            self._containers[name] = (app, node)
            running = [{"name": "app", "containerID": "c://1", "state": {"running": {"startedAt": self._stamp()}}}]
            ready = self.ready or app == SOURCE
            conditions = [{"type": "Ready", "status": str(ready), "lastTransitionTime": self._stamp()}]
            ip = f"10.1.0.{self._pods % 250 + 1}"
            status = {"phase": "Running", "containerStatuses": running, "conditions": conditions, "podIP": ip}
            self.api.put("pods", {"metadata": _named(pod), "status": status})

    def _place(self, pod: Object, app: str) -> None:
        if "deletionTimestamp" in pod["metadata"]:
            self._gone(pod)
            return
        node = HOME_NODES.get(app, "node-c")
        if node not in self.dead_nodes | self.cut_nodes:
            self.api.put("pods", {"metadata": _named(pod), "spec": {"nodeName": node}})

    def _gone(self, pod: Object) -> None:
        """The object goes when no finalizer holds it."""
        address = ("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])
        found = self.api.objects.get(address)
        if found is not None and not found["metadata"].get("finalizers"):
            self.api.remove(address)

    def force_delete(self, workload: str) -> None:
        """Pods go from the API, whatever their kubelets do. A finalizer holds them."""
        for pod in self.api.all("pods"):
            if pod["metadata"].get("labels", {}).get("app") == workload:
                self.api.put("pods", {"metadata": _named(pod) | {"deletionTimestamp": self._stamp()}})
                self._gone(pod)

    def _endpoints(self) -> None:
        for service in self.api.all("services"):
            wanted = service["spec"]["selector"]
            ready = [p for p in self.api.all("pods") if wanted.items() <= p["metadata"].get("labels", {}).items()]
            endpoints = [self._endpoint(p) for p in ready if self._is_ready(p)]
            name = service["metadata"]["name"]
            meta = {"name": f"{name}-x", "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": name}}
            ports = [{"port": 8080, "protocol": "TCP"}]
            self.api.put("endpointslices", {"metadata": meta, "endpoints": endpoints, "ports": ports})

    def _endpoint(self, pod: Object) -> Object:
        target = {"kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
        return {"addresses": [pod["status"]["podIP"]], "conditions": {"ready": True}, "targetRef": target}

    def _is_ready(self, pod: Object) -> bool:
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))
        return ready and "deletionTimestamp" not in pod["metadata"]

    # what the agents do

    def _agent(self, pod: Object) -> None:
        if pod["spec"].get("nodeName") not in self.cut_nodes:
            super()._agent(pod)

    def _report(self, role: Role, order: Order) -> Report:
        now = rfc3339(self.clock.now_ns())
        told = super()._report(role, order)
        if role is Role.SOURCE:
            proof = None
            if order.prove is not None and self.finishes:
                wanted = order.prove
                proof = Proof(attempt=wanted.attempt, stage=wanted.stage, equal=True, files=3, bytes=30, at=now)
            return _with(told, proof=proof, problem=self.problem)
        peer = self._peer(order, now)
        through = self._contact.get("through", now)
        if order.action is Action.DRAIN:
            drained = _with(told, phase=Phase.DRAINED, peer=peer, peer_connected=False, synced_through=through)
            found = self.drained_points.get(order.volume) or self.drained_point or self._copy_point(order)
            return _with(drained, problem=self.doubt, copy_point=found)
        if order.action is Action.PROMOTE and self.doubt is not None and self.refuses:
            return _with(told, phase=Phase.FAILED, peer=peer, peer_connected=False, problem=self.doubt)
        if order.action is Action.PROMOTE:
            self.epoch_on_volume = max(self.epoch_on_volume, order.epoch)
            return _with(told, phase=Phase.PROMOTED, peer=peer, peer_connected=False, synced_through=through)
        kept = None
        if order.restore is not None and self.keeps:
            asked = order.restore
            kept = KeptAside(
                epoch=asked.epoch, attempt=asked.attempt, known=True, entries=2, bytes=20, deleted=1, at=now
            )
        told = _with(told, peer=peer, synced_through=through, kept=kept, copy_point=self._copy_point(order))
        return _with(told, problem=self.trouble)

    def _copy_point(self, order: Order) -> CopyPoint | None:
        return self.copy_points.get(order.volume, self.copy_point)

    def _peer(self, order: Order, now: str) -> PeerSeen:
        sources = self.agents(Role.SOURCE)
        dark = self.dead_nodes | self.cut_nodes
        alive = any(p["spec"].get("nodeName") not in dark and p["status"].get("phase") == "Running" for p in sources)
        if order.action is not Action.RUN:
            state = PeerState.LEFT
        elif alive:
            state, self._missed, self._contact = PeerState.CONNECTED, 0, {"heard": now, "through": now}
        else:
            self._missed += 1
            state = PeerState.LOST if self._missed >= MISSED_SECONDS and self._contact else PeerState.CONNECTED
        heard = self._contact.get("heard")
        return PeerSeen(state=state, since=now, last_heard=heard, source_time=heard)

    # the operator's lives

    def copy(self) -> FailoverWorld:
        """The same world, with an operator that was just started."""
        made = FailoverWorld(clock=HeldClock(self.clock.moment), dead_nodes=set(self.dead_nodes), image=self.image)
        made.api.take_over(self.api)
        made._contact, made._missed, made._pods = dict(self._contact), self._missed, self._pods
        made._containers.update(self._containers)
        return made

    def dies_after(self, number: int, seconds: int = 60) -> bool:
        """Until the operator has made so many writes, and is killed and started again; False where it makes fewer."""
        self.api.kill_at = (self.api.writes + number, True)
        try:
            self.ends(seconds)
        except Killed:
            self.start_operator()
            return True
        finally:
            self.api.kill_at = None
        return False

    def ends(self, seconds: int = 200) -> None:
        """Until the operation has ended and all is quiet."""
        quiet = 0
        for _ in range(seconds):
            self.tick()
            wrote = self.pass_once()
            for _ in range(3):
                if not wrote or not self.pass_once():
                    break
            over = self.operation().get("endedAt") is not None
            quiet = quiet + 1 if over and not wrote else 0
            if quiet == 3:
                return

    # what can be seen

    def operation(self) -> Object:
        """The pair's operation; empty where it never had one."""
        found: Object = self.status().get("operation") or {}
        return found

    def told(self, name: str = "now") -> Object:
        """What a Failover shows."""
        found: Object = self.api.objects[("failovers", NAMESPACE, name)].get("status", {})
        return found

    def told_home(self, name: str = "home") -> Object:
        """What a Restore shows."""
        found: Object = self.api.objects[("restores", NAMESPACE, name)].get("status", {})
        return found

    def order_of(self, pod: Object) -> Order | None:
        """The order that an agent's pod obeys; None where there is none, or it means another."""
        meta = pod["metadata"]
        found = self.api.objects.get(("configmaps", NAMESPACE, meta["name"].rpartition("-")[0]))
        order = decode(Order, found["data"][ORDER_KEY]) if found is not None else None
        return order if order is not None and order.instance == int(meta["annotations"][labels.INSTANCE]) else None

    def replicas(self, name: str) -> int:
        found: int = self.api.objects[("deployments", NAMESPACE, name)]["spec"]["replicas"]
        return found

    def selector(self) -> Object:
        found: Object = self.api.objects[("services", NAMESPACE, "orders")]["spec"]["selector"]
        return found

    def run(self, seconds: int, key: Key = KEY) -> None:
        """So many seconds, with as many passes as a pass asks for."""
        for _ in range(seconds):
            self.tick()
            for _ in range(4):
                if not self.pass_once(key):
                    break

    def until(self, *phases: str, seconds: int = 120) -> None:
        """Until the operation is in one of these phases."""
        for _ in range(seconds):
            self.tick()
            for _ in range(4):
                if self.operation().get("phase") in phases:
                    return
                if not self.pass_once():
                    break
        raise AssertionError(f"never {phases}: {self.operation().get('phase')} {self.operation().get('message')}")

    def outcome(self) -> Object:
        """What it came to, without what may differ: numbers, names and times."""
        status, operation = self.status(), self.operation()
        return {
            "phase": status["phase"],
            "live": (status["activeSide"], status["epoch"]),
            "closed": status["closedSides"],
            "operation": (operation.get("phase"), operation.get("attempt"), operation.get("mode")),
            "replicas": (self.replicas(SOURCE), self.replicas(TARGET)),
            "selector": self.selector(),
            "running": (bool(self.running(SOURCE)), bool(self.running(TARGET))),
            "asked": sorted(
                (f["metadata"]["name"], f.get("status", {}).get("phase"))
                for kind in ("failovers", "restores")
                for f in self.api.all(kind)
            ),
            "held": [p["metadata"]["name"] for p in self.api.all("pods") if p["metadata"].get("finalizers")],
            "volume": self.epoch_on_volume,
        }

    def _stamp(self) -> str:
        return self.clock.moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _named(pod: Object) -> Object:
    return {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}


def _with(report: Report, **changes: Any) -> Report:
    fields = {name: getattr(report, name) for name in report.__struct_fields__}
    return Report(**(fields | changes))
