"""What the trace costs: `make bench-trace`.

A process that only traces a file system of its own (ext4 on a loop device), idle, and beside a writer that overwrites
random pages. Printed: CPU of that process, events a second, how long a drain takes, whether anything was lost; and what
the writer manages with and without it (medians of interleaved rounds). The writer is a Python loop: what it manages is
no measure of the disk, only of the difference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.disks import disk

_TRACER = """
import json, os, select, sys, time
from storagemirror.fs.trace import open_trace
with open_trace(int(sys.argv[1]), f"bench-{os.getpid()}") as trace:
    print("ready", flush=True)
    began, at, drains, lost = time.process_time(), time.monotonic(), [], 0
    while not select.select([sys.stdin], [], [], 1.0)[0]:
        before = time.monotonic()
        hints = trace.drain()
        drains.append(time.monotonic() - before)
        lost += hints.lost
    lost += trace.drain().lost
    took = time.monotonic() - at
    print(json.dumps({"cpu_percent": round(100 * (time.process_time() - began) / took, 2),
                      "events_per_second": round(trace.records / took),
                      "drain_ms_max": round(1000 * max(drains, default=0), 2), "lost": lost}))
"""

_WRITER = """
import os, random, sys, time
fd, pages, sync, seconds = os.open(sys.argv[1], os.O_RDWR), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
block, count, end = b"w" * 4096, 0, time.monotonic() + seconds
while time.monotonic() < end:
    for _ in range(sync):
        os.pwrite(fd, block, random.randrange(pages) * 4096)
    os.fdatasync(fd)
    count += sync
print(count / seconds)
"""


def _tracer(root: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen(
        [sys.executable, "-c", _TRACER, str(root)],
        pass_fds=[root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def _ended(child: subprocess.Popen[str]) -> dict[str, float]:
    out, _ = child.communicate("\n")
    found: dict[str, float] = json.loads(out)
    return found


def _write(path: Path, pages: int, sync: int, seconds: float) -> float:
    command = [sys.executable, "-c", _WRITER, str(path), str(pages), str(sync), str(seconds)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(directory: Path, seconds: float, rounds: int) -> dict[str, object]:
    """All figures, by name."""
    found: dict[str, object] = {}
    with disk(directory, "ext4", 512) as made:
        root = os.open(made.path, os.O_RDONLY)
        path, pages = made.path / "f", 65536
        path.write_bytes(bytes(pages * 4096))
        os.sync()
        child = _tracer(root)
        time.sleep(seconds)
        found["idle"] = _ended(child)
        for name, sync in (("a sync every 32 pages", 32), ("a sync every 4096 pages", 4096)):
            without, beside, costs = [], [], []
            for _ in range(rounds):
                without.append(_write(path, pages, sync, seconds))
                child = _tracer(root)
                beside.append(_write(path, pages, sync, seconds))
                costs.append(_ended(child))
            found[name] = {
                "writes_per_second_without": round(statistics.median(without)),
                "writes_per_second_beside": round(statistics.median(beside)),
                "tracer": costs[-1],
                "lost": sum(cost["lost"] for cost in costs),
            }
        os.close(root)
    return found


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dir", type=Path, help="where the loop device's image goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as place:
        print(json.dumps(measure(Path(place), options.seconds, options.rounds), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
