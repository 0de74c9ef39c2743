"""Writing a large file without filling the memory with what is not on the disk yet.

Behind the writer, what was written is sent on its way to the disk, step by step: so the sync at the end finds little to
do. In a cgroup with a memory limit, where page cache counts as the agent's, it is waited for as well, and taken out of
the cache: nobody reads it there, and what is clean costs the kernel nothing to reclaim. So at most a window of it is
dirty. Without a limit nothing is waited for: the kernel keeps dirty pages within bounds of its own.
"""

from __future__ import annotations

import os

from storagemirror.fs.page_cache import WAIT_AFTER, WAIT_BEFORE, WRITE, forget, write_out

_STEP = 16 << 20
_LEAST_STEP = 1 << 20
_STEPS = 4
"""In flight at once, at most, with a limit."""
_SHARE = 16
"""All that is in flight takes at most this part of the limit."""


class Behind:
    """Follows the writer of one file. Pieces come in any order; what is said to be written may be somewhere else."""

    def __init__(self, fd: int, limit: int | None) -> None:
        """`limit`: bytes of memory that this process may use, page cache included; None: no limit."""
        self._fd = fd
        self._waits = limit is not None
        self._step = _STEP if limit is None else max(_LEAST_STEP, min(_STEP, limit // _SHARE // _STEPS))
        self._begin = self._end = 0
        self._sent: list[tuple[int, int]] = []

    def wrote(self, offset: int, length: int) -> None:
        """One more piece. OSError with what went wrong in writing an earlier one."""
        if offset != self._end:
            self._send()
            self._begin = offset
        self._end = offset + length
        if self._end - self._begin >= self._step:
            self._send()

    def _send(self) -> None:
        begin, length = self._begin, self._end - self._begin
        if not length:
            return
        self._begin = self._end
        write_out(self._fd, begin, length, WRITE)
        if not self._waits:
            return
        self._sent.append((begin, length))
        if len(self._sent) >= _STEPS:
            self._settle()

    def _settle(self) -> None:
        begin, length = self._sent.pop(0)
        write_out(self._fd, begin, length, WAIT_BEFORE | WRITE | WAIT_AFTER)
        forget(self._fd, begin, length)

    def end(self) -> None:
        """The file is whole. What is still on its way is a few steps."""
        if not self._waits:
            return
        self._send()
        while self._sent:
            self._settle()


def memory_limit(root: str = "/sys/fs/cgroup", process: str = "/proc/self/cgroup") -> int | None:
    """Bytes of memory that the cgroup of this process, and those above it, allow; None: no limit, or not known.

    cgroup v2 and v1, as a process sees them in its container and outside of one.
    """
    found: list[int] = []
    try:
        with open(process, encoding="utf-8") as file:
            lines = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return None
    for line in lines:
        if len(line) != 3:
            continue
        _, controllers, path = line
        if controllers and "memory" not in controllers.split(","):
            continue
        where, name = (root + "/memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        while True:
            limit = _read(f"{where}{path.rstrip('/')}/{name}")
            if limit is not None:
                found.append(limit)
            if path in ("", "/"):
                break
            path = os.path.dirname(path)
    return min(found, default=None)


def _read(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return None
    # "max", or the largest number of pages that there is.
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None
