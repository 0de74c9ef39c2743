"""File systems of their own on loop devices, and tmpfs, for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

KINDS = ("ext4", "xfs", "btrfs", "tmpfs")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@dataclass
class Disk:
    """A mounted file system."""

    path: Path
    image: Path
    kind: str
    device: str

    def grow(self, mebibytes: int) -> None:
        """While it is mounted."""
        _run("truncate", "-s", f"{mebibytes}M", str(self.image))
        _run("losetup", "-c", self.device)
        if self.kind == "ext4":
            _run("resize2fs", self.device)
        elif self.kind == "btrfs":
            _run("btrfs", "filesystem", "resize", "max", str(self.path))
        else:
            _run("xfs_growfs", str(self.path))

    def grow_unmounted(self, mebibytes: int) -> None:
        """ext4, where growing it mounted takes a privilege (CAP_SYS_RESOURCE) that we may not have."""
        _run("umount", str(self.path))
        _run("truncate", "-s", f"{mebibytes}M", str(self.image))
        _run("losetup", "-c", self.device)
        _run("e2fsck", "-fp", self.device)
        _run("resize2fs", self.device)
        _run("mount", self.device, str(self.path))

    def remount(self, option: str) -> None:
        """`ro` or `rw`, in the middle of everything."""
        _run("mount", "-o", f"remount,{option}", str(self.path))

    def abort(self) -> None:
        """ext4: as when its journal fails. It is read-only from now on, whoever has files open."""
        _run("mount", "-o", "remount,abort", str(self.path))

    def unmount(self) -> None:
        """Detached lazily, so that a failed test leaves nothing."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)

    def mount_again(self) -> None:
        """On another loop device than before."""
        _run("umount", str(self.path))
        old = self.device
        self.device = _run("losetup", "--show", "-f", str(self.image))
        subprocess.run(["losetup", "-d", old], check=False, capture_output=True)
        _run("mount", self.device, str(self.path))


@contextmanager
def after_power_cut(made: Disk, directory: Path) -> Iterator[Path]:
    """What the disk holds now, and nothing of what only memory held. (Not btrfs: it is mounted once at a time.)"""
    image, path = directory / "cut.img", directory / "cut"
    _run("cp", "--sparse=always", str(made.image), str(image))
    path.mkdir(exist_ok=True)
    _run("mount", "-o", "loop,nouuid" if made.kind == "xfs" else "loop", str(image), str(path))
    try:
        yield path
    finally:
        _run("umount", str(path))
        image.unlink()


@contextmanager
def disk(directory: Path, kind: str, mebibytes: int, name: str = "disk", *options: str) -> Iterator[Disk]:
    """A new file system of `kind`, made with mkfs' `options`, mounted; gone afterwards."""
    path = directory / name
    path.mkdir()
    if kind == "tmpfs":
        _run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}M", "tmpfs", str(path))
        made = Disk(path, path, kind, "")
    else:
        image = directory / f"{name}.img"
        _run("truncate", "-s", f"{mebibytes}M", str(image))
        _run(f"mkfs.{kind}", "-q", *options, str(image))
        device = _run("losetup", "--show", "-f", str(image))
        try:
            _run("mount", device, str(path))
        except subprocess.CalledProcessError:
            _run("losetup", "-d", device)
            raise
        made = Disk(path, image, kind, device)
    try:
        yield made
    finally:
        made.unmount()
        if made.device:
            subprocess.run(["losetup", "-d", made.device], check=False, capture_output=True)


def room_of(directory: Path) -> int:
    """Bytes on the disk that the files below take, while others write and remove them."""
    total = 0
    for here, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(here, name)).st_blocks * 512
    return total
