"""Which device the kernel's events name for a volume, and whether they can be trusted to name all.

`writeback_dirty_folio` names the backing device: for a file system on a partition that is the disk, for btrfs a name
that only /sys/fs/btrfs/<uuid>/bdi tells. All other events name the file system's own device. A wrong name filters
everything out without a word; so what it is found to be must be there in /sys/class/bdi.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass

from storagemirror.fs.mounts import Mount, mount_of
from storagemirror.fs.syscalls import file_system_uuid
from storagemirror.fs.trace.unavailable import TraceUnavailable

TRACED = ("ext4", "xfs", "btrfs")

_FIRST_SUBVOLUME, _LAST_SUBVOLUME = 256, (1 << 64) - 256
_ROOT_TREE = 1
_ROOT_ITEM = 132
_TREE_SEARCH = 0xD0009411
"""BTRFS_IOC_TREE_SEARCH: _IOWR(0x94, 17, struct btrfs_ioctl_search_args of 4096 bytes)."""
_SEARCH_KEY = struct.Struct("=7Q4I4Q")
"""tree_id, min and max of objectid, offset, transid; min and max of type, nr_items, unused; four unused."""
_SEARCH_HEADER = struct.Struct("=3Q2I")
"""transid, objectid, offset, type, len."""
_INO_LOOKUP = 0xD0009412
"""BTRFS_IOC_INO_LOOKUP: _IOWR(0x94, 18, struct btrfs_ioctl_ino_lookup_args of 4096 bytes); tells the subvolume."""


@dataclass(frozen=True, slots=True)
class Device:
    """What the events of a file system name: `bdi` in dirty pages, `number` (the kernel's dev_t) in all others."""

    fs_type: str
    bdi: str
    number: int


def find_device(root: int) -> Device:
    """Of the file system that `root` is open on. `TraceUnavailable` where not all its writes would be named."""
    mount = mount_of(root)
    if mount is None:
        raise TraceUnavailable("the mount of the volume is not in /proc/self/mountinfo", reason="DeviceNotFound")
    if mount.kind not in TRACED:
        raise TraceUnavailable(
            f"the trace was tried on {', '.join(TRACED)}; this is {mount.kind}", reason="FileSystemUntraced"
        )
    if "data=journal" in mount.options:
        raise TraceUnavailable("ext4 mounted with data=journal", reason="FileSystemUntraced")
    if mount.kind == "btrfs":
        bdi = _bdi_of_btrfs(root)
        many = several_subvolumes(root)
        if many:
            raise TraceUnavailable(many, reason="SeveralSubvolumes")
    else:
        bdi = _bdi_of_disk(mount)
    if not os.path.isdir(f"/sys/class/bdi/{bdi}"):
        raise TraceUnavailable(f"/sys/class/bdi has no {bdi!r}, which the events would name", reason="DeviceNotFound")
    return Device(mount.kind, bdi, mount.major << 20 | mount.minor)


def _bdi_of_disk(mount: Mount) -> str:
    """Of the disk that the file system is on, or has a partition of."""
    name = f"{mount.major}:{mount.minor}"
    disk = os.path.realpath(f"/sys/dev/block/{name}")
    if not os.path.isdir(disk):
        raise TraceUnavailable(f"the volume is on device {name}, which /sys/dev/block lacks", reason="DeviceNotFound")
    if os.path.exists(f"{disk}/partition"):
        disk = os.path.dirname(disk)
    if _line(f"{disk}/queue/dax") == "1" and "dax=never" not in mount.options:
        raise TraceUnavailable(
            f"the volume's device {name} gives direct access (DAX), which raises no events",
            reason="DirectAccess",
            hint="mount it with dax=never",
        )
    found = _line(f"{disk}/dev")
    if not found:
        raise TraceUnavailable(f"the disk of device {name} has no number in {disk}/dev", reason="DeviceNotFound")
    return found


def _bdi_of_btrfs(root: int) -> str:
    digits = file_system_uuid(root)
    if digits is None:
        raise TraceUnavailable("btrfs does not tell its UUID", reason="DeviceNotFound")
    parts = (digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])
    link = f"/sys/fs/btrfs/{'-'.join(parts)}/bdi"
    try:
        return os.path.basename(os.readlink(link))
    except OSError as e:
        raise TraceUnavailable(f"cannot read {link}: {e.strerror}", reason="DeviceNotFound") from e


def _line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        return ""


def several_subvolumes(root: int) -> str:
    """Why the inode numbers of this btrfs are not unique; empty where they are. The top level, which is always there,
    counts where it is mounted. `TraceUnavailable` where we may not ask."""
    try:
        lookup = bytearray(4096)
        struct.pack_into("=QQ", lookup, 0, 0, _FIRST_SUBVOLUME)
        fcntl.ioctl(root, _INO_LOOKUP, lookup)
        (mounted,) = struct.unpack_from("=Q", lookup)
        others = [number for number in _subvolumes(root) if number != mounted]
    except OSError as e:
        raise TraceUnavailable(f"cannot list btrfs subvolumes: {e.strerror}", reason="NoTracePrivilege") from e
    if others:
        return f"btrfs with subvolumes {', '.join(map(str, others[:5]))} beside the mounted one ({mounted})"
    return ""


def _subvolumes(root: int) -> list[int]:
    """The first few hundred, without the top level. OSError."""
    search = bytearray(4096)
    everything = (1 << 64) - 1
    span = (_ROOT_TREE, _FIRST_SUBVOLUME, _LAST_SUBVOLUME, 0, everything, 0, everything)
    _SEARCH_KEY.pack_into(search, 0, *span, _ROOT_ITEM, _ROOT_ITEM, 64, 0, 0, 0, 0, 0)
    fcntl.ioctl(root, _TREE_SEARCH, search)
    (items,) = struct.unpack_from("=I", search, 64)
    found, at = [], _SEARCH_KEY.size
    for _ in range(items):
        _, number, _, kind, length = _SEARCH_HEADER.unpack_from(search, at)
        at += _SEARCH_HEADER.size + length
        if kind == _ROOT_ITEM:
            found.append(number)
    return found
