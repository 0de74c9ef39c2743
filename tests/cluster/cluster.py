"""A real Kubernetes cluster of several nodes on this machine: what tests and the command line use."""

from __future__ import annotations

import datetime as dt
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.cluster.cgroups import machine_cgroups
from tests.cluster.command import run
from tests.cluster.control_plane import ControlPlane
from tests.cluster.faults import Faults, Slowness
from tests.cluster.filesystems import FileSystem
from tests.cluster.images import keep_archive, read_archive
from tests.cluster.layout import Layout, parse_size
from tests.cluster.lifecycle import Lifecycle
from tests.cluster.lock import cluster_lock
from tests.cluster.network import Lan
from tests.cluster.node import Node
from tests.cluster.nodes import Nodes
from tests.cluster.recovery import names
from tests.cluster.service import Services
from tests.cluster.teardown import Leftovers, look
from tests.cluster.volume import Volume
from tests.cluster.volumes import Volumes


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
        self._nodes = Nodes(self.layout, self._cgroups, self._lan, self._control_plane, self._volumes)
        self._faults = Faults(self.layout, self._lan, self._volumes, self._services)
        self._lifecycle = Lifecycle(
            self.layout, self._cgroups, self._lan, self._control_plane, self._nodes, self._faults
        )

    # ------------------------------------------------------------ the whole cluster

    def up(self, nodes: int | None = None) -> None:
        """Bring the cluster up, or back to a good state: all nodes have power and cable, the API server answers.

        Takes seconds when it runs. What a killed run left half-made is removed first. `nodes`: a running cluster is
        enlarged, never made smaller; None means as many as there are, or 3.
        """
        self._lifecycle.up(nodes)

    def down(self) -> None:
        """Take it down and leave nothing. No error where there is none."""
        self._lifecycle.down()

    def leftovers(self) -> Leftovers:
        """What of this prefix exists on the machine."""
        return look(self.layout, self._cgroups)

    def status(self) -> list[NodeStatus]:
        """Every node as it is. Raises NotUp."""
        nodes = self._nodes.all()
        ready = self._nodes.ready()
        return [
            NodeStatus(node.name, node.running(), self._lan.cable_plugged(node.name), node.name in ready)
            for node in nodes
        ]

    @property
    def node_names(self) -> list[str]:
        """n1 to nN. Raises NotUp."""
        return names(self._nodes.record().nodes)

    @property
    def kubeconfig(self) -> Path:
        """The file to export as KUBECONFIG. Raises NotUp."""
        self._nodes.record()
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
        with cluster_lock(self.layout):
            kept = keep_archive(image, self.layout.images)
            on = [node for node in self._nodes.all() if node.running()]
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
        with cluster_lock(self.layout):
            home = self._nodes.get(node)
            home.require_pid1()
            volume = Volume(name, parse_size(size), fs, node, claim, remount)
            self._volumes.add(volume, [home])
        return volume

    def add_movable_volume(self, name: str, size: str, fs: FileSystem = FileSystem.EXT4, *, claim: str = "") -> Volume:
        """A volume that pods on any node can use, one at a time, and its PersistentVolume of class `movable`."""
        with cluster_lock(self.layout):
            volume = Volume(name, parse_size(size), fs, None, claim)
            self._volumes.add(volume, self._nodes.running())
        return volume

    def volumes(self) -> list[Volume]:
        """Every volume that was added."""
        return self._volumes.all()

    def grow_volume(self, name: str, size: str) -> Volume:
        """Make it larger, in use or not."""
        with cluster_lock(self.layout):
            return self._volumes.grow(name, parse_size(size), self._mounted_on(self._volumes.get(name)))

    def remove_volume(self, name: str) -> None:
        """Take it and its PersistentVolume away; raises VolumeInUse while a pod holds it."""
        with cluster_lock(self.layout):
            self._volumes.remove(name, self._homes(self._volumes.get(name)))

    def unmount_volume(self, name: str) -> None:
        """Take it from its place on its node(s): a pod that starts from now on finds the bare directory."""
        with cluster_lock(self.layout):
            volume = self._volumes.get(name)
            for node in self._homes(volume):
                self._volumes.unmount(volume, node)

    def mount_volume(self, name: str) -> None:
        """Mount it in its place again."""
        with cluster_lock(self.layout):
            volume = self._volumes.get(name)
            for node in self._homes(volume):
                self._volumes.mount(volume, node)

    def reformat_volume(self, name: str) -> None:
        """Put another, empty file system in its place; raises VolumeInUse while a pod holds it."""
        with cluster_lock(self.layout):
            self._volumes.reformat(name, self._homes(self._volumes.get(name)))

    def volume_path(self, name: str, node: str | None = None) -> Path:
        """Where this machine sees the volume's files, while its node is on. `node` chooses for a movable one."""
        volume = self._volumes.get(name)
        where = self._nodes.get(node or volume.node or self._nodes.running()[0].name)
        return where.root() / volume.path.lstrip("/")

    # ------------------------------------------------------------ bad luck

    def power_off(self, node: str) -> None:
        """Take a node's power, impolitely: see `Faults.power_off`."""
        with cluster_lock(self.layout):
            victim = self._nodes.get(node)
            self._faults.power_off(victim, [other for other in self._nodes.running() if other.name != node])

    def boot(self, node: str, *, bare: bool = False, wait: float = 90) -> None:
        """Give a node its power back and wait (0: do not) until it is Ready. `bare`: mount none of its volumes."""
        with cluster_lock(self.layout):
            since = dt.datetime.now(dt.UTC)
            self._nodes.start(self._nodes.get(node), bare=bare)
        if wait:
            self._nodes.wait_ready([node], since, wait)

    def cut(self, who: str) -> None:
        """Pull the cable of a node or of "cp"."""
        self._faults.cut(self._nodes.check(who))

    def heal(self, who: str) -> None:
        """Plug it in again."""
        self._faults.heal(self._nodes.check(who))

    def slow(self, who: str, how: Slowness) -> None:
        """Make the link of a node or of "cp" slow, lossy or long; `Slowness()` makes it good again."""
        self._faults.slow(self._nodes.check(who), how)

    def stop_apiserver(self) -> None:
        """Kill the API server; etcd and the controllers run on."""
        self._nodes.record()
        self._services.stop("unavailable")
        self._control_plane.stop_apiserver()

    def start_apiserver(self) -> None:
        """Start it (and end a 503), the controllers and the scheduler anew, and wait until it is ready. Kubelets that
        saw it go come back after a back-off of up to half a minute."""
        self._nodes.record()
        self._control_plane.restart_apiserver()

    def answer_503(self) -> None:
        """Let the API server's own address answer 503 to everything, until `start_apiserver`."""
        self._nodes.record()
        self._control_plane.answer_503()

    def restart_kubelets(self) -> None:
        """Start every kubelet anew (pods run on): spares the wait for those that saw the API server go."""
        for node in self._nodes.running():
            node.restart_kubelet()

    def exec(self, node: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command on a node, as its administrator would."""
        return run(*self._nodes.get(node).enter(*words), check=check)

    def exec_command(self, node: str, *words: str) -> list[str]:
        """The words of that command."""
        return self._nodes.get(node).enter(*words)

    def network_command(self, who: str, *words: str) -> list[str]:
        """The command that runs `words` with this machine's files in the network of a node or of "cp"."""
        return ["nsenter", f"--net={self.layout.netns(self._nodes.check(who))}", "--", *words]

    # ------------------------------------------------------------ inside

    def _homes(self, volume: Volume) -> list[Node]:
        return [node for node in self._nodes.running() if volume.node in (None, node.name)]

    def _mounted_on(self, volume: Volume) -> list[Node]:
        return [node for node in self._homes(volume) if self._volumes.mounted(volume, node)]


def _in_parallel(tasks: list[Callable[[], None]]) -> None:
    """Run them side by side; the first error is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=max(1, len(tasks))) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()
