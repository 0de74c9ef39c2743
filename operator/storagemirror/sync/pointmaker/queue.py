"""The queue of points: what was read and is not safe on the target yet, in memory first, then on disk.

Records are kept on tapes, as the bytes that the point's digest is over. What does not fit into memory any more goes to
a file without a name in the queue's directory, so that nothing is left of it whoever is killed. The file need not
outlive us, and is never flushed.

The directory must not be on the volume that is frozen: a write to it would wait for the thaw.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from xxhash import xxh3_64

from storagemirror.errors import Passing
from storagemirror.point import RecordKind

_RECORD_BYTES = 200
"""What a record takes in memory beside its own bytes, at most, wherever these are."""


class QueueFull(Passing):
    """The record does not fit: memory and disk are used up to their limits, or the disk does not take it."""

    reason = "QueueFull"


class QueueLost(Passing):
    """What was queued on disk cannot be read any more."""

    reason = "QueueLost"


@dataclass(frozen=True, slots=True)
class Room:
    """What may be queued, in bytes."""

    memory: int = 64 << 20
    disk: int = 1 << 30


@dataclass(frozen=True, slots=True)
class _Stored:
    """Where the bytes of a record are in the file."""

    at: int
    size: int
    sum: bytes
    """xxh3_64: what the disk gives back is held against it."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A place on a tape."""

    records: int
    memory: int
    disk: int


class Queue:
    """All tapes of one engine of points. For one thread, save the two numbers."""

    def __init__(self, directory: str | None = None, room: Room | None = None) -> None:
        """`directory` None: there is no disk queue, whatever `room` says."""
        self.directory = directory
        self.room = room if room is not None else Room()
        self.memory_bytes = 0
        self.disk_bytes = 0

    @property
    def limit(self) -> int:
        """Bytes that fit in all."""
        return self.room.memory + (self.room.disk if self.directory is not None else 0)

    def tape(self, *, on_disk: bool = True) -> Tape:
        """A new one. `on_disk` False: it is full where memory is."""
        return Tape(self, on_disk=on_disk)


class Tape:
    """Records in their order, each in memory or on disk."""

    def __init__(self, queue: Queue, *, on_disk: bool) -> None:
        self._queue = queue
        self._on_disk = on_disk and queue.directory is not None
        self._records: list[tuple[RecordKind, bytes | _Stored]] = []
        self._memory = 0
        self._disk = 0
        self._fd: int | None = None

    def add(self, kind: RecordKind, *parts: bytes | memoryview) -> None:
        """The next record, in one or more parts, which are copied. `QueueFull`: nothing of it was kept."""
        queue = self._queue
        size = sum(memoryview(part).nbytes for part in parts)
        if queue.memory_bytes + size + _RECORD_BYTES <= queue.room.memory:
            self._records.append((kind, b"".join(parts)))
            self._take(size + _RECORD_BYTES, 0)
        elif self._on_disk and queue.disk_bytes + size <= queue.room.disk:
            self._write(*parts)
            self._records.append((kind, _Stored(self._disk, size, _sum(*parts))))
            self._take(_RECORD_BYTES, size)
        else:
            raise QueueFull(f"{queue.memory_bytes:,} bytes in memory and {queue.disk_bytes:,} on disk are queued")

    def __iter__(self) -> Iterator[tuple[RecordKind, memoryview]]:
        """Kind and bytes of each; `QueueLost` when the disk fails."""
        for kind, kept in self._records:
            yield kind, memoryview(self._read(kept) if isinstance(kept, _Stored) else kept)

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return self._memory + self._disk

    def mark(self) -> Mark:
        """The present end, for `cut`."""
        return Mark(len(self._records), self._memory, self._disk)

    def cut(self, mark: Mark) -> None:
        """Forget what came after it."""
        del self._records[mark.records :]
        self._take(mark.memory - self._memory, mark.disk - self._disk)
        if self._fd is not None and not mark.disk:
            os.close(self._fd)
            self._fd = None
        elif self._fd is not None:
            os.ftruncate(self._fd, mark.disk)

    def clear(self) -> None:
        """Forget everything."""
        self.cut(Mark(0, 0, 0))

    def __del__(self) -> None:
        self.clear()

    def _take(self, memory: int, disk: int) -> None:
        self._memory += memory
        self._disk += disk
        self._queue.memory_bytes += memory
        self._queue.disk_bytes += disk

    def _write(self, *parts: bytes | memoryview) -> None:
        """At the end of the file."""
        try:
            if self._fd is None:
                with tempfile.TemporaryFile(dir=self._queue.directory) as file:
                    self._fd = os.dup(file.fileno())
            at = self._disk
            for part in parts:
                left = memoryview(part)
                while left:
                    wrote = os.pwrite(self._fd, left, at)
                    at, left = at + wrote, left[wrote:]
        except OSError as e:
            raise QueueFull(f"the disk queue cannot be written: {e.strerror}") from e

    def _read(self, kept: _Stored) -> bytes:
        if self._fd is None:
            raise AssertionError("nothing was written")
        found = b""
        try:
            while len(found) < kept.size:
                part = os.pread(self._fd, kept.size - len(found), kept.at + len(found))
                if not part:
                    raise QueueLost("the disk queue ends early")
                found = part if not found else found + part
        except OSError as e:
            raise QueueLost(f"the disk queue cannot be read: {e.strerror}") from e
        if _sum(found) != kept.sum:
            raise QueueLost("the disk queue gives back something else than was written")
        return found


def _sum(*parts: bytes | memoryview) -> bytes:
    found = xxh3_64()
    for part in parts:
        found.update(part)
    return found.digest()
