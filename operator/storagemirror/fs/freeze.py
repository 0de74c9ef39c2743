"""Freezing a file system, thawing it, and shutting it down: FIFREEZE, FITHAW, FS_IOC_SHUTDOWN (Linux, linux/fs.h).

All three take CAP_SYS_ADMIN and any open directory of the file system, also through a mount that is read-only. While
it is frozen every write waits, in the kernel, and cannot be killed; reading goes on. A freeze belongs to nobody: it
outlives the process that made it, and the mount too. None of the three has a time limit of its own: on a device that
does not answer they wait, and cannot be killed either.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from enum import Enum
from typing import NamedTuple

_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878
_FS_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = struct.pack("=I", 2)
"""FS_SHUTDOWN_FLAGS_NOLOGFLUSH: at once, with nothing more written."""


class Outcome(Enum):
    """What became of such a call."""

    DONE = "done"
    ALREADY_FROZEN = "it is frozen already"
    """EBUSY: by somebody else, or by whoever was here before us."""
    NOT_FROZEN = "it is not frozen"
    """EINVAL of a thaw: somebody else has thawed it."""
    NOT_SUPPORTED = "this file system cannot do that"
    NOT_PERMITTED = "we lack the capability SYS_ADMIN"
    FAILED = "it failed"


class Answer(NamedTuple):
    """An outcome, and the error number behind it (0 where it is done)."""

    outcome: Outcome
    error: int = 0

    @property
    def text(self) -> str:
        """For people."""
        return f"{self.outcome.value} ({os.strerror(self.error)})" if self.error else self.outcome.value


_COMMON = {
    errno.EPERM: Outcome.NOT_PERMITTED,
    errno.EACCES: Outcome.NOT_PERMITTED,
    errno.EOPNOTSUPP: Outcome.NOT_SUPPORTED,
    errno.ENOTTY: Outcome.NOT_SUPPORTED,
    errno.ENOSYS: Outcome.NOT_SUPPORTED,
}


def freeze(directory: int) -> Answer:
    """Make the file system of the open `directory` stand still. DONE, ALREADY_FROZEN, NOT_SUPPORTED, NOT_PERMITTED or
    FAILED. Comes back when all that was written is on the disk."""
    return _call(directory, _FIFREEZE, {errno.EBUSY: Outcome.ALREADY_FROZEN})


def thaw(directory: int) -> Answer:
    """Let it go on. DONE, NOT_FROZEN, NOT_PERMITTED or FAILED (it may be frozen still)."""
    return _call(directory, _FITHAW, {errno.EINVAL: Outcome.NOT_FROZEN})


def shut_down(directory: int) -> Answer:
    """Cut it off from its disk, for good: until it is mounted again every operation fails with EIO, those too that wait
    in a freeze. ext4 and XFS; NOT_SUPPORTED elsewhere. On a disk that hangs it cuts off at once too, but ext4 then
    waits for the disk before it comes back: call it where that does no harm."""
    return _call(directory, _FS_IOC_SHUTDOWN, {}, _NO_LOG_FLUSH)


def _call(directory: int, request: int, meanings: dict[int, Outcome], argument: int | bytes = 0) -> Answer:
    try:
        fcntl.ioctl(directory, request, argument)
    except OSError as e:
        number = e.errno or errno.EIO
        return Answer(meanings.get(number) or _COMMON.get(number, Outcome.FAILED), number)
    return Answer(Outcome.DONE)
