"""Frames: one byte of type, four bytes of length (little-endian), so many bytes of payload.

Nothing is allocated for a frame before its type is known and its length is within the limit of that type.
"""

from __future__ import annotations

import struct
from collections import deque

from storagemirror.errors import ProtocolError
from storagemirror.wire.messages import FrameType

HEADER = struct.Struct("<BI")

KIB = 1024
MIB = 1024 * KIB

PACK_TARGET = 1 * MIB
"""A pack is sent when it holds so much."""
SMALL_FILE = 256 * KIB
"""A file up to this size travels in a pack; a larger one as Begin, Data, End."""
FRAGMENT_CHUNK = 64 * KIB
"""Bytes of another frame in one Fragment, at most."""
DATA_CHUNK = 1 * MIB
"""Bytes of content in one Data frame, at most."""

CONTROL_LIMIT = 128 * KIB
LIST_LIMIT = 2 * MIB

LIMITS: dict[FrameType, int] = {
    FrameType.HELLO: 2 * CONTROL_LIMIT,
    FrameType.WELCOME: CONTROL_LIMIT,
    FrameType.REFUSE: CONTROL_LIMIT,
    FrameType.HOLD: CONTROL_LIMIT,
    FrameType.PING: 16,
    FrameType.BYE: 16,
    FrameType.ABORT: CONTROL_LIMIT,
    FrameType.MIRROR: LIST_LIMIT,
    FrameType.DIGESTS: LIST_LIMIT,
    FrameType.CREDIT: 64,
    FrameType.WANT: LIST_LIMIT,
    FrameType.LISTING: LIST_LIMIT,
    FrameType.LOOK: LIST_LIMIT,
    FrameType.LOOKED: LIST_LIMIT,
    FrameType.MIRROR_END: 64,
    FrameType.MIRRORED: CONTROL_LIMIT,
    FrameType.SUM: LIST_LIMIT,
    FrameType.SUMMED: CONTROL_LIMIT,
    FrameType.TALLY: CONTROL_LIMIT,
    FrameType.TALLIED: 64,
    FrameType.PACK: 4 * MIB,
    FrameType.BEGIN: 2 * MIB,
    FrameType.DATA: DATA_CHUNK + 8,
    FrameType.END: 256,
    FrameType.DROP: 16,
    FrameType.LINK: 2 * (LIST_LIMIT // 8),
    FrameType.RENAME: LIST_LIMIT,
    FrameType.DOOMED: LIST_LIMIT,
    FrameType.CLEARED: 64,
    FrameType.DELETE: LIST_LIMIT,
    FrameType.MARK: 64,
    FrameType.MARKED: CONTROL_LIMIT,
    FrameType.FAILED: 2 * CONTROL_LIMIT,
    FrameType.NOT_KEPT: 2 * CONTROL_LIMIT,
    FrameType.MANIFEST: 256,
    FrameType.MANIFEST_DIGESTS: LIST_LIMIT,
    FrameType.MANIFEST_WANT: LIST_LIMIT,
    FrameType.MANIFEST_PART: LIST_LIMIT,
    FrameType.MANIFEST_END: 16,
    FrameType.KEPT: 64,
    FrameType.COMPRESSED: 4 * MIB,
    FrameType.FRAGMENT: FRAGMENT_CHUNK + 5,
    FrameType.FLAGS: LIST_LIMIT,
    FrameType.FLAGS_TOLD: 16,
    FrameType.BLOCKS: CONTROL_LIMIT,
    FrameType.BLOCK_SUMS: 32 * KIB,
    FrameType.DELTA: 2 * MIB,
    FrameType.HOLE: 32,
    FrameType.LET_GO: 16,
    FrameType.MOVES: LIST_LIMIT,
    FrameType.MOVED: CONTROL_LIMIT,
    FrameType.COPY: 32,
    FrameType.EXAMINE: LIST_LIMIT,
    FrameType.EXAMINED: LIST_LIMIT,
    FrameType.POINT: 64,
    FrameType.OBJECT: 2 * MIB,
    FrameType.NAMES: LIST_LIMIT,
    FrameType.POINT_END: 256,
    FrameType.POINT_DURABLE: 64,
    FrameType.POINT_APPLIED: 16,
    FrameType.POINT_REFUSED: 2 * CONTROL_LIMIT,
    FrameType.DISTURBED: 16,
    FrameType.POINT_RELEASE: 16,
}
"""Bytes of payload, at most."""

LARGEST_FRAME = HEADER.size + max(LIMITS.values())
_START = 64 * KIB
_CONTENT = frozenset({FrameType.PACK, FrameType.DATA})
_TYPES = {int(kind): kind for kind in FrameType}


def header(kind: FrameType, length: int) -> bytes:
    """The five bytes before a payload of `length` bytes. A payload beyond the limit is our own mistake."""
    if length > LIMITS[kind]:
        raise AssertionError(f"a {kind.name} frame holds at most {LIMITS[kind]} bytes, not {length}")
    return HEADER.pack(kind, length)


class FrameReader:
    """Cuts a stream of bytes into frames.

    The caller puts bytes where `writable` points, says how many with `written`, and takes frames with `next_frame`
    until there is none. A payload is a view of the reader's own memory: it holds until `writable` is called again, or,
    with `ahead`, that of a frame with content until so many more of these were taken and `writable` is called again.
    """

    def __init__(self, ahead: int = 0) -> None:
        self._buffer = bytearray(_START)
        self._others: deque[bytearray] = deque(bytearray() for _ in range(ahead))
        """What may still be looked at, the oldest first."""
        self._shown = False
        """A payload with content is in the buffer: of all other frames nothing is looked at once they are decoded."""
        self._start = 0
        self._end = 0
        self._need = HEADER.size

    def writable(self) -> memoryview:
        """Where the next bytes go: never empty, and never more memory than the frame that has begun may have."""
        if self._start:
            rest = self._end - self._start
            if self._others and self._shown:
                self._turn(rest)
            elif rest:
                self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        if self._need > len(self._buffer):
            # A new one: the old may still be looked at through a payload's view.
            grown = bytearray(min(LARGEST_FRAME, max(self._need, 2 * len(self._buffer))))
            grown[: self._end] = memoryview(self._buffer)[: self._end]
            self._buffer = grown
        elif self._end == len(self._buffer):
            raise AssertionError("take the frames that are there first")
        return memoryview(self._buffer)[self._end :]

    def _turn(self, rest: int) -> None:
        """Go on in the memory that was looked at the longest ago. Each turn follows a frame with content at least."""
        before, after = self._buffer, self._others.popleft()
        if len(after) < len(before):
            after = bytearray(len(before))
        after[:rest] = memoryview(before)[self._start : self._end]
        self._others.append(before)
        self._buffer, self._shown = after, False

    def written(self, count: int) -> None:
        """So many bytes were put where `writable` pointed."""
        self._end += count

    def next_frame(self) -> tuple[FrameType, memoryview] | None:
        """The next whole frame, None when more bytes are needed; `ProtocolError` for a type or length not allowed."""
        have = self._end - self._start
        if have < HEADER.size:
            self._need = HEADER.size
            return None
        number, length = HEADER.unpack_from(self._buffer, self._start)
        kind = _TYPES.get(number)
        if kind is None:
            raise ProtocolError(f"expected a frame type, got {number}")
        if length > LIMITS[kind]:
            raise ProtocolError(f"expected at most {LIMITS[kind]} bytes in a {kind.name} frame, got {length}")
        whole = HEADER.size + length
        if have < whole:
            self._need = whole
            return None
        begin = self._start + HEADER.size
        self._start += whole
        self._shown = self._shown or kind in _CONTENT
        self._need = HEADER.size
        return kind, memoryview(self._buffer)[begin : begin + length]

    @property
    def between_frames(self) -> bool:
        """Whether nothing of a next frame has come yet: an end of the stream here is not in the middle of one."""
        return self._start == self._end
