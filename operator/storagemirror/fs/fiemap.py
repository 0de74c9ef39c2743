"""Where a file's bytes lie on its device, by FIEMAP, which reads no data.

Source: Linux, Documentation/filesystems/fiemap.rst.
"""

from __future__ import annotations

import fcntl
import struct
from collections.abc import Iterator

_FIEMAP = 0xC020660B
_HEADER = struct.Struct("=QQIIII")
"""struct fiemap: start, length, flags, mapped_extents, extent_count, reserved (include/uapi/linux/fiemap.h)."""
_EXTENT = struct.Struct("=QQQ16xI12x")
"""struct fiemap_extent: logical, physical, length, reserved, flags, reserved."""

LAST, UNKNOWN, DELALLOC, ENCODED, NOT_ALIGNED, INLINE, UNWRITTEN, SHARED = (
    0x1,
    0x2,
    0x4,
    0x8,
    0x100,
    0x200,
    0x800,
    0x2000,
)

Extent = tuple[int, int, int, int]
"""Where it is in the file, where on the device, its length (bytes), and flags."""


def extents(fd: int, batch: int = 64) -> Iterator[Extent]:
    """In the order of the file, `batch` a call; holes are what is between. OSError: EOPNOTSUPP where it is not told."""
    start = 0
    while True:
        buffer = bytearray(_HEADER.size + batch * _EXTENT.size)
        _HEADER.pack_into(buffer, 0, start, (1 << 63) - 1 - start, 0, 0, batch, 0)
        fcntl.ioctl(fd, _FIEMAP, buffer)
        mapped = _HEADER.unpack_from(buffer)[3]
        if not mapped:
            return
        for number in range(mapped):
            logical, physical, length, flags = _EXTENT.unpack_from(buffer, _HEADER.size + number * _EXTENT.size)
            yield logical, physical, length, flags
            if flags & LAST:
                return
        start = logical + length
