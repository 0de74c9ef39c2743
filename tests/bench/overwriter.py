"""`python -m tests.bench.overwriter DIRECTORY RATE FILES MEBIBYTES`: overwrite files in place, evenly, until killed.

Random pieces of 1 MiB of FILES files of so many MiB, RATE megabytes (10^6 bytes) a second, no more: what could not be
written in time is not caught up. Five times a second a line says how many bytes were written so far, and in how many
seconds.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

PIECE = 1 << 20


def fill(directory: Path, files: int, mebibytes: int) -> None:
    """The files, full of random bytes."""
    for number in range(files):
        with (directory / f"f{number:03}").open("wb") as file:
            for _ in range(mebibytes):
                file.write(os.urandom(PIECE))


def main() -> None:
    """See above."""
    directory, rate, files, mebibytes = Path(sys.argv[1]), float(sys.argv[2]) * 1e6, *map(int, sys.argv[3:5])
    fds = [os.open(directory / f"f{number:03}", os.O_WRONLY) for number in range(files)]
    chance = random.Random("overwriter")
    content = bytearray(os.urandom(PIECE))
    count, written = 0, 0
    due = told = began = time.monotonic()
    while True:
        count += 1
        content[:8] = count.to_bytes(8, "little")
        written += os.pwrite(chance.choice(fds), content, chance.randrange(mebibytes) * PIECE)
        now = time.monotonic()
        if now - told >= 0.2:
            print(written, f"{now - began:.3f}", flush=True)
            told = now
        due = max(due + PIECE / rate, now - 0.1)
        if due > now:
            time.sleep(due - now)


if __name__ == "__main__":
    main()
