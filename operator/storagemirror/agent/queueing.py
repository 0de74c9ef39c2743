"""What waits at the source for the target: how much may, how much does, and whether names had to be dropped."""

from __future__ import annotations

import logging
import os
from typing import Protocol

from storagemirror.contract import Queued, QueueOrder
from storagemirror.fs.mounts import mount_of
from storagemirror.sync.pointmaker.making import Maker
from storagemirror.sync.pointmaker.queue import Room

log = logging.getLogger("storagemirror.agent")

NAME_BYTES = 1024
"""What a name that waits is taken for: its path, and its places in our sets. Most take a quarter of it."""


class Watches(Protocol):
    """What is needed of a `TreeWatch`."""

    @property
    def names(self) -> int: ...
    @property
    def overflows(self) -> int: ...
    def limit(self, names: int) -> None: ...


class Settles(Protocol):
    """What is needed of `Unsettled`."""

    @property
    def names(self) -> int: ...


class Queueing:
    """Of one volume, as long as it is open. `report` is for any thread."""

    def __init__(self, watch: Watches, unsettled: Settles) -> None:
        self._watch = watch
        self._unsettled = unsettled
        self._most = 0
        self._covered = 0
        self.maker: Maker | None = None
        """Of points, if there are any."""

    def limit(self, order: QueueOrder) -> None:
        """From now on."""
        most = max(1, order.memory // NAME_BYTES)
        if most != self._most:
            self._most = most
            self._watch.limit(most)
        if self.maker is not None:
            self.maker.queue.room = Room(order.memory, order.disk)

    @property
    def overflows(self) -> int:
        """How often names were dropped."""
        return self._watch.overflows

    @property
    def overflowed(self) -> bool:
        """Whether something was dropped that nothing has made up for yet."""
        return self._watch.overflows > self._covered

    def covered(self, overflows: int) -> None:
        """All that was dropped up to then (`overflows`, before it was begun) has been looked at, and sent."""
        self._covered = max(self._covered, overflows)

    def report(self) -> Queued:
        """As it is now."""
        names, maker = self._watch.names + self._unsettled.names, self.maker
        percent = 100 * names // self._most if self._most else 0
        memory = disk = 0
        if maker is not None:
            memory, disk = maker.queue.memory_bytes, maker.queue.disk_bytes
            percent = max(percent, 100 * maker.waiting_bytes // max(1, maker.queue.limit))
        overflows = self._watch.overflows
        overflowed = overflows > self._covered
        return Queued(
            memory_bytes=memory,
            disk_bytes=disk,
            names=names,
            percent=100 if overflowed else min(100, percent),
            overflowed=overflowed,
            overflows=overflows,
        )


def disk_queue(directory: str, volume: int) -> str | None:
    """The directory, if files may wait there while the file system of the open directory `volume` is frozen; None, and
    the log says why, if not."""
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as e:
        log.warning("no disk queue: %s: %s", directory, e.strerror)
        return None
    try:
        theirs, ours = mount_of(volume), mount_of(place)
    finally:
        os.close(place)
    if theirs is None or ours is None or theirs.device == ours.device:
        log.warning("no disk queue: %s is on the volume's own file system, which is frozen for points", directory)
        return None
    return directory
