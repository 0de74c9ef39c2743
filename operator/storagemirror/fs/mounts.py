"""What /proc/self/mountinfo says of mounts; and whether a volume is a file system of its own: only such a one may be
frozen, for all that is on it stands still.

/proc/self/mountinfo (proc_pid_mountinfo(5)) names for each mount its device and which directory of the file system it
shows. A volume is its own when it shows the whole file system, of a kind that was tried, and when nothing else that
this process sees is a part of the same one. In a container the latter finds the node's own disks: its files /etc/hosts
and /etc/resolv.conf are parts of those that hold the directories of kubelet and container runtime.

What it cannot find: a whole disk of the node, mounted for something else, that somebody gives to a claim as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from storagemirror.errors import VolumeError

FREEZABLE = ("ext4", "xfs", "btrfs")
"""Kinds on which freezing, points and what waits in a freeze were tried."""

SHARED = "FilesystemShared"
CANNOT = "FilesystemCannotFreeze"


_MOUNTINFO = "/proc/self/mountinfo"


class Mount(NamedTuple):
    """One line of mountinfo."""

    number: int
    device: str
    """`major:minor`. Of btrfs a number of the file system's own, the same for all its subvolumes."""
    root: str
    """Which directory of the file system is mounted; `/` for the whole."""
    place: str
    kind: str
    options: tuple[str, ...] = ()
    """The file system's, not the mount's."""

    @property
    def major(self) -> int:
        """Of the file system's own device (`s_dev`): for btrfs not what stat(2) tells of a file."""
        return int(self.device.partition(":")[0])

    @property
    def minor(self) -> int:
        """See `major`."""
        return int(self.device.partition(":")[2])


def read_mounts(path: str = _MOUNTINFO) -> list[Mount]:
    """All mounts that this process sees. OSError."""
    with open(path, encoding="utf-8", errors="surrogateescape") as lines:
        return [parse(line) for line in lines]


def parse(line: str) -> Mount:
    """`36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`; ValueError."""
    before, found, after = line.rstrip("\n").partition(" - ")
    fields = before.split(" ")
    if not found or len(fields) < 6:
        raise ValueError(f"expected a line of mountinfo, got {line!r}")
    kind, _, rest = after.partition(" ")
    options = tuple(rest.partition(" ")[2].split(","))
    return Mount(int(fields[0]), fields[2], _plain(fields[3]), _plain(fields[4]), kind, options)


def mount_of(fd: int) -> Mount | None:
    """The mount that `fd` is on; None where /proc does not tell."""
    try:
        beginning = f"{mount_number(fd)} "
        with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape") as lines:
            return next((parse(line) for line in lines if line.startswith(beginning)), None)
    except (OSError, ValueError, VolumeError):
        return None


def own_filesystem(directory: int, path: str, mounts: Sequence[Mount] | None = None) -> Mount:
    """The mount of the open `directory`, which was opened as `path`, if the whole file system is the volume's own.

    `VolumeError` with the reason `FilesystemShared` or `FilesystemCannotFreeze`.
    """
    mounts = read_mounts() if mounts is None else mounts
    number = mount_number(directory)
    ours = next((mount for mount in mounts if mount.number == number), None)
    if ours is None:
        raise VolumeError(f"{path}: its mount is not to be found in mountinfo", reason=SHARED)
    if ours.kind not in FREEZABLE:
        raise VolumeError(
            f"{path} is {ours.kind}; only {', '.join(FREEZABLE)} can be frozen",
            reason=CANNOT,
            hint="use a volume of a block device",
        )
    if ours.root != "/":
        raise VolumeError(f"{path} shows only the directory {ours.root} of a larger file system", reason=SHARED)
    if os.path.realpath(path) != ours.place:
        raise VolumeError(f"{path} is a directory of the file system at {ours.place}", reason=SHARED)
    for other in mounts:
        if other.device == ours.device and (other.root != "/" or other.place == "/"):
            raise VolumeError(f"{path} is the file system of which {other.place} is a part", reason=SHARED)
    return ours


def mount_number(directory: int) -> int:
    """Of the mount that an open directory belongs to."""
    with open(f"/proc/self/fdinfo/{directory}", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("mnt_id:"):
                return int(line.split()[1])
    raise VolumeError("/proc/self/fdinfo does not tell the mount of an open directory", reason=SHARED)


def _plain(text: str) -> str:
    """mountinfo writes space, tab, newline and backslash as `\\040` and the like."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
