"""An agent whose disk refuses to sync as long as the file FAIL_WHILE is there: run as its program."""

from __future__ import annotations

import errno
import os
import sys

from storagemirror.cli.main import main
from storagemirror.fs import target

_sync = target.syncfs  # type: ignore[attr-defined]


def syncfs(fd: int) -> None:
    """As the kernel's, but for the refusal."""
    if os.path.exists(os.environ["FAIL_WHILE"]):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    _sync(fd)


if __name__ == "__main__":
    target.syncfs = syncfs  # type: ignore[attr-defined]
    sys.exit(main())
