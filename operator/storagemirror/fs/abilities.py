"""What a target can hold, found out by trying in its own state directory."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct

from storagemirror.entry import View
from storagemirror.fs import xattrs
from storagemirror.fs.identity import facts

_PROBE = b"probe"
_OLDEST, _LATEST = View().oldest_ns, View().latest_ns
_PROBE_TIME_NS = 1_600_000_000_123_456_789
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, permissions, who)
    for tag, permissions, who in (
        (0x01, 6, 0xFFFF_FFFF),
        (0x02, 4, 1),
        (0x04, 4, 0xFFFF_FFFF),
        (0x10, 4, 0xFFFF_FFFF),
        (0x20, 0, 0xFFFF_FFFF),
    )
)
"""An access ACL with one named user (Linux, include/uapi/linux/posix_acl_xattr.h)."""
_CAPABILITY = struct.pack("<5I", 0x02000000, 1 << 10, 0, 0, 0)
"""vfs_cap_data, version 2: cap_net_bind_service permitted."""


_CHOWN, _SYS_ADMIN, _MKNOD, _SETFCAP = 0, 21, 27, 31
"""Numbers of capabilities (Linux, include/uapi/linux/capability.h)."""
_GRAINS = {
    "vfat": 2_000_000_000,
    "msdos": 2_000_000_000,
    "exfat": 10_000_000,
    "ext2": 1_000_000_000,
    "ext3": 1_000_000_000,
}


def expected(root: int) -> View:
    """What the volume of the open directory `root` can presumably hold, without writing: by what this process may do,
    and what the file system says when it is asked for an attribute. Its times are taken for exact, but on those file
    systems that are known not to keep them so."""
    may = _capabilities()
    owner = bool(may >> _CHOWN & 1)
    return View(
        owner=owner,
        devices=bool(may >> _MKNOD & 1),
        acls=_knows(root, xattrs.ACL_ACCESS),
        user_xattrs=_knows(root, b"user.storagemirror.probe"),
        capabilities=bool(may >> _SETFCAP & 1) and _knows(root, xattrs.CAPABILITY),
        trusted_xattrs=bool(may >> _SYS_ADMIN & 1) and _knows(root, b"trusted.storagemirror.probe"),
        time_grain_ns=_GRAINS.get(facts(root).fs_type, 1),
        uid=0 if owner else os.geteuid(),
        gid=0 if owner else os.getegid(),
    )


def _capabilities() -> int:
    """Those in effect, one bit each."""
    with open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _knows(fd: int, name: bytes) -> bool:
    try:
        os.getxattr(fd, name)
    except OSError as e:
        return e.errno == errno.ENODATA
    return True


def probe(directory: int) -> View:
    """Try everything on a file in `directory`. OSError when not even a file can be made there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_PROBE, dir_fd=directory)
    fd = os.open(_PROBE, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        found = os.fstat(fd)
        acls = _takes(fd, xattrs.ACL_ACCESS, _ACL)
        user = _takes(fd, b"user.storagemirror.probe", b"1")
        capabilities = _takes(fd, xattrs.CAPABILITY, _CAPABILITY)
        trusted = _takes(fd, b"trusted.storagemirror.probe", b"1")
        grain = _time_grain(fd)
        oldest, latest = _time_range(fd)
        owner = _may_give_away(fd)
    finally:
        os.close(fd)
        os.unlink(_PROBE, dir_fd=directory)
    return View(
        owner=owner,
        devices=_may_make_devices(directory),
        acls=acls,
        user_xattrs=user,
        capabilities=capabilities,
        trusted_xattrs=trusted,
        time_grain_ns=grain,
        uid=0 if owner else found.st_uid,
        gid=0 if owner else found.st_gid,
        oldest_ns=oldest,
        latest_ns=latest,
    )


def takes_labels(directory: int) -> bool:
    """Whether SELinux labels can be set here: not without SELinux in the kernel, or the privilege."""
    try:
        os.setxattr(directory, xattrs.SELINUX, os.getxattr(directory, xattrs.SELINUX))
    except OSError as e:
        if e.errno != errno.ENODATA:
            return False
        return _takes(directory, xattrs.SELINUX, b"system_u:object_r:unlabeled_t:s0")
    return True


def _takes(fd: int, name: bytes, value: bytes) -> bool:
    try:
        os.setxattr(fd, name, value)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise
        return False
    return True


def _may_give_away(fd: int) -> bool:
    try:
        os.fchown(fd, 65_533, 65_533)
    except OSError:
        return False
    return os.fstat(fd).st_uid == 65_533


def _may_make_devices(directory: int) -> bool:
    try:
        # 1:3 is /dev/null. (0:0 would be allowed to everybody: overlayfs' whiteout.)
        os.mknod(_PROBE, stat.S_IFCHR | 0o600, os.makedev(1, 3), dir_fd=directory)
    except OSError:
        return False
    os.unlink(_PROBE, dir_fd=directory)
    return True


def _time_range(fd: int) -> tuple[int, int]:
    """The earliest and the latest time that the file system holds (Linux cuts others off), as far as 64 bits go."""
    ends = []
    for end in (_OLDEST, _LATEST):
        os.utime(fd, ns=(end, end))
        ends.append(min(max(os.fstat(fd).st_mtime_ns, _OLDEST), _LATEST))
    return ends[0], ends[1]


def _time_grain(fd: int) -> int:
    os.utime(fd, ns=(_PROBE_TIME_NS, _PROBE_TIME_NS))
    kept = os.fstat(fd).st_mtime_ns
    for grain in (1, 100, 1_000, 1_000_000, 10_000_000, 1_000_000_000, 2_000_000_000):
        if kept == _PROBE_TIME_NS - _PROBE_TIME_NS % grain:
            return grain
    return 2_000_000_000
