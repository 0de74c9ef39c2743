"""A writer of two volumes that writes in an order: A to the one, and when that is durable B = A to the other.

    python -m tests.support.inorder FIRST SECOND    until killed

So at every moment B <= A <= B + 1, and copies that are of one moment hold that too.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

NAME = "number"
RECORD = struct.Struct("<Q")


def write(first: Path, second: Path) -> None:
    """For ever."""
    files = [os.open(directory / NAME, os.O_RDWR | os.O_CREAT, 0o600) for directory in (first, second)]
    number = 0
    while True:
        number += 1
        for file in files:
            os.pwrite(file, RECORD.pack(number), 0)
            os.fdatasync(file)


def number(directory: Path) -> int:
    """What is written there; 0 where nothing is."""
    try:
        data = (directory / NAME).read_bytes()
    except FileNotFoundError:
        return 0
    return int(RECORD.unpack(data)[0]) if data else 0


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
