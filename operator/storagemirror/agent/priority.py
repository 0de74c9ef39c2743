"""The I/O priority of an agent: ioprio_set(2).

A source agent reads where the application writes. It goes by *best effort*, the lowest of its eight levels: the disk
serves the application first where its scheduler knows priorities (BFQ, mq-deadline), and the agent is never starved, as
it would be in the class *idle* beside an application that never rests: then the copy would fall behind for ever. With
the scheduler `none`, as most NVMe disks have it, priorities mean nothing: there `spec.transfer.readLimit` helps.
"""

from __future__ import annotations

import ctypes
import logging
import platform

log = logging.getLogger("storagemirror.agent")

LOWEST = 2 << 13 | 7
"""IOPRIO_PRIO_VALUE(IOPRIO_CLASS_BE, 7), include/uapi/linux/ioprio.h."""
_WHO_PROCESS = 1
_SET, _GET = {
    "x86_64": (251, 252),
    "aarch64": (30, 31),
    "riscv64": (30, 31),
    "ppc64le": (273, 274),
    "s390x": (282, 283),
}.get(platform.machine(), (None, None))
_libc = ctypes.CDLL(None, use_errno=True)


def yield_to_others() -> None:
    """For this thread, and those that it starts from now on. Where it is refused, nothing changes."""
    if _SET is None or _libc.syscall(_SET, _WHO_PROCESS, 0, LOWEST) != 0:
        log.info("the I/O priority stays as it is")


def priority_of(thread: int) -> int | None:
    """Of a thread, by its number; None where nobody can say."""
    if _GET is None:
        return None
    found: int = _libc.syscall(_GET, _WHO_PROCESS, thread)
    return found if found >= 0 else None
