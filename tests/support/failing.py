"""An agent with a bad disk, run as its program: while the file FAIL_WHILE is there a sync fails, while the file
SLOW_WHILE is there it takes SLOW_SECONDS.
"""

from __future__ import annotations

import errno
import os
import sys
import time

from storagemirror.cli.main import main
from storagemirror.fs import target

_sync = target.syncfs  # type: ignore[attr-defined]


def syncfs(fd: int) -> None:
    """As the kernel's, but for that."""
    if os.path.exists(os.environ.get("SLOW_WHILE", "")):
        time.sleep(float(os.environ["SLOW_SECONDS"]))
    if os.path.exists(os.environ.get("FAIL_WHILE", "")):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _sync(fd)


if __name__ == "__main__":
    target.syncfs = syncfs  # type: ignore[attr-defined]
    sys.exit(main())
