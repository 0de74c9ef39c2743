"""Shared extents (reflinks): whether a file's data is another file's too."""

from __future__ import annotations

from itertools import islice

from storagemirror.fs.fiemap import SHARED, extents

SHARING = frozenset({"btrfs", "xfs", "bcachefs", "ocfs2"})
"""File systems whose files can share blocks; no others are asked."""

_LOOKED_AT = 1024
"""So many extents are looked at: a file with more is told by its first."""


def shares_data(fd: int) -> bool:
    """Whether any of the file's data is shared; False where that cannot be found out."""
    try:
        return any(flags & SHARED for _, _, _, flags in islice(extents(fd), _LOOKED_AT))
    except OSError:
        return False
