"""Shared extents (reflinks): whether a file's data is another file's too. Asked by FIEMAP, which reads no data."""

from __future__ import annotations

import fcntl
import struct

SHARING = frozenset({"btrfs", "xfs", "bcachefs", "ocfs2"})
"""File systems whose files can share blocks; no others are asked."""

_FIEMAP = 0xC020660B
_HEADER = struct.Struct("=QQIIII")
"""struct fiemap: start, length, flags, mapped_extents, extent_count, reserved (include/uapi/linux/fiemap.h)."""
_EXTENT = struct.Struct("=QQQ16xI12x")
"""struct fiemap_extent: logical, physical, length, reserved, flags, reserved."""
_COUNT = 64
_CALLS = 16
"""So many extents are looked at, 64 a call: a file with more is told by its first."""
_LAST, _SHARED = 0x1, 0x2000


def shares_data(fd: int) -> bool:
    """Whether any of the file's data is shared; False where that cannot be found out."""
    start = 0
    for _ in range(_CALLS):
        buffer = bytearray(_HEADER.size + _COUNT * _EXTENT.size)
        _HEADER.pack_into(buffer, 0, start, (1 << 63) - 1 - start, 0, 0, _COUNT, 0)
        try:
            fcntl.ioctl(fd, _FIEMAP, buffer)
        except OSError:
            return False
        mapped = _HEADER.unpack_from(buffer)[3]
        if not mapped:
            return False
        for number in range(mapped):
            logical, _, length, flags = _EXTENT.unpack_from(buffer, _HEADER.size + number * _EXTENT.size)
            if flags & _SHARED:
                return True
            if flags & _LAST:
                return False
        start = logical + length
    return False
