"""A writer of several files that writes in an order, each step durable before the next; and the check of a copy.

    python -m tests.support.ordered DIRECTORY            until killed
    python -m tests.support.ordered --check DIRECTORY    1 when a later step is there without an earlier one

Step n writes the number n as the n-th record of file n modulo 5. So a state of a power cut holds all of 1 to some n,
and perhaps n + 1.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

FILES = 5
RECORD = struct.Struct("<Q")


def write(directory: Path) -> None:
    """For ever."""
    files = [os.open(directory / f"ordered{n}", os.O_RDWR | os.O_CREAT, 0o600) for n in range(FILES)]
    step = 0
    while True:
        os.pwrite(files[step % FILES], RECORD.pack(step + 1), step // FILES * RECORD.size)
        os.fdatasync(files[step % FILES])
        step += 1


def steps(directory: Path) -> int:
    """How many steps are there without a gap; AssertionError when there is one."""
    found: set[int] = set()
    for number in range(FILES):
        data = (directory / f"ordered{number}").read_bytes()
        values = [value for (value,) in RECORD.iter_unpack(data[: len(data) // RECORD.size * RECORD.size])]
        assert values == [number + 1 + at * FILES for at in range(len(values))], f"file {number} is torn"
        found.update(values)
    assert found == set(range(1, len(found) + 1)), f"of {max(found)} steps {len(found)} are there"
    return len(found)


def written(directory: Path) -> int:
    """How many steps a writer has done so far that still writes, about: its files cannot be read at one moment."""
    return sum((directory / f"ordered{number}").stat().st_size for number in range(FILES)) // RECORD.size


if __name__ == "__main__":
    if sys.argv[1] == "--check":
        print(steps(Path(sys.argv[2])))
    else:
        write(Path(sys.argv[1]))
