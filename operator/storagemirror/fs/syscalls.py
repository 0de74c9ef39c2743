"""System calls that Python does not have: openat2, statx, syncfs, and the ioctls that name a file system."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
import stat
import struct

_libc = ctypes.CDLL(None, use_errno=True)

_OPENAT2 = 437
"""The same number on every architecture (Linux 5.6, include/uapi/asm-generic/unistd.h)."""

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV

_HOW = struct.Struct("=QQQ")

FS_IOC_GETFSUUID = 0x80111500
"""Linux 6.9: struct fsuuid2 { u8 len; u8 uuid[16]; }."""
EXT4_IOC_GETFSUUID = 0x8008662C
"""Linux 6.0: struct fsuuid { u32 len; u32 flags; u8 uuid[]; }."""
XFS_IOC_FSGEOMETRY = 0x8100587E
"""Linux 4.20 and 5.2: struct xfs_fsop_geom of 256 bytes, whose uuid is at offset 64."""
_XFS_UUID_OFFSET = 64
_BTRFS_IOC_FS_INFO = 0x8400941F
"""struct btrfs_ioctl_fs_info_args of 1024 bytes: u64 max_id, u64 num_devices, u8 fsid[16]."""

AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
_STATX_MNT_ID_UNIQUE = 0x4000
_STATX = {"x86_64": 332, "aarch64": 291, "riscv64": 291, "ppc64le": 383, "s390x": 379}.get(platform.machine())


def openat2(directory: int, path: bytes, flags: int, mode: int = 0) -> int:
    """Open `path` below `directory`, through no symbolic link and into no other mount; OSError as the kernel says."""
    how = _HOW.pack(flags | os.O_CLOEXEC, mode, BENEATH)
    while True:
        fd: int = _libc.syscall(_OPENAT2, directory, path, how, len(how))
        if fd >= 0:
            return fd
        error = ctypes.get_errno()
        if error != errno.EAGAIN:  # a rename raced with the lookup: the kernel asks to try again
            raise OSError(error, os.strerror(error), path)


def has_openat2() -> bool:
    """Whether the kernel, and the seccomp profile we run under, allow openat2."""
    root = os.open("/", os.O_PATH | os.O_CLOEXEC)
    try:
        os.close(openat2(root, b".", os.O_PATH | os.O_DIRECTORY))
    except OSError as e:
        if e.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    finally:
        os.close(root)
    return True


def chmod_no_follow(path: bytes, mode: int) -> None:
    """Of what is at `path`, which somebody may make a symbolic link at any moment: chmod(2) would follow it, out of
    the volume. OSError, ELOOP for a link."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.ELOOP, "a symbolic link by now", path)
        os.chmod(b"/proc/self/fd/%d" % fd, mode)
    finally:
        os.close(fd)


def syncfs(fd: int) -> None:
    """Make everything on the file system of `fd` durable; OSError when some of it could not be written."""
    if _libc.syncfs(fd) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def birth_and_mount(fd: int) -> tuple[int | None, int | None]:
    """When the file of `fd` was made (nanoseconds since the Unix epoch), and the number of its mount that is never
    given again while the machine is up (Linux 6.8). None for what is not known here."""
    try:
        return statx(fd, b"")
    except OSError:
        return None, None


def statx(directory: int, name: bytes) -> tuple[int | None, int | None]:
    """As `birth_and_mount`, of the entry `name`, never of where a link leads; with an empty name of `directory` itself.
    OSError."""
    if _STATX is None:
        return None, None
    buffer = ctypes.create_string_buffer(256)
    flags = AT_SYMLINK_NOFOLLOW | (0 if name else AT_EMPTY_PATH)
    if _libc.syscall(_STATX, directory, name, flags, _STATX_BTIME | _STATX_MNT_ID_UNIQUE, buffer) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name or None)
    (mask,) = struct.unpack_from("=I", buffer, 0)
    born = mount = None
    if mask & _STATX_BTIME:
        seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
        born = seconds * 1_000_000_000 + nanoseconds
    if mask & _STATX_MNT_ID_UNIQUE:
        (mount,) = struct.unpack_from("=Q", buffer, 144)
    return born, mount


def file_system_uuid(fd: int) -> str | None:
    """The UUID of the file system of `fd` as 32 hexadecimal digits; None when it has none or does not say."""
    for request, size, offset, prepare in (
        (FS_IOC_GETFSUUID, 17, 1, b""),
        (EXT4_IOC_GETFSUUID, 24, 8, struct.pack("=II", 16, 0)),
        (XFS_IOC_FSGEOMETRY, 256, _XFS_UUID_OFFSET, b""),
        (_BTRFS_IOC_FS_INFO, 1024, 16, b""),
    ):
        buffer = bytearray(size)
        buffer[: len(prepare)] = prepare
        try:
            fcntl.ioctl(fd, request, buffer)
        except OSError:
            continue
        uuid = bytes(buffer[offset : offset + 16])
        if any(uuid):
            return uuid.hex()
    return None


FICLONE = 0x40049409
"""Linux 4.5, include/uapi/linux/fs.h: _IOW(0x94, 9, int)."""
_KEEP_SIZE = 0x01
"""FALLOC_FL_KEEP_SIZE (Linux, include/uapi/linux/falloc.h)."""
_PUNCH = 0x02 | _KEEP_SIZE
"""With FALLOC_FL_PUNCH_HOLE."""
_ZEROS = bytes(1 << 20)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def clone(source: int, target: int) -> bool:
    """Make the open file `target` share all blocks of `source`; False where the file system cannot. OSError."""
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as e:
        if e.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.EXDEV, errno.ENOSYS, errno.EPERM):
            return False
        raise
    return True


def reserve(fd: int, offset: int, length: int) -> None:
    """Have blocks for these bytes, whatever the file holds there now; its size stays. OSError ENOSPC, EDQUOT."""
    if _libc.fallocate(fd, _KEEP_SIZE, offset, length) != 0:
        error = ctypes.get_errno()
        if error not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise OSError(error, os.strerror(error))


def punch_hole(fd: int, offset: int, length: int) -> None:
    """Zeros there, as a hole where the file system can. The size of the file stays. OSError."""
    size = os.fstat(fd).st_size
    length = min(length, size - offset)
    if length <= 0:
        return
    if _libc.fallocate(fd, _PUNCH, offset, length) == 0:
        return
    error = ctypes.get_errno()
    if error not in (errno.EOPNOTSUPP, errno.ENOSYS):
        raise OSError(error, os.strerror(error))
    while length:
        count = os.pwrite(fd, _ZEROS[:length], offset)
        offset, length = offset + count, length - count
