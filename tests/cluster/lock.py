"""One at a time: whoever changes a cluster holds its lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.cluster.layout import Layout


@contextmanager
def cluster_lock(layout: Layout, *, for_removal: bool = False) -> Iterator[None]:
    """Hold the lock of a cluster; wait for it as long as it takes.

    With `for_removal` the lock's file goes at the end (if all went well), and the directory of all clusters with the
    last of them. So the file that was locked must still be the one that is there, or the wait begins anew.
    """
    while True:
        with _opened(layout.lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _same_file(file.fileno(), layout.lock):
                continue
            yield
            if for_removal:
                layout.lock.unlink()
                with contextlib.suppress(OSError):
                    layout.base.rmdir()
            return


def _opened(path: Path) -> IO[str]:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # removed in between, with the last cluster
            return path.open("w")


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
