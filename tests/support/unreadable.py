"""An agent with a bad disk, run as its program: it fails to give out the files of one name (UNREADABLE) when they are
summed, and takes SLOW_PIECE seconds for each piece of one.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator

from storagemirror.cli.main import main
from storagemirror.sync import sums

_open, _pieces = sums._open, sums._pieces


def refuse(directory: int, name: bytes) -> int:
    """As `sums._open`, but for that name."""
    if name == os.fsencode(os.environ.get("UNREADABLE", "")):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return _open(directory, name)


def slow(fd: int, size: int) -> Iterator[int]:
    """As `sums._pieces`, slowly."""
    for offset in _pieces(fd, size):
        time.sleep(float(os.environ.get("SLOW_PIECE", "0")))
        yield offset


if __name__ == "__main__":
    sums._open, sums._pieces = refuse, slow
    sys.exit(main())
