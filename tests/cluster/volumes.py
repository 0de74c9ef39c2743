"""Volumes: file systems of their own behind loop devices, mounted on nodes, offered as PersistentVolumes.

A **local** volume belongs to one node. A **movable** one is the same file system mounted on several nodes at once (the
kernel keeps one superblock for one device, so that all see the same files at once): a disk of the network that pods
may use on any node, one at a time.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

from tests.cluster.boot import BootVolume
from tests.cluster.command import run, say
from tests.cluster.control_plane import ControlPlane
from tests.cluster.errors import BadName, CommandFailed, NoSuchVolume, Unsupported, VolumeExists, VolumeInUse
from tests.cluster.filesystems import (
    FileSystem,
    attach,
    detach,
    keep_state,
    loop_devices,
    make_image,
    put_back,
    shut_down,
    thaw,
)
from tests.cluster.layout import Layout, check_volume_name
from tests.cluster.node import Node
from tests.cluster.pki import write_private
from tests.cluster.volume import Volume, parse_volume, persistent_volume, quantity, split_claim


class Volumes:
    """All volumes of one cluster."""

    def __init__(self, layout: Layout, control_plane: ControlPlane) -> None:
        self._layout = layout
        self._control_plane = control_plane

    def all(self) -> list[Volume]:
        """Every volume that was added, by name."""
        records = sorted((self._layout.state / "volumes").glob("*.json"))
        return [parse_volume(record.read_text()) for record in records]

    def get(self, name: str) -> Volume:
        """The volume, or NoSuchVolume."""
        record = self._layout.volume_record(check_volume_name(name))
        if not record.exists():
            there = ", ".join(volume.name for volume in self.all()) or "none"
            raise NoSuchVolume(f"no volume {name!r} was added to this cluster; there are: {there}")
        return parse_volume(record.read_text())

    def add(self, volume: Volume, nodes: list[Node]) -> None:
        """Make it, mount it on the given running nodes and offer it. Raises VolumeExists."""
        check_volume_name(volume.name)
        if volume.claim:
            split_claim(volume.claim)
        if self._layout.volume_record(volume.name).exists():
            raise VolumeExists(f"a volume {volume.name!r} is there already", hint="remove it, or take another name")
        if volume.node is None and volume.fs is FileSystem.BTRFS:
            raise Unsupported("a btrfs cannot lose its power on one node and stay on another", hint="use ext4 or xfs")
        make_image(self.image(volume), volume.size, volume.fs)
        self._write(volume)
        for node in nodes:
            self.mount(volume, node)
        self._apply(volume)

    def image(self, volume: Volume) -> Path:
        """The file behind it."""
        return self._layout.volume_image(volume.name)

    def mount(self, volume: Volume, node: Node) -> None:
        """Mount it in its place on a running node, unless it is."""
        if self.mounted(volume, node):
            return
        device = attach(self.image(volume))
        run(*node.enter("mkdir", "-p", volume.path))
        run(*node.enter("mount", "-t", volume.fs, device, volume.path))

    def unmount(self, volume: Volume, node: Node) -> None:
        """Unmount it from its place; pods that hold it keep it."""
        if self.mounted(volume, node):
            run(*node.enter("umount", volume.path))

    def mounted(self, volume: Volume, node: Node) -> bool:
        """Whether the place on the node is a mount."""
        return any(point == volume.path for _, point in mounts(node.require_pid1()))

    def users(self, volume: Volume, node: Node) -> list[int]:
        """Processes on the node that hold the volume by another mount than its place (a container's, a pod's)."""
        device = self._device_number(volume)
        first = node.pid1()
        if device is None or first is None:
            return []
        own = _mount_namespace(first)
        held = [pid for pid in node.processes() if _mount_namespace(pid) != own and _holds(pid, device)]
        if any(number == device and point != volume.path for number, point in mounts(first)):
            held.append(first)
        return held

    def grow(self, name: str, size: int, nodes: list[Node]) -> Volume:
        """Make it larger while it is in use; the PersistentVolume tells the new size, claims are left alone."""
        volume = self.get(name)
        if size <= volume.size:
            raise BadName(f"expected a size of more than {volume.size} bytes for {name}, not {size}")
        grown = replace(volume, size=size)
        os.truncate(self.image(volume), size)
        try:
            self._grow_file_system(volume, nodes)
        except Unsupported:
            os.truncate(self.image(volume), volume.size)
            device = self._device(volume)
            if device is not None:
                run("losetup", "--set-capacity", device)
            raise
        self._write(grown)
        patch = json.dumps({"spec": {"capacity": {"storage": quantity(size)}}})
        run(*self._control_plane.kubectl("patch", "pv", name, "--type=merge", "-p", patch))
        return grown

    def remove(self, name: str, nodes: list[Node]) -> None:
        """Take it away with its PersistentVolume; raises VolumeInUse while pods hold it."""
        volume = self.get(name)
        self._require_unused(volume, nodes)
        delete = self._control_plane.kubectl("delete", "pv", name, "--ignore-not-found", "--wait=false")
        run(*delete)
        self._release(volume, nodes)
        self.image(volume).unlink(missing_ok=True)
        self._layout.volume_record(name).unlink()

    def reformat(self, name: str, nodes: list[Node]) -> None:
        """Put a fresh, empty file system (another identity) where the volume was; raises VolumeInUse."""
        volume = self.get(name)
        self._require_unused(volume, nodes)
        self._release(volume, nodes)
        make_image(self.image(volume), volume.size, volume.fs)
        for node in nodes:
            self.mount(volume, node)

    def for_boot(self, node: Node, *, bare: bool) -> tuple[BootVolume, ...]:
        """What a booting node is to mount; with `bare`, only directories."""
        return tuple(
            BootVolume(volume.path, volume.fs, attach(self.image(volume)) if volume.remount and not bare else None)
            for volume in self.all()
            if volume.node in (None, node.name)
        )

    def lose_unsynced(self, node: Node, others: list[Node]) -> None:
        """Shut the volumes of a frozen node down as a power cut does.

        A movable volume is shut down only if the node used it, and then mounted anew on the others. Where a pod on
        another node holds it too, its unsynced data survives (the machine's kernel shares it), and that is said.
        """
        root = node.root()
        for volume in self.all():
            if volume.node not in (None, node.name) or not self.mounted(volume, node):
                continue
            place = root / volume.path.lstrip("/")
            if volume.node is None:
                if not self.users(volume, node):
                    continue
                if any(self.users(volume, other) for other in others):
                    say(f"{volume.name} is held on another node too: nothing of it is lost with {node.name}")
                    continue
                for other in others:
                    self.unmount(volume, other)
            if volume.fs is FileSystem.BTRFS:
                keep_state(self.image(volume))
                thaw(place)  # so that those who wait for it can end
            else:
                shut_down(place)

    def after_power_off(self, others: list[Node]) -> None:
        """Let go of devices that no running node uses; mount what moved away again on the others."""
        for volume in self.all():
            device = self._device(volume)
            if device is None:
                continue
            if not any(self._on(device, node) for node in others):
                detach(device)
                put_back(self.image(volume))
            if volume.node is None:
                for node in others:
                    self.mount(volume, node)

    def _grow_file_system(self, volume: Volume, nodes: list[Node]) -> None:
        """Tell the file system that its device has grown. Growing a mounted ext4 needs CAP_SYS_RESOURCE, which is not
        to be had everywhere: it is unmounted for that, or refused with Unsupported where pods hold it."""
        device = attach(self.image(volume))
        run("losetup", "--set-capacity", device)
        for node in nodes[:1]:
            if volume.fs is FileSystem.XFS:
                run(*node.enter("xfs_growfs", volume.path))
                return
            if volume.fs is FileSystem.BTRFS:
                run(*node.enter("btrfs", "filesystem", "resize", "max", volume.path))
                return
            done = run(*node.enter("resize2fs", device), check=False)
            if done.returncode == 0:
                return
            if "Permission denied" not in done.stderr:
                raise CommandFailed(["resize2fs", device], done.returncode, done.stderr)
        if any(self.users(volume, node) for node in nodes):
            raise Unsupported(
                f"{volume.name} cannot grow while pods use it: the kernel lets nobody grow a mounted ext4 here",
                hint="use an xfs volume (--fs xfs), or delete its pods first",
            )
        for node in nodes:
            self.unmount(volume, node)
        offline = run("e2fsck", "-f", "-p", device, check=False)
        if offline.returncode not in (0, 1):
            raise CommandFailed(["e2fsck", device], offline.returncode, offline.stdout + offline.stderr)
        run("resize2fs", device)
        for node in nodes:
            self.mount(volume, node)

    def _require_unused(self, volume: Volume, nodes: list[Node]) -> None:
        for node in nodes:
            users = self.users(volume, node)
            if users:
                named = ", ".join(f"{pid} ({_command(pid)})" for pid in users[:5])
                raise VolumeInUse(
                    f"volume {volume.name} is held on {node.name} by process {named}", hint="delete its pods first"
                )

    def _release(self, volume: Volume, nodes: list[Node]) -> None:
        for node in nodes:
            self.unmount(volume, node)
        device = self._device(volume)
        if device is not None:
            detach(device)

    def _apply(self, volume: Volume) -> None:
        run(*self._control_plane.kubectl("apply", "-f", "-"), stdin=json.dumps(persistent_volume(volume)))

    def _write(self, volume: Volume) -> None:
        write_private(self._layout.volume_record(volume.name), json.dumps(asdict(volume)))

    def _device(self, volume: Volume) -> str | None:
        image = self.image(volume)
        return next((device for device, file in loop_devices(image.parent).items() if file == image), None)

    def _device_number(self, volume: Volume) -> str | None:
        device = self._device(volume)
        return None if device is None else _number(device)

    def _on(self, device: str, node: Node) -> bool:
        first, number = node.pid1(), _number(device)
        return first is not None and any(_holds(pid, number) for pid in [first, *node.processes()])


def mounts(pid: int) -> list[tuple[str, str]]:
    """Device number ("7:3") and place of every mount that a process sees."""
    with contextlib.suppress(OSError):
        return [_mount(line) for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
    return []


def _mount(line: str) -> tuple[str, str]:
    """Of a line of mountinfo. A btrfs has a number of its own there; its disk's is told by the source's name."""
    words, _, rest = line.partition(" - ")
    kind, source, *_ = rest.split()
    number, place = words.split()[2], words.split()[4]
    return (_number(source) if kind == FileSystem.BTRFS and Path(source).exists() else number), place


def _holds(pid: int, number: str) -> bool:
    return any(number == device for device, _ in mounts(pid))


def _number(device: str) -> str:
    status = os.stat(device)
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _mount_namespace(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/mnt")
    return ""


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80].strip()
    return "gone"
