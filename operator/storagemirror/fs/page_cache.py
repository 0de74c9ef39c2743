"""What of a file is in the page cache: cachestat(2) and mincore(2). Neither changes anything.

Both tell only those who own the file or may write it (so does the kernel keep one tenant from watching another): with
`Restricted` agents that is not known, and None is returned.
"""

from __future__ import annotations

import ctypes
import os
import struct

PAGE = os.sysconf("SC_PAGE_SIZE")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)

_CACHESTAT = 451
"""The same number on every architecture (Linux 6.5, include/uapi/asm-generic/unistd.h)."""
_RANGE = struct.Struct("=QQ")
_PROT_READ, _MAP_SHARED, _MAP_FAILED = 1, 1, ctypes.c_void_p(-1).value

WAIT_BEFORE, WRITE, WAIT_AFTER = 1, 2, 4
"""Of sync_file_range(2)."""


def cached_pages(fd: int, offset: int = 0, length: int = 0) -> int | None:
    """How many pages of the range are in the cache (up to the end with `length` 0); None: nobody says."""
    found = ctypes.create_string_buffer(40)
    if _libc.syscall(_CACHESTAT, fd, _RANGE.pack(offset, length), found, 0) != 0:
        return None
    return int(struct.unpack_from("=Q", found)[0])


def resident(fd: int, offset: int, length: int) -> bytes | None:
    """For each page of the range one byte, odd where it is in the cache; None: nobody says. `offset` is a multiple
    of `PAGE`."""
    address = _libc.mmap(None, length, _PROT_READ, _MAP_SHARED, fd, offset)
    if address == _MAP_FAILED or address is None:
        return None
    try:
        pages = ctypes.create_string_buffer(-(-length // PAGE))
        if _libc.mincore(address, length, pages) != 0:
            return None
        return pages.raw
    finally:
        _libc.munmap(address, length)


def forget(fd: int, offset: int, length: int) -> None:
    """Take clean pages of the range that nobody has mapped out of the cache (up to the end with `length` 0)."""
    os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)


def write_out(fd: int, offset: int, length: int, how: int) -> None:
    """sync_file_range(2): begin to write the range's dirty pages (`WRITE`), or wait for them as well. OSError with
    what went wrong in writing; where it is not there, nothing is done."""
    if _libc.sync_file_range(fd, offset, length, how) != 0:
        error = ctypes.get_errno()
        if error not in (38, 29, 22):  # ENOSYS, ESPIPE, EINVAL: not of this file system
            raise OSError(error, os.strerror(error))
