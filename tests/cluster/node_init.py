"""The first process of a node: makes the node's own view of the files, mounts its volumes, starts its software.

`python -m tests.cluster.node_init BOOT_FILE`, as process 1 of fresh PID, mount and UTS namespaces. When this process
ends, everything on the node ends with it, at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.cluster.boot import Boot, parse_boot
from tests.cluster.node_config import BOUND, CONTAINERD_SOCKET, HERE, IMAGES


def main(words: list[str]) -> None:
    """Boot, then look after the node's programs forever."""
    boot_file = Path(words[0])
    boot = parse_boot(boot_file.read_text())
    make_view(boot, boot_file.parent)
    mount_volumes(boot)
    Supervisor(boot).run()


def call(*words: str) -> None:
    """Run a command that must succeed; what it says goes to the node's log."""
    subprocess.run(words, check=True)


def make_view(boot: Boot, home: Path) -> None:
    """A private /proc, /run and /var, the node's directories on the node's own disk, and nothing mounted that is not
    needed: a mount that somebody makes and removes beside us must not be held by a node."""
    socket.sethostname(boot.name)
    call("mount", "--make-rprivate", "/")
    call("mount", "-t", "proc", "proc", "/proc")
    drop_foreign_mounts(boot.needed_paths)
    handle = os.open(home, os.O_PATH | os.O_DIRECTORY)
    call("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for directory in (HERE, IMAGES, "/run/lock", "/run/.var-upper", "/run/.var-work"):
        Path(directory).mkdir()
    call("mount", "--bind", f"/proc/1/fd/{handle}", HERE)
    call("mount", "--bind", f"/proc/1/fd/{handle}/../../images", IMAGES)
    os.close(handle)
    layers = "lowerdir=/var,upperdir=/run/.var-upper,workdir=/run/.var-work"
    call("mount", "-t", "overlay", "-o", layers, "overlay", "/var")
    for place, on_disk in BOUND.items():
        source = Path(HERE) / "disk" / on_disk
        source.mkdir(parents=True, exist_ok=True)
        Path(place).mkdir(parents=True, exist_ok=True)
        call("mount", "--bind", str(source), place)
    call("mount", "--make-rshared", "/")


def drop_foreign_mounts(needed: tuple[str, ...]) -> None:
    """Let go of every mount that is neither the system's nor holds a path we need."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    for point in reversed(points):
        if point == "/" or point.split("/")[1] in ("proc", "sys", "dev"):
            continue
        if not any(path == point or path.startswith(point + "/") for path in needed):
            subprocess.run(["umount", "-l", point], check=False)


def mount_volumes(boot: Boot) -> None:
    """Each volume on its place; one that cannot be mounted is told in the log, and its bare directory stays."""
    for volume in boot.volumes:
        Path(volume.path).mkdir(parents=True, exist_ok=True)
        if volume.device is not None:
            subprocess.run(["mount", "-t", volume.fs, volume.device, volume.path], check=False)


class Supervisor:
    """Starts containerd, kubelet and kube-proxy, starts again what ends, and buries orphans, as an init does."""

    def __init__(self, boot: Boot) -> None:
        self._boot = boot
        self._running: dict[int, str] = {}
        hyperkube = boot.hyperkube
        self._programs = {
            "containerd": ["containerd", "--config", f"{HERE}/containerd.toml"],
            "kubelet": [
                hyperkube,
                "kubelet",
                f"--kubeconfig={HERE}/kubelet.kubeconfig",
                f"--config={HERE}/kubelet.json",
                f"--hostname-override={boot.name}",
                f"--node-ip={boot.ip}",
            ],
            "proxy": [hyperkube, "kube-proxy", f"--config={HERE}/proxy.json"],
        }

    def run(self) -> None:
        """Never returns."""
        self._start("containerd")
        while not self._containerd_answers():
            time.sleep(0.05)
        self._import_images()
        self._start("kubelet")
        self._start("proxy")
        while True:
            pid, status = os.wait()
            name = self._running.pop(pid, None)
            if name is not None:
                print(f"{name} ended with {status}; starting it again", flush=True)
                time.sleep(1)
                self._start(name)

    def _start(self, name: str) -> None:
        Path(HERE, "logs").mkdir(exist_ok=True)
        with Path(HERE, "logs", f"{name}.log").open("ab") as log:
            pid = os.posix_spawnp(
                self._programs[name][0],
                self._programs[name],
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, log.fileno(), 1), (os.POSIX_SPAWN_DUP2, log.fileno(), 2)],
            )
        self._running[pid] = name

    def _containerd_answers(self) -> bool:
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
            return probe.connect_ex(CONTAINERD_SOCKET) == 0

    def _import_images(self) -> None:
        done = Path(HERE, "imported")
        for name in self._boot.images:
            words = ["ctr", "-n", "k8s.io", "images", "import", f"{IMAGES}/{name}"]
            status = subprocess.run(words, check=False).returncode
            print(f"imported {name}: status {status}", flush=True)
            if status == 0:
                with done.open("a") as file:
                    file.write(name + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
