"""Which volume this is, and what it looks like."""

from __future__ import annotations

import os
from dataclasses import dataclass

from storagemirror.entry import Identity
from storagemirror.fs.mounts import mount_of
from storagemirror.fs.syscalls import birth_and_mount, file_system_uuid

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "fuse.glusterfs", "lustre", "9p"})
"""inotify tells nothing of what other nodes do there."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A volume's file system. Bytes."""

    fs_type: str
    size: int
    free: int


@dataclass(frozen=True, slots=True)
class Lifetime:
    """How long a mount has lived: what was written under another lifetime may have lost what was not synced."""

    boot: str
    mount: int | None


def identity(fd: int) -> Identity:
    """Of the volume whose root directory is `fd`."""
    born, _ = birth_and_mount(fd)
    return Identity(inode=os.fstat(fd).st_ino, uuid=file_system_uuid(fd), born_ns=born)


def lifetime(fd: int) -> Lifetime:
    """Of the mount that `fd` is on."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    return Lifetime(boot, birth_and_mount(fd)[1])


def facts(fd: int) -> Facts:
    """Of the file system of `fd`; `free` is what we may use."""
    space = os.fstatvfs(fd)
    # By the mount's number: the device that btrfs tells of a file is not that of its mount.
    mount = mount_of(fd)
    return Facts(mount.kind if mount else "unknown", space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize)
