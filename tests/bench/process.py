"""What a process costs: memory and processor time, read from /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cost:
    """Of some processes together. Memory in bytes; `core` is the share of one core, 1.0 being all of it."""

    resident: int
    core: float


def resident(pid: int) -> int:
    """Resident memory in bytes, shared pages included."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise ProcessLookupError(f"process {pid} has no memory: it has ended")


def processor_seconds(pid: int) -> float:
    """User and system time so far, of the process and the children it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def watch(pids: list[int], seconds: float) -> list[Cost]:
    """What each process costs over that time; the memory is the largest of ten looks."""
    before, start = [processor_seconds(pid) for pid in pids], time.monotonic()
    largest = [0] * len(pids)
    for _ in range(10):
        time.sleep(seconds / 10)
        largest = [max(most, resident(pid)) for most, pid in zip(largest, pids, strict=True)]
    took = time.monotonic() - start
    used = [processor_seconds(pid) - b for pid, b in zip(pids, before, strict=True)]
    return [Cost(most, seconds_used / took) for most, seconds_used in zip(largest, used, strict=True)]
