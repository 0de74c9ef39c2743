"""`storagemirror` with a wall clock that a test sets: `python -m tests.support.setclock agent ...`.

The clock is the machine's, moved by the seconds that the file named in `CLOCK_FILE` holds. The times that a file system
gives are the machine's, and so is the clock that never goes back.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path

CLOCK_FILE = "STORAGEMIRROR_TEST_CLOCK"
PROGRAM = [sys.executable, "-m", "tests.support.setclock", "agent"]


def set_clock(file: Path, seconds: float) -> None:
    """Move the clock of whoever was started with this file, now."""
    new = file.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(file)


def _moved_by(file: str) -> int:
    with suppress(FileNotFoundError):
        return int(float(Path(file).read_text()) * 1e9)
    return 0


def main() -> int:
    """See the module."""
    file, real = os.environ[CLOCK_FILE], time.time_ns
    time.time_ns = lambda: real() + _moved_by(file)
    time.time = lambda: time.time_ns() / 1e9
    from storagemirror.cli.main import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
