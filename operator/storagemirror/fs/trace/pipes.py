"""The ring buffers of all processors, read raw, and what the kernel counts of them.

For each processor the kernel counts what it had to overwrite or drop, and what was read. We count what we read: when
the two differ, somebody else has read our records, or emptied the buffer. (Linux, Documentation/trace/ftrace.rst,
"per_cpu".)
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass

from storagemirror.fs.trace.files import Files
from storagemirror.fs.trace.layout import PageHeader
from storagemirror.fs.trace.ring import MARGIN, Take, read_page

_COUNTS = re.compile(r"^(overrun|commit overrun|dropped events|read events): (\d+)$", re.MULTILINE)
_LOSSES = ("overrun", "commit overrun", "dropped events")


@dataclass(slots=True)
class _Pipe:
    """Of one processor; `read` counts the records that we had from it, `lost` what the kernel said last."""

    name: str
    raw: int
    stats: int
    read: int = 0
    lost: int = 0


class Pipes:
    """One for each processor that may ever be plugged in. For one thread at a time. OSError."""

    def __init__(self, files: Files, header: PageHeader) -> None:
        self._header = header
        self._buffer = bytearray(header.size + MARGIN)
        self._page = memoryview(self._buffer)[: header.size]
        self._pipes: list[_Pipe] = []
        try:
            for name in sorted(files.list("per_cpu")):
                raw = files.open(f"per_cpu/{name}/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
                try:
                    self._pipes.append(_Pipe(name, raw, files.open(f"per_cpu/{name}/stats")))
                except OSError:
                    os.close(raw)
                    raise
        except OSError:
            self.close()
            raise
        self.missed = False

    def descriptors(self) -> list[int]:
        """To wait on: readable when a buffer has filled up to the instance's `buffer_percent`."""
        return [pipe.raw for pipe in self._pipes]

    def read(self, pipe: int, take: Take, most: int) -> bool:
        """Up to `most` pages of pipe number `pipe` to `take`; True when there may be more. `BadInput`."""
        reading = self._pipes[pipe]
        for _ in range(most):
            try:
                got = os.readv(reading.raw, [self._page])
            except BlockingIOError:
                return False
            if got == 0:
                return False
            count, missed = read_page(self._buffer, got, self._header, take)
            reading.read += count
            self.missed = self.missed or missed
        return True

    def taken(self) -> int:
        """Records read so far."""
        return sum(pipe.read for pipe in self._pipes)

    def __len__(self) -> int:
        return len(self._pipes)

    def losses(self) -> list[str]:
        """What was lost since the last call, in words; empty when nothing was."""
        found = []
        for pipe in self._pipes:
            counts = {name: int(number) for name, number in _COUNTS.findall(os.pread(pipe.stats, 4096, 0).decode())}
            lost = sum(counts.get(name, 0) for name in _LOSSES)
            if lost != pipe.lost:
                found.append(f"{pipe.name}: {lost - pipe.lost} events overran the ring buffer")
            elif counts.get("read events", pipe.read) != pipe.read:
                found.append(f"{pipe.name}: {counts['read events'] - pipe.read} events were read by somebody else")
            pipe.lost, pipe.read = lost, counts.get("read events", pipe.read)
        if self.missed and not found:
            found.append("the kernel marked a page of events as incomplete")
        self.missed = False
        return found

    def close(self) -> None:
        """Let go of all."""
        for pipe in self._pipes:
            for fd in (pipe.raw, pipe.stats):
                with suppress(OSError):
                    os.close(fd)
        self._pipes = []
