"""An agent whose disk fails to give out the files of one name (UNREADABLE): run as its program."""

from __future__ import annotations

import errno
import os
import sys

from storagemirror.cli.main import main
from storagemirror.sync import sums

_open = sums._open


def refuse(directory: int, name: bytes) -> int:
    """As `sums._open`, but for that name."""
    if name == os.fsencode(os.environ["UNREADABLE"]):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return _open(directory, name)


if __name__ == "__main__":
    sums._open = refuse
    sys.exit(main())
