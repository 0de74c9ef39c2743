"""Inode flags (`chattr`) and project ids: what an ioctl on an open file or directory tells and sets.

Flags are the FS_*_FL bits of FS_IOC_GETFLAGS (Linux, include/uapi/linux/fs.h), as far as they are a person's wish and
not the file system's own business (extents, inline data, encryption). Project ids come from FS_IOC_FSGETXATTR.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct

_GETFLAGS = 0x80086601
_SETFLAGS = 0x40086602
_FSGETXATTR = 0x801C581F
_FSSETXATTR = 0x401C5820
_XATTR = struct.Struct("=5I8x")
"""struct fsxattr: xflags, extsize, nextents, projid, cowextsize."""
_PROJECT_AT = 12
_FLAGS = struct.Struct("=I")

COMPRESS = 0x4
IMMUTABLE = 0x10
APPEND = 0x20
NODUMP = 0x40
NOATIME = 0x80
NOCOW = 0x0080_0000
PROJINHERIT = 0x2000_0000

WISHES = (
    0x1  # secure deletion
    | 0x2  # undelete
    | COMPRESS
    | 0x8  # synchronous
    | IMMUTABLE
    | APPEND
    | NODUMP
    | NOATIME
    | 0x400  # not compressed
    | 0x4000  # data in the journal
    | 0x8000  # no tail merging
    | 0x1_0000  # directory: synchronous
    | 0x2_0000  # directory: top of a hierarchy
    | NOCOW
    | 0x200_0000  # direct access
    | PROJINHERIT
)
"""What a person or an application asks for, and what is mirrored."""

LOCKS = IMMUTABLE | APPEND | PROJINHERIT
"""What keeps us from changing an entry, or from putting one into a directory (a project's takes only its own files)."""

_NONE = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class FlagReader:
    """Reads flags and project ids of one file system; asks no more for what it does not have. For one thread."""

    def __init__(self) -> None:
        self._flags = bytearray(8)
        self._extended = bytearray(_XATTR.size)
        self._has_flags = True
        self._has_projects = True

    def read(self, fd: int) -> tuple[int, int]:
        """Flags (of `WISHES`) and project id of an open file or directory; zeros where there are none. OSError."""
        flags = project = 0
        if self._has_flags:
            try:
                fcntl.ioctl(fd, _GETFLAGS, self._flags)
                flags = _FLAGS.unpack_from(self._flags)[0] & WISHES
            except OSError as e:
                if e.errno not in _NONE:
                    raise
                self._has_flags = False
        if self._has_projects:
            try:
                fcntl.ioctl(fd, _FSGETXATTR, self._extended)
                project = _FLAGS.unpack_from(self._extended, _PROJECT_AT)[0]
            except OSError as e:
                if e.errno not in _NONE:
                    raise
                self._has_projects = False
        return flags, project


def get_flags(fd: int) -> int:
    """All flags of an open file or directory, also those that are the file system's; 0 where it has none. OSError."""
    buffer = bytearray(8)
    try:
        fcntl.ioctl(fd, _GETFLAGS, buffer)
    except OSError as e:
        if e.errno not in _NONE:
            raise
        return 0
    return int.from_bytes(buffer[:4], "little")


def set_flags(fd: int, flags: int) -> bool:
    """Make the flags of `WISHES` be `flags`; False when the file system, or a lack of privilege, leaves them otherwise.
    Those that it takes are set all the same. OSError of a disk that fails."""
    before = get_flags(fd)
    rest = before & ~WISHES
    if before == rest | flags:
        return True
    if _try_flags(fd, rest | flags) and get_flags(fd) & WISHES == flags:
        return True
    # All at once is refused where one is: then each that can be had. What locks comes last.
    now = get_flags(fd) & WISHES
    for bit in _bits(now & ~flags):
        if _try_flags(fd, get_flags(fd) & ~bit):
            now &= ~bit
    for bit in sorted(_bits(flags & ~now), key=lambda bit: (bool(bit & LOCKS), bit)):
        _try_flags(fd, get_flags(fd) | bit)
    return get_flags(fd) & WISHES == flags


def set_project(fd: int, project: int) -> bool:
    """False when the file system has no projects, or does not let us. OSError of a disk that fails."""
    extended = bytearray(_XATTR.size)
    try:
        fcntl.ioctl(fd, _FSGETXATTR, extended)
        if int.from_bytes(extended[_PROJECT_AT : _PROJECT_AT + 4], "little") == project:
            return True
        extended[_PROJECT_AT : _PROJECT_AT + 4] = project.to_bytes(4, "little")
        fcntl.ioctl(fd, _FSSETXATTR, extended)
        fcntl.ioctl(fd, _FSGETXATTR, extended)
    except OSError as e:
        if e.errno not in (*_NONE, errno.EPERM, errno.EACCES):
            raise
        return project == 0 and e.errno in _NONE
    return int.from_bytes(extended[_PROJECT_AT : _PROJECT_AT + 4], "little") == project


def open_any(directory: int, name: bytes) -> int:
    """A descriptor of the file or directory `name`, for its flags; reading it moves no time. OSError (ENXIO) when
    it is something that has none."""
    kind = stat.S_IFMT(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):  # opening a device may do things
        raise OSError(errno.ENXIO, "neither a file nor a directory", name)
    try:
        return os.open(name, _OPEN | os.O_NOATIME, dir_fd=directory)
    except PermissionError:
        return os.open(name, _OPEN, dir_fd=directory)


def _try_flags(fd: int, flags: int) -> bool:
    try:
        fcntl.ioctl(fd, _SETFLAGS, flags.to_bytes(8, "little"))
    except OSError as e:
        if e.errno not in (*_NONE, errno.EPERM, errno.EACCES):
            raise
        return False
    return True


def _bits(flags: int) -> list[int]:
    return [1 << number for number in range(32) if flags >> number & 1]
