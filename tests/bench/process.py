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


class Ended(Exception):
    """A process that was watched ended."""


def resident(pid: int) -> int:
    """Resident memory in bytes, shared pages included; `Ended` when there is no such process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise Ended(f"process {pid}")


def processor_seconds(pid: int) -> float:
    """User and system time so far, of the process and the children it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def watch(processes: dict[str, int], seconds: float) -> dict[str, Cost]:
    """What each process costs over that time, by its name; the memory is the largest of ten looks.

    Raises `Ended` with the name of one that did not live through it.
    """
    before, start = {name: processor_seconds(pid) for name, pid in processes.items()}, time.monotonic()
    largest = dict.fromkeys(processes, 0)
    for _ in range(10):
        time.sleep(seconds / 10)
        for name, pid in processes.items():
            try:
                largest[name] = max(largest[name], resident(pid))
            except Ended as e:
                raise Ended(f"{name} ended while it was watched ({e})") from e
    took = time.monotonic() - start
    return {
        name: Cost(largest[name], (processor_seconds(pid) - before[name]) / took) for name, pid in processes.items()
    }
