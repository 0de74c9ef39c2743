"""Freeze a file system of a test's own."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

FIFREEZE = 0xC0045877
FITHAW = 0xC0045878


@contextmanager
def frozen(fd: int) -> Iterator[None]:
    """While entered, the file system of `fd` is frozen; it is thawed however that ends."""
    fcntl.ioctl(fd, FIFREEZE, 0)
    try:
        yield
    finally:
        fcntl.ioctl(fd, FITHAW, 0)
