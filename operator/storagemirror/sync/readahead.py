"""Reading a large file while what was read of it is sent: one thread reads and sums up, another encrypts and sends.

Both are work of the kernel and of C, which Python lets go on side by side. Pieces come in the order of the file, a few
ahead and no more, so that memory is bounded whatever the file's size.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator

from storagemirror.fs.reading import Footprint
from storagemirror.wire.content import ContentDigest

AHEAD = 3
"""Pieces in memory, that which is sent among them."""
_ALONE = 2
"""A file of so many pieces is read as it is sent: a thread would cost more than it saves."""


class ReadAhead:
    """The data of one open file, piece by piece. What was read is in `digest` once all were taken."""

    def __init__(
        self, fd: int, extents: list[tuple[int, int]], footprint: Footprint, digest: ContentDigest, piece: int
    ) -> None:
        """`extents`: (begin, end) of its data, ascending; `piece`: bytes at a time, at most."""
        self._fd = fd
        self._extents = extents
        self._footprint = footprint
        self._digest = digest
        self._piece = piece
        self.end: int | None = None
        """Where the file ended before its time; None: it did not."""

    def pieces(self) -> Generator[tuple[int, memoryview], None, None]:
        """(offset, content); a content holds until the next is asked for. OSError when it cannot be read. To be closed
        where not all are taken: then nobody reads any more."""
        size = sum(end - begin for begin, end in self._extents)
        if size > _ALONE * self._piece:
            yield from self._side_by_side()
        elif size:
            room = memoryview(bytearray(min(self._piece, size)))
            yield from self._read(lambda: room)

    def _read(self, next_room: Callable[[], memoryview | None]) -> Generator[tuple[int, memoryview], None, None]:
        for begin, end in self._extents:
            at = begin
            while at < end:
                room = next_room()
                if room is None:  # nobody wants more
                    return
                length = min(room.nbytes, end - at)
                self._footprint.ahead(at, length)
                count = os.preadv(self._fd, (room[:length],), at)
                if count == 0:  # it was cut short meanwhile
                    self.end = at
                    return
                self._digest.add(at, room[:count])
                yield at, room[:count]
                at += count
                self._footprint.read(at)

    def _side_by_side(self) -> Generator[tuple[int, memoryview], None, None]:
        buffers = [memoryview(bytearray(self._piece)) for _ in range(AHEAD)]
        rooms: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        pieces: queue.SimpleQueue[tuple[int, memoryview] | BaseException | None] = queue.SimpleQueue()
        for buffer in buffers:
            rooms.put(buffer)

        def read() -> None:
            try:
                for piece in self._read(rooms.get):
                    pieces.put(piece)
            except BaseException as e:  # whatever it is: raised where the pieces are asked for
                pieces.put(e)
            else:
                pieces.put(None)

        thread = threading.Thread(target=read, name="reader", daemon=True)
        thread.start()
        try:
            number = 0
            while (piece := pieces.get()) is not None:
                if isinstance(piece, BaseException):
                    raise piece
                yield piece
                rooms.put(buffers[number % AHEAD])  # they come back in the order in which they went
                number += 1
        finally:
            rooms.put(None)
            thread.join()
