"""A real Kubernetes cluster of several nodes on this machine: what tests and the command line use."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.cluster.cgroups import machine_cgroups
from tests.cluster.command import run, say, wait_for
from tests.cluster.control_plane import ControlPlane, free_port
from tests.cluster.errors import NoSuchNode, NotUp, TimedOut
from tests.cluster.faults import Faults, Slowness
from tests.cluster.filesystems import FileSystem
from tests.cluster.images import ensure_pause, keep_archive, read_archive
from tests.cluster.layout import CONTROL_PLANE, Layout, node_name, parse_size
from tests.cluster.network import Lan
from tests.cluster.node import Node
from tests.cluster.packages import NEEDED, ensure_packages
from tests.cluster.pki import write_private
from tests.cluster.recovery import Found, Phase, Plan, Record, decide, format_record, names, parse_record
from tests.cluster.service import Services
from tests.cluster.teardown import Leftovers, look, tear_down
from tests.cluster.tools import NEEDED_FOR_UP, ensure_tools, hyperkube_key
from tests.cluster.volumes import Volume, Volumes

INOTIFY_INSTANCES = 1024


@dataclass(frozen=True)
class NodeStatus:
    """A node as it is: power, cable, and whether the API server calls it Ready."""

    name: str
    power: bool
    cable: bool
    ready: bool


class Cluster:
    """One cluster, by its prefix. An object holds no state: several may speak of the same cluster, in several
    processes; whoever changes it holds its lock."""

    def __init__(self, prefix: str = "sm") -> None:
        self.layout = Layout.of(prefix)
        self._cgroups = machine_cgroups()
        self._services = Services(self.layout, self._cgroups)
        self._lan = Lan(self.layout)
        self._control_plane = ControlPlane(self.layout, self._services)
        self._volumes = Volumes(self.layout, self._control_plane)
        self._faults = Faults(self.layout, self._lan, self._volumes)

    # ------------------------------------------------------------ the whole cluster

    def up(self, nodes: int | None = None) -> None:
        """Bring the cluster up, or back to a good state: all nodes have power and cable, the API server answers.

        Takes seconds when it runs. What a killed run left half-made is removed first. `nodes`: a running cluster is
        enlarged, never made smaller; None means as many as there are, or 3.
        """
        ensure_packages(NEEDED)
        ensure_tools(NEEDED_FOR_UP)
        ensure_pause()
        with self._locked():
            started = time.monotonic()
            plan = decide(self._found(), hyperkube_key(), nodes)
            if plan.why:
                say(plan.why)
            if plan.tear_down:
                tear_down(self.layout, self._cgroups)
            self._carry_out(plan)
            took = time.monotonic() - started
            say(f"cluster {self.layout.prefix}: {plan.nodes} nodes Ready after {took:.1f} s; "
                f"export KUBECONFIG={self.layout.kubeconfig}")  # fmt: skip

    def down(self) -> None:
        """Take it down and leave nothing. No error where there is none."""
        with self._locked(for_removal=True):
            tear_down(self.layout, self._cgroups)

    def leftovers(self) -> Leftovers:
        """What of this prefix exists on the machine."""
        return look(self.layout, self._cgroups)

    def status(self) -> list[NodeStatus]:
        """Every node as it is. Raises NotUp."""
        nodes = self._nodes()
        ready = self._ready_nodes()
        return [
            NodeStatus(node.name, node.running(), self._lan.cable_plugged(node.name), node.name in ready)
            for node in nodes
        ]

    @property
    def node_names(self) -> list[str]:
        """n1 to nN. Raises NotUp."""
        return names(self._record().nodes)

    @property
    def kubeconfig(self) -> Path:
        """The file to export as KUBECONFIG. Raises NotUp."""
        self._record()
        return self.layout.kubeconfig

    def kubectl(
        self, *words: str, check: bool = True, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl (of the cluster's own version) against this cluster."""
        return run(*self.kubectl_command(*words), check=check, stdin=stdin, timeout=timeout)

    def kubectl_command(self, *words: str) -> list[str]:
        """The words of that command, for those who start it themselves."""
        return self._control_plane.kubectl(*words)

    # ------------------------------------------------------------ images

    def load(self, archive: Path) -> tuple[str, ...]:
        """Import an image archive (docker-archive) on every node's disk, once; nodes that are off get it at boot.
        Returns the names of its images."""
        image = read_archive(archive)
        with self._locked():
            kept = keep_archive(image, self.layout.images)
            on = [node for node in self._nodes() if node.running()]
            _in_parallel([partial(node.import_image, kept) for node in on])
        return image.names

    # ------------------------------------------------------------ volumes

    def add_volume(
        self,
        node: str,
        name: str,
        size: str,
        fs: FileSystem = FileSystem.EXT4,
        *,
        claim: str = "",
        remount: bool = True,
    ) -> Volume:
        """A volume of its own file system on one node, and its PersistentVolume of class `local`, named alike."""
        with self._locked():
            home = self._node(node)
            home.require_pid1()
            volume = Volume(name, parse_size(size), fs, node, claim, remount)
            self._volumes.add(volume, [home])
        return volume

    def add_movable_volume(self, name: str, size: str, fs: FileSystem = FileSystem.EXT4, *, claim: str = "") -> Volume:
        """A volume that pods on any node can use, one at a time, and its PersistentVolume of class `movable`."""
        with self._locked():
            volume = Volume(name, parse_size(size), fs, None, claim)
            self._volumes.add(volume, self._running())
        return volume

    def volumes(self) -> list[Volume]:
        """Every volume that was added."""
        return self._volumes.all()

    def grow_volume(self, name: str, size: str) -> Volume:
        """Make it larger, in use or not."""
        with self._locked():
            return self._volumes.grow(name, parse_size(size), self._mounted_on(self._volumes.get(name)))

    def remove_volume(self, name: str) -> None:
        """Take it and its PersistentVolume away; raises VolumeInUse while a pod holds it."""
        with self._locked():
            self._volumes.remove(name, self._homes(self._volumes.get(name)))

    def unmount_volume(self, name: str) -> None:
        """Take it from its place on its node(s): a pod that starts from now on finds the bare directory."""
        with self._locked():
            volume = self._volumes.get(name)
            for node in self._homes(volume):
                self._volumes.unmount(volume, node)

    def mount_volume(self, name: str) -> None:
        """Mount it in its place again."""
        with self._locked():
            volume = self._volumes.get(name)
            for node in self._homes(volume):
                self._volumes.mount(volume, node)

    def reformat_volume(self, name: str) -> None:
        """Put another, empty file system in its place; raises VolumeInUse while a pod holds it."""
        with self._locked():
            self._volumes.reformat(name, self._homes(self._volumes.get(name)))

    def volume_path(self, name: str, node: str | None = None) -> Path:
        """Where this machine sees the volume's files, while its node is on. `node` chooses for a movable one."""
        volume = self._volumes.get(name)
        where = self._node(node or volume.node or self._running()[0].name)
        return where.root() / volume.path.lstrip("/")

    # ------------------------------------------------------------ bad luck

    def power_off(self, node: str) -> None:
        """Take a node's power, impolitely: see `Faults.power_off`."""
        with self._locked():
            victim = self._node(node)
            self._faults.power_off(victim, [other for other in self._running() if other.name != node])

    def boot(self, node: str, *, bare: bool = False, wait: float = 90) -> None:
        """Give a node its power back and wait (0: do not) until it is Ready. `bare`: mount none of its volumes."""
        with self._locked():
            since = dt.datetime.now(dt.UTC)
            self._start(self._node(node), bare=bare)
        if wait:
            self._wait_ready([node], since, wait)

    def cut(self, who: str) -> None:
        """Pull the cable of a node or of "cp"."""
        self._check_who(who)
        self._faults.cut(who)

    def heal(self, who: str) -> None:
        """Plug it in again."""
        self._check_who(who)
        self._faults.heal(who)

    def slow(self, who: str, how: Slowness) -> None:
        """Make the link of a node or of "cp" slow or lossy; `Slowness()` makes it good again."""
        self._check_who(who)
        self._faults.slow(who, how)

    def stop_apiserver(self) -> None:
        """Kill the API server; etcd and the controllers run on."""
        self._record()
        self._services.stop("unavailable")
        self._control_plane.stop_apiserver()

    def start_apiserver(self) -> None:
        """Start it (and end a 503), the controllers and the scheduler anew, and wait until it is ready. Kubelets that
        saw it go come back after a back-off of up to half a minute."""
        self._record()
        self._control_plane.restart_apiserver()

    def answer_503(self) -> None:
        """Let the API server's own address answer 503 to everything, until `start_apiserver`."""
        self._record()
        self._control_plane.answer_503()

    def exec(self, node: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a node, as its administrator would."""
        return run(*self._node(node).enter(*words), check=check)

    def exec_command(self, node: str, *words: str) -> list[str]:
        """The words of that command."""
        return self._node(node).enter(*words)

    def network_command(self, who: str, *words: str) -> list[str]:
        """The command that runs `words` with this machine's files in the network of a node or of "cp"."""
        self._check_who(who)
        return ["nsenter", f"--net={self.layout.netns(who)}", "--", *words]

    # ------------------------------------------------------------ inside

    def _record(self) -> Record:
        path = self.layout.state / "cluster.json"
        record = parse_record(path.read_text()) if path.exists() else None
        if record is None or record.phase is not Phase.UP:
            raise NotUp(f"the cluster {self.layout.prefix!r} is not up", hint="make cluster-up")
        return record

    def _found(self) -> Found:
        path = self.layout.state / "cluster.json"
        record = parse_record(path.read_text()) if path.exists() else None
        if record is None:
            return Found(None, bool(self.leftovers()), False, False, frozenset(), frozenset())
        handles = [self.layout.netns(who) for who in ("lan", CONTROL_PLANE, *names(record.nodes))]
        network = all(os.path.ismount(handle) for handle in handles)
        whos = (CONTROL_PLANE, *names(record.nodes)) if network else ()
        return Found(
            record=record,
            leftovers=True,
            network=network,
            control_plane=network and self._control_plane.running() and self._control_plane.ready(),
            running=frozenset(name for name in names(record.nodes) if self._make_node(name).running()),
            plugged=frozenset(who for who in whos if self._lan.cable_plugged(who)),
        )

    def _carry_out(self, plan: Plan) -> None:
        path = self.layout.state / "cluster.json"
        old = parse_record(path.read_text()) if path.exists() else None
        port = old.api_port if old else free_port()
        fresh = old is None
        if fresh:
            self.layout.images.mkdir(parents=True)
            write_private(path, format_record(Record(hyperkube_key(), plan.nodes, port, Phase.MAKING)))
            keep_archive(read_archive(ensure_pause()), self.layout.images)
            _allow_inotify()
            self._lan.make()
            self._control_plane.prepare(port)
        for who in plan.plug:
            self._lan.set_cable(who, plugged=True)
        if plan.start_control_plane:
            self._control_plane.start(port)
        since = dt.datetime.now(dt.UTC)
        for name in plan.boot:
            self._start(self._make_node(name), bare=False)
        self._wait_ready(list(plan.boot), since, 120)
        self._wait_all_ready(plan.nodes, 90)
        write_private(path, format_record(Record(hyperkube_key(), plan.nodes, port, Phase.UP)))

    def _start(self, node: Node, *, bare: bool) -> None:
        self._lan.connect(node.name)
        self._lan.set_cable(node.name, plugged=True)
        node.start(self._volumes.for_boot(node, bare=bare))

    def _wait_ready(self, nodes: list[str], since: dt.datetime, seconds: float) -> None:
        """Until the kubelets that run now have said that they are Ready (an older word does not count)."""
        for name in nodes:
            node = self._make_node(name)

            def fresh(node: Node = node) -> bool:
                said = node.reported_ready_since()
                return said is not None and dt.datetime.fromisoformat(said) > since  # whole seconds, rounded down

            try:
                wait_for(f"node {name} to be Ready", fresh, seconds, every=0.3)
            except TimedOut as e:
                logs = "\n".join(f"--- {log} of {name}:\n{node.log_tail(log)}" for log in ("init", "kubelet"))
                raise TimedOut(f"{e.message}\n{logs}") from e

    def _wait_all_ready(self, nodes: int, seconds: float) -> None:
        wait_for(f"all {nodes} nodes to be Ready", lambda: self._ready_nodes() >= set(names(nodes)), seconds)

    def _ready_nodes(self) -> set[str]:
        template = '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}'
        done = self.kubectl("get", "nodes", "--request-timeout=5s", "-o", f"jsonpath={template}", check=False)
        return {pair.split("=")[0] for pair in done.stdout.split() if pair.endswith("=True")}

    def _make_node(self, name: str) -> Node:
        return Node(self.layout, self._cgroups, self._lan, self._control_plane, name)

    def _node(self, name: str) -> Node:
        node = self._make_node(name)
        if node.number > self._record().nodes:
            raise NoSuchNode(f"the cluster has nodes n1 to {node_name(self._record().nodes)}, but no {name}")
        return node

    def _nodes(self) -> list[Node]:
        return [self._make_node(name) for name in self.node_names]

    def _running(self) -> list[Node]:
        return [node for node in self._nodes() if node.running()]

    def _homes(self, volume: Volume) -> list[Node]:
        return [node for node in self._running() if volume.node in (None, node.name)]

    def _mounted_on(self, volume: Volume) -> list[Node]:
        return [node for node in self._homes(volume) if self._volumes.mounted(volume, node)]

    def _check_who(self, who: str) -> None:
        if who == CONTROL_PLANE:
            self._record()
        else:
            self._node(who)

    @contextmanager
    def _locked(self, *, for_removal: bool = False) -> Iterator[None]:
        """Hold the cluster's lock. Its file goes with the cluster, so the one that was locked must still be the one
        that is there."""
        self.layout.base.mkdir(parents=True, exist_ok=True)
        while True:
            with self.layout.lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not _same_file(file.fileno(), self.layout.lock):
                    continue
                yield
                if for_removal:
                    self.layout.lock.unlink()
                    _remove_if_empty(self.layout.base)
                return


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _remove_if_empty(directory: Path) -> None:
    if not any(directory.iterdir()):
        directory.rmdir()


def _allow_inotify() -> None:
    """Kubelets, containerds and agents of several nodes share one kernel's limit, of 128 by default."""
    setting = Path("/proc/sys/fs/inotify/max_user_instances")
    if int(setting.read_text()) < INOTIFY_INSTANCES:
        say(f"raising {setting} to {INOTIFY_INSTANCES}: the nodes share one kernel")
        setting.write_text(str(INOTIFY_INSTANCES))


def _in_parallel(tasks: list[Callable[[], None]]) -> None:
    """Run them side by side; the first error is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=max(1, len(tasks))) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()
