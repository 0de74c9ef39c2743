"""A node: starting it, finding it, entering it, and taking its power away."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster.ask import ask
from tests.cluster.boot import Boot, BootVolume, format_boot
from tests.cluster.cgroups import Cgroups, inside
from tests.cluster.command import run, wait_for
from tests.cluster.control_plane import ControlPlane
from tests.cluster.errors import NodeOff
from tests.cluster.images import missing_images
from tests.cluster.layout import Layout, checkout, node_ip, node_number
from tests.cluster.network import Lan, enter
from tests.cluster.node_config import (
    IMAGES,
    cni_conflist,
    containerd_toml,
    kubelet_config,
    proxy_config,
    resolv_conf,
)
from tests.cluster.service import own_module
from tests.cluster.tools import cache_directory, tool_path


def namespace_pid(status: str) -> tuple[int, ...]:
    """A process's numbers in its PID namespaces, outermost first, from the text of /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            return tuple(int(number) for number in line.split()[1:])
    return ()


class Node:
    """One node of a cluster, by its name. Nothing is remembered: everything is looked up."""

    def __init__(self, layout: Layout, cgroups: Cgroups, lan: Lan, control_plane: ControlPlane, name: str) -> None:
        self.name = name
        self.number = node_number(name)
        self._layout = layout
        self._cgroups = cgroups
        self._lan = lan
        self._control_plane = control_plane
        self._home = layout.node(name)

    @property
    def group(self) -> str:
        """The cgroup that holds all of the node."""
        return self._layout.cgroup(self.name)

    def pid1(self) -> int | None:
        """The node's first process as this machine numbers it; None when the node is off."""
        for pid in self._cgroups.pids(f"{self.group}/init"):
            with contextlib.suppress(OSError):
                numbers = namespace_pid(Path(f"/proc/{pid}/status").read_text())
                if len(numbers) == 2 and numbers[1] == 1:
                    return pid
        return None

    def running(self) -> bool:
        """Whether the node has power."""
        return self.pid1() is not None

    def require_pid1(self) -> int:
        """As `pid1`, or NodeOff."""
        pid = self.pid1()
        if pid is None:
            raise NodeOff(f"node {self.name} is off", hint=f"start it: boot {self.name}")
        return pid

    def root(self) -> Path:
        """The node's file tree as seen from this machine."""
        return Path(f"/proc/{self.require_pid1()}/root")

    def enter(self, *words: str) -> list[str]:
        """The command that runs `words` on the node (its files, network, processes and host name)."""
        return ["nsenter", f"--target={self.require_pid1()}", "--mount", "--net", "--pid", "--uts", "--", *words]

    def start(self, volumes: tuple[BootVolume, ...]) -> None:
        """Boot with these volumes. The node's disk is the one it had; its network starts empty, and so do its control
        groups: a kubelet waits 3 s for each container that it finds by its group and whose task is gone."""
        if self.running():
            return
        self._cgroups.kill(self.group)
        self._cgroups.remove(self.group)
        self._cgroups.make_kubelet_root(self.group)
        self._cgroups.make(f"{self.group}/init")
        self._lan.connect(self.name)
        self._lan.reset_node(self.name)
        self._write_files(volumes)
        words = enter(
            self._layout.netns(self.name), "unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--"
        )
        words += own_module("tests.cluster.node_init", str(self._home / "boot.json"))
        with (self._home / "logs" / "init.log").open("ab") as log:
            subprocess.Popen(
                inside(self._cgroups.directory(f"{self.group}/init"), words),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        wait_for(f"{self.name}'s first process", self.running, 10, every=0.02)

    def kill(self) -> None:
        """End everything on the node, now."""
        self._cgroups.kill(self.group)

    def freeze(self) -> None:
        """Stop everything on the node where it stands."""
        self._cgroups.freeze(self.group, True)

    def reported_ready_since(self) -> str | None:
        """The time of the kubelet's last status with Ready=True as the API server has it (RFC 3339), or None."""
        found = ask(self._layout.kubeconfig, f"/api/v1/nodes/{self.name}")
        if found is None:
            return None
        for condition in found["status"].get("conditions", ()):
            if condition["type"] == "Ready" and condition["status"] == "True":
                return str(condition["lastHeartbeatTime"])
        return None

    def import_image(self, archive: Path) -> None:
        """Import a kept archive onto the node's disk, if it is not there yet."""
        done = self._home / "imported"
        have = done.read_text().split() if done.exists() else []
        if archive.name in have:
            return
        run(*self.enter("ctr", "-n", "k8s.io", "images", "import", f"{IMAGES}/{archive.name}"))
        with done.open("a") as file:
            file.write(archive.name + "\n")

    def processes(self) -> list[int]:
        """All processes on the node, as this machine numbers them."""
        return self._cgroups.pids(self.group)

    def restart_kubelet(self) -> None:
        """End the kubelet; the node's first process starts it again within a second."""
        for pid in self._cgroups.pids(f"{self.group}/init"):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1:2] == [b"kubelet"]:
                    os.kill(pid, signal.SIGKILL)

    def log_tail(self, name: str, size: int = 3000) -> str:
        """The end of the log of "init", "kubelet", "containerd" or "proxy"."""
        path = self._home / "logs" / f"{name}.log"
        return path.read_bytes()[-size:].decode(errors="replace") if path.exists() else ""

    def _write_files(self, volumes: tuple[BootVolume, ...]) -> None:
        (self._home / "logs").mkdir(parents=True, exist_ok=True)
        (self._home / "cni.d").mkdir(exist_ok=True)
        shutil.copy(self._control_plane.config_of(self.name), self._home / "kubelet.kubeconfig")
        shutil.copy(self._control_plane.config_of("proxy"), self._home / "proxy.kubeconfig")
        shutil.copy(self._layout.pki / "ca.crt", self._home / "ca.crt")
        missing = missing_images(self._layout.images, self._home / "imported")
        boot = Boot(
            name=self.name,
            ip=node_ip(self.number),
            hyperkube=str(tool_path("hyperkube")),
            volumes=volumes,
            images=tuple(path.name for path in missing),
            needed_paths=self._needed_paths(),
        )
        for name, text in (
            ("boot.json", format_boot(boot)),
            ("containerd.toml", containerd_toml()),
            ("cni.d/10-pods.conflist", cni_conflist(self.number)),
            ("kubelet.json", kubelet_config(self.group)),
            ("proxy.json", proxy_config(self.number)),
            ("resolv.conf", resolv_conf()),
        ):
            (self._home / name).write_text(text)

    def _needed_paths(self) -> tuple[str, ...]:
        paths = {checkout(), cache_directory(), self._layout.state, Path(sys.prefix), Path(sys.base_prefix)}
        return tuple(sorted(os.path.realpath(path) for path in paths))
