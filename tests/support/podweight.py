"""The share of the processors that a kubelet gives a pod: from its CPU request, by the cgroup that it runs in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


@contextmanager
def pod(name: str, millicores: int) -> Iterator[Path]:
    """A cgroup with the weight of a pod that requests so much; `enter` moves processes there. OSError where cgroups
    cannot be made. What is still in it at the end goes back to the one above."""
    first = (_V1 / "cpu.shares").exists()
    above = _V1 if first else _V2
    made = above / f"storagemirror-{os.getpid()}-{name}"
    made.mkdir()
    try:
        shares = max(2, millicores * 1024 // 1000)
        if first:
            (made / "cpu.shares").write_text(str(shares))
        else:
            (made / "cpu.weight").write_text(str(1 + (shares - 2) * 9999 // 262142))  # as the kubelet reckons
        yield made
    finally:
        for pid in (made / "cgroup.procs").read_text().split():
            enter(above, int(pid))
        made.rmdir()


def enter(group: Path, pid: int) -> None:
    """A process with all its threads; one that has ended is none."""
    try:
        (group / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return
