"""Which object an open file is, for as long as the file system lives: inode number and generation.

A file system gives the number of a deleted inode out again, with another generation. Both are told by
name_to_handle_at(2); how they lie in a handle is the file system's own (Linux, include/linux/exportfs.h).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_AT_EMPTY_PATH = 0x1000
_MAX_HANDLE = 128
"""MAX_HANDLE_SZ (Linux, include/uapi/linux/fcntl.h)."""
_HEAD = struct.Struct("=Ii")
"""struct file_handle: handle_bytes, handle_type."""

_INO32_GEN = 0x1
_XFS_INO64_GEN = 0x81
_BTRFS_WITHOUT_PARENT = 0x4D
_LAYOUTS = {
    (_INO32_GEN, 8): struct.Struct("=II"),  # ext2, ext3, ext4, XFS with 32-bit inode numbers
    (_XFS_INO64_GEN, 12): struct.Struct("=QI"),
    (_BTRFS_WITHOUT_PARENT, 20): struct.Struct("=Q8xI"),
}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.name_to_handle_at.argtypes = [
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.c_int,
]


def object_id(fd: int) -> tuple[int, int]:
    """(inode number, generation) of whatever `fd` is open on; an O_PATH descriptor will do.

    OSError: EOPNOTSUPP where the file system has no handles, or has one of a kind that we do not know (known: ext2 to
    ext4, XFS, btrfs).
    """
    buffer = ctypes.create_string_buffer(_HEAD.size + _MAX_HANDLE)
    _HEAD.pack_into(buffer, 0, _MAX_HANDLE, 0)
    mount = ctypes.c_int()
    if _libc.name_to_handle_at(fd, b"", buffer, ctypes.byref(mount), _AT_EMPTY_PATH) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    length, kind = _HEAD.unpack_from(buffer, 0)
    layout = _LAYOUTS.get((kind, length))
    if layout is None:
        raise OSError(errno.EOPNOTSUPP, f"a file handle of type {kind:#x} and {length} bytes: not one that we know")
    ino, generation = layout.unpack_from(buffer, _HEAD.size)
    return int(ino), int(generation)
