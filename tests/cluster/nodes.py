"""All nodes of one cluster: which there are, starting them, and whether the API server calls them Ready."""

from __future__ import annotations

import datetime as dt

from tests.cluster.cgroups import Cgroups
from tests.cluster.command import run, wait_for
from tests.cluster.control_plane import ControlPlane
from tests.cluster.errors import NoSuchNode, NotUp, TimedOut
from tests.cluster.layout import CONTROL_PLANE, Layout, node_name
from tests.cluster.network import Lan
from tests.cluster.node import Node
from tests.cluster.recovery import Phase, Record, names, parse_record
from tests.cluster.volumes import Volumes


class Nodes:
    """The nodes that the cluster's record tells of."""

    def __init__(
        self, layout: Layout, cgroups: Cgroups, lan: Lan, control_plane: ControlPlane, volumes: Volumes
    ) -> None:
        self._layout = layout
        self._cgroups = cgroups
        self._lan = lan
        self._control_plane = control_plane
        self._volumes = volumes

    def written(self) -> Record | None:
        """What is written down of the cluster, finished or not."""
        path = self._layout.record
        return parse_record(path.read_text()) if path.exists() else None

    def record(self) -> Record:
        """The record of a cluster that is up; raises NotUp."""
        record = self.written()
        if record is None or record.phase is not Phase.UP:
            raise NotUp(f"the cluster {self._layout.prefix!r} is not up", hint="make cluster-up")
        return record

    def make(self, name: str) -> Node:
        """A node by its name, whether the record knows it or not."""
        return Node(self._layout, self._cgroups, self._lan, self._control_plane, name)

    def get(self, name: str) -> Node:
        """A node of the cluster; raises NoSuchNode."""
        node = self.make(name)
        if node.number > self.record().nodes:
            raise NoSuchNode(f"the cluster has nodes n1 to {node_name(self.record().nodes)}, but no {name}")
        return node

    def all(self) -> list[Node]:
        """Every node, with power or without."""
        return [self.make(name) for name in names(self.record().nodes)]

    def running(self) -> list[Node]:
        """Those with power."""
        return [node for node in self.all() if node.running()]

    def check(self, who: str) -> str:
        """`who` itself, if it is "cp" or a node of the cluster."""
        if who == CONTROL_PLANE:
            self.record()
        else:
            self.get(who)
        return who

    def start(self, node: Node, *, bare: bool = False) -> None:
        """Give it power and cable, and its volumes (or, with `bare`, none)."""
        self._lan.connect(node.name)
        self._lan.set_cable(node.name, plugged=True)
        node.start(self._volumes.for_boot(node, bare=bare))

    def wait_ready(self, wanted: list[str], since: dt.datetime, seconds: float) -> None:
        """Until the kubelets that run now have said that they are Ready (an older word does not count)."""
        for name in wanted:
            node = self.make(name)

            def fresh(node: Node = node) -> bool:
                said = node.reported_ready_since()
                return said is not None and dt.datetime.fromisoformat(said) > since  # whole seconds, rounded down

            try:
                wait_for(f"node {name} to be Ready", fresh, seconds, every=0.3)
            except TimedOut as e:
                logs = "\n".join(f"--- {log} of {name}:\n{node.log_tail(log)}" for log in ("init", "kubelet"))
                raise TimedOut(f"{e.message}\n{logs}") from e

    def wait_all_ready(self, count: int, seconds: float) -> None:
        """Until the API server calls n1 to nCOUNT Ready."""
        wait_for(f"all {count} nodes to be Ready", lambda: self.ready() >= set(names(count)), seconds)

    def ready(self) -> set[str]:
        """The names of the nodes that the API server calls Ready; empty when it does not answer."""
        template = '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'
        words = ("get", "nodes", "--request-timeout=5s", "-o", f"jsonpath={template}")
        done = run(*self._control_plane.kubectl(*words), check=False)
        return {pair.split("=")[0] for pair in done.stdout.split() if pair.endswith("=True")}
