"""A volume that is overwritten faster than a point of it can be made: nothing grows, and the point comes at last."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from tests.support.agents import AgentPair, wait_for
from tests.support.disks import room_of
from tests.support.pointpair import POINTS, pointing, points, start_without_trace, until_point
from tests.support.running import running

MIB = 1 << 20
FILES, SIZE = 4, 12 * MIB
WRITER = f"""# All of it, all the time: no two looks find the same content.
import os, sys, time
fds = [os.open(os.path.join(sys.argv[1], f"f{{n}}"), os.O_RDWR | os.O_CREAT) for n in range({FILES})]
while True:
    for fd in fds:
        os.pwrite(fd, os.urandom({SIZE}), 0)
        time.sleep(0.02)
"""
BOUND = 2 * FILES * SIZE + 64 * MIB + SIZE + 16 * MIB
"""What docs/consistency.md says, one file that is told to its end, and segments that are begun."""


def room(pair: AgentPair) -> int:
    """Bytes that our directory takes on the target."""
    return room_of(pair.target.volume / ".storagemirror")


def test_the_room_on_the_target_is_bounded_and_the_copy_stays_at_its_point(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        (made.path / "before").write_bytes(b"of the first point")
        hurried = msgspec.structs.replace(POINTS, max_stall_seconds=0.05)
        # Without the trace: with it a point can be made now and then.
        start_without_trace(pair, hurried)
        first = until_point(pair)
        most, end = 0, time.monotonic() + 25
        with running("-c", WRITER, made.path):
            while time.monotonic() < end:
                most = max(most, room(pair))
                time.sleep(0.05)
            busy = points(pair)
            assert busy is not None
            print(f"most room {most / MIB:.0f} MiB, bound {BOUND / MIB:.0f} MiB; {busy}")
            assert busy.in_a_row > 5
            assert busy.number == first.number
            if (pair.target.volume / "f0").exists():  # the copy is at the point before, or one could be made after all
                until_point(pair, first.number or 0, 10)
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
