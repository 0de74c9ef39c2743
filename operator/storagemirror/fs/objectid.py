"""Which object of a file system an inode number means: file systems give the numbers of deleted files out again.

The kernel tells it as a file handle (name_to_handle_at(2)): the inode number, and a *generation* that is another one
for the next file of that number. A handle is opened by nobody here. Container runtimes deny that call to containers
without CAP_SYS_ADMIN (their default seccomp profile); there the time at which the file was made is what tells it from
the next one. It has the grain of the kernel's clock, a tick (at most 10 ms): a file that is made anew under the number
of one that was there at a point has another time, for a point's freeze and the look before it lie between the two.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from xxhash import xxh3_64_intdigest

from storagemirror.fs.syscalls import statx

_AT_EMPTY_PATH = 0x1000
_MOST = 128
"""MAX_HANDLE_SZ (Linux, include/linux/exportfs.h)."""
_HEAD = struct.Struct("=Ii")
"""`struct file_handle` without its bytes: handle_bytes, handle_type."""
_GENERATION = {1: 4, 2: 4, 129: 8, 131: 8, 77: 16, 78: 16, 79: 16}
"""By handle type, where its 32 bits are: ext4 (FILEID_INO32_GEN), XFS (INO64_GEN), btrfs (Linux, fs/btrfs/export.h)."""

_MOST_BITS = (1 << 63) - 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.name_to_handle_at.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
)


def object_id(fd: int) -> tuple[int, int]:
    """(inode, generation) of an open file or directory. OSError; EOPNOTSUPP where the file system has no handles."""
    return os.fstat(fd).st_ino, _generation(fd, b"", _AT_EMPTY_PATH)


def generation_at(directory: int, name: bytes) -> int:
    """Of the entry `name` in the directory `directory`, never of where a link leads. OSError as `object_id`."""
    return _generation(directory, name, 0)


class _Ways:
    """How it is found out in this process: never one way for one look and another for the next."""

    handles: bool | None = None
    """None: not known yet."""


def handles_allowed() -> bool:
    """Whether this process may ask for handles."""
    if _Ways.handles is None:
        root = os.open("/", os.O_PATH | os.O_CLOEXEC)
        try:
            _handle(root, b"", _AT_EMPTY_PATH)
        except OSError as e:
            _Ways.handles = e.errno not in (errno.EPERM, errno.ENOSYS)
        else:
            _Ways.handles = True
        finally:
            os.close(root)
    return _Ways.handles


def _generation(directory: int, name: bytes, flags: int) -> int:
    if handles_allowed():
        return _handle(directory, name, flags)
    born, _ = statx(directory, name)
    if born is None:
        raise OSError(errno.EOPNOTSUPP, "neither handles nor times of birth are told", name or None)
    return born & _MOST_BITS


def _handle(directory: int, name: bytes, flags: int) -> int:
    handle = ctypes.create_string_buffer(_HEAD.size + _MOST)
    _HEAD.pack_into(handle, 0, _MOST, 0)
    mount = ctypes.c_int()
    if _libc.name_to_handle_at(directory, name, handle, ctypes.byref(mount), flags) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name or None)
    length, kind = _HEAD.unpack_from(handle, 0)
    at = _GENERATION.get(kind)
    if at is not None and at + 4 <= length:
        return int.from_bytes(handle.raw[_HEAD.size + at : _HEAD.size + at + 4], "little")
    if not length:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), name or None)
    # Of another file system: its handle as a whole is what no other object has.
    return xxh3_64_intdigest(handle.raw[_HEAD.size : _HEAD.size + length]) >> 1
