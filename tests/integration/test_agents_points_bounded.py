"""A volume that is overwritten faster than a point of it can be made: nothing grows, and the point comes at last."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.support.agents import AgentPair, wait_for
from tests.support.pointpair import POINTS, pointing, points, until_point

MIB = 1 << 20
FILES, SIZE = 4, 12 * MIB
WRITER = f"""
import os, sys, time
fds = [os.open(os.path.join(sys.argv[1], f"f{{n}}"), os.O_RDWR | os.O_CREAT) for n in range({FILES})]
while True:
    for fd in fds:
        os.pwrite(fd, os.urandom({SIZE}), 0)
        time.sleep(0.02)
"""
BOUND = 2 * FILES * SIZE + 64 * MIB + SIZE + 16 * MIB
"""What docs/consistency.md says, one file that is told to its end, and segments that are begun."""


@contextmanager
def overwriting(directory: Path) -> Iterator[None]:
    """All of it, all the time: no two looks find the same content."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(directory)])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def room(pair: AgentPair) -> int:
    """Bytes that our directory takes on the target."""
    size = 0
    for at, _, names in os.walk(pair.target.volume / ".storagemirror"):
        for name in names:
            try:
                size += os.lstat(os.path.join(at, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return size


def test_the_room_on_the_target_is_bounded_and_the_copy_stays_at_its_point(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        (made.path / "before").write_bytes(b"of the first point")
        hurried = msgspec.structs.replace(POINTS, max_stall_seconds=0.05)
        # Without the trace: with it a point can be made now and then.
        pair.target.give(replication=hurried)
        pair.target.start()
        pair.source.give(replication=hurried)
        without = ["setpriv", "--bounding-set=-sys_admin", "--"]
        pair.source.start(program=[*without, sys.executable, "-m", "storagemirror.cli.main", "agent"])
        pair.introduce()
        first = until_point(pair)
        most, end = 0, time.monotonic() + 25
        with overwriting(made.path):
            while time.monotonic() < end:
                most = max(most, room(pair))
                time.sleep(0.05)
            busy = points(pair)
            assert busy is not None
            print(f"most room {most / MIB:.0f} MiB, bound {BOUND / MIB:.0f} MiB; {busy}")
            assert busy.in_a_row > 5
            assert busy.number == first.number
            assert not (pair.target.volume / "f0").exists(), "the copy is at the point before"
            assert pair.source.log().count("begun anew") >= 1, "it was never reached: the test proves nothing"
        assert most < BOUND
        until_point(pair, first.number or 0, 60)
        wait_for((pair.target.volume / "f0").exists, "the point to be applied", 10)
        wait_for(
            lambda: all(
                (pair.target.volume / f"f{n}").read_bytes() == (made.path / f"f{n}").read_bytes() for n in range(FILES)
            ),
            "both sides to be equal",
            20,
        )
        wait_for(lambda: room(pair) < 2 * MIB, "the journal to be empty", 10)
