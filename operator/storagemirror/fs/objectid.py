"""Which object of a file system an inode number means: file systems give the numbers of deleted files out again.

The kernel tells it as a file handle (name_to_handle_at(2), which takes no privilege): the inode number, and a
*generation* that is another one for the next file of that number. A handle is opened by nobody here.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from xxhash import xxh3_64_intdigest

_AT_EMPTY_PATH = 0x1000
_MOST = 128
"""MAX_HANDLE_SZ (Linux, include/linux/exportfs.h)."""
_HEAD = struct.Struct("=Ii")
"""`struct file_handle` without its bytes: handle_bytes, handle_type."""
_GENERATION = {1: 4, 2: 4, 129: 8, 131: 8, 77: 16, 78: 16, 79: 16}
"""By handle type, where its 32 bits are: ext4 (FILEID_INO32_GEN), XFS (INO64_GEN), btrfs (Linux, fs/btrfs/export.h)."""

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


def _generation(directory: int, name: bytes, flags: int) -> int:
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
