"""Freezing a volume of the tests directly, without the guard."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from storagemirror.sync.freezing import FreezeLost, NotFrozen
from tests.support.freezing import FIFREEZE, FITHAW


@dataclass
class DirectFrozen:
    """See `Frozen`."""

    fd: int
    began: float
    deadline: float
    freeze_seconds: float
    before_thaw: Callable[[], None]
    stall_seconds: float = 0.0
    thawed: bool = False

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def thaw(self) -> None:
        if self.thawed:
            return
        self.thawed = True
        try:
            self.before_thaw()
        finally:
            try:
                fcntl.ioctl(self.fd, FITHAW, 0)
            except OSError as e:
                raise FreezeLost(str(e), reason="ThawedByAnother") from e
        self.stall_seconds = time.monotonic() - self.began


class DirectFreezer:
    """A `Freezer` of the file system that a directory is on. `before_freeze` is called when all passes are done,
    `before_thaw` while it is frozen."""

    def __init__(self, path: str, before_thaw: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self.before_thaw = before_thaw
        self.before_freeze: Callable[[], None] = lambda: None

    def check(self) -> None:
        """See `Freezer`."""

    @contextmanager
    def freeze(self, deadline_seconds: float) -> Iterator[DirectFrozen]:
        self.before_freeze()
        fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY)
        began = time.monotonic()
        try:
            try:
                fcntl.ioctl(fd, FIFREEZE, 0)
            except OSError as e:
                if e.errno != errno.EBUSY:
                    raise
                raise NotFrozen("frozen by another", reason="FrozenByAnother") from e
            now = time.monotonic()
            frozen = DirectFrozen(fd, began, began + deadline_seconds, now - began, self.before_thaw)
            try:
                yield frozen
            except BaseException:
                if not frozen.thawed:
                    frozen.before_thaw = lambda: None
                    frozen.thaw()
                raise
            frozen.thaw()
        finally:
            os.close(fd)
