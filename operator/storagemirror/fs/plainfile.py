"""Small files with nothing special to them, read with as few steps as they need.

Nearly all files of a first copy are so: regular, small, with one name, no extended attributes, no inode flags, nobody
writing them. Whatever is otherwise is not judged here: the caller looks at it again, the long way.
"""

from __future__ import annotations

import os
import stat

from storagemirror.entry import View
from storagemirror.fs.inodeflags import FlagReader
from storagemirror.fs.source import READ_QUIETLY, SourceDirectory, unchanged

_TYPE = 0o170000
_FILE = stat.S_IFREG


class PlainFiles:
    """Of one directory."""

    def __init__(self, directory: SourceDirectory, view: View, flags: FlagReader | None, largest: int) -> None:
        """`flags`: None where the target knows nothing of inode flags; `largest`: bytes that a file may have. See
        `can_tell` for the view."""
        self._largest = largest
        self._fd = directory.fd
        self._device = directory.device
        self._looks_at_xattrs = directory.looks_at_xattrs
        self._small = directory.reading.small
        self._flags = flags.read if flags is not None else None
        self._oldest, self._latest = view.oldest_ns, view.latest_ns

    def read(self, name: bytes, buffer: memoryview, at: int) -> os.stat_result | None:
        """What the file is, its content read to `at` of `buffer` (a byte more is asked for than it has); None: it is
        not so plain, or cannot be read, and what is beyond `at` means nothing."""
        try:
            fd = os.open(name, READ_QUIETLY, dir_fd=self._fd)
        except OSError:
            return None
        try:
            found = os.fstat(fd)
            size = found.st_size
            if (
                found.st_nlink != 1
                or found.st_mode & _TYPE != _FILE
                or size > self._largest
                or found.st_dev != self._device
                or not self._oldest <= found.st_mtime_ns <= self._latest
                or (size and self._small(fd, size, buffer[at : at + size + 1]) != size)
                or (self._looks_at_xattrs and os.listxattr(fd))
                or (self._flags is not None and self._flags(fd) != (0, 0))
                or not unchanged(found, os.fstat(fd))
            ):
                return None
        except OSError:
            return None
        finally:
            os.close(fd)
        return found


def can_tell(view: View, grain_ns: int) -> bool:
    """Whether plain files are told as they are found: owner and time as the target keeps them, and a clock (see
    `time_grain_ns`) that gives each change a time of its own."""
    return view.owner and view.time_grain_ns == 1 and not view.access_times and grain_ns == 0
