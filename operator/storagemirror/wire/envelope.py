"""Two frames that carry other frames: Compressed, and Fragment (feature `compress`).

Compressed: a frame whose payload is compressed. What is in it counts as if it had come as it is; its checksum is over
the content that was compressed.
     1 byte    type of the frame within
     1 byte    codec
     4 bytes   length of its payload, uncompressed, little-endian
     content   compressed, in fewer bytes than that

Fragment: a piece of a frame that is sent slowly. Between two pieces only Ping, Bye and Abort may come.
     1 byte    type of the frame within
     4 bytes   length of its payload, little-endian; the same in each piece
     content   the next bytes of it, 1 or more

Lengths are held against the limit of the frame within before anything is decompressed or kept, and a decompressor is
never given more room than the length that was said: a bomb costs no more than an honest frame.
"""

from __future__ import annotations

import struct
from enum import IntEnum

from storagemirror.errors import ProtocolError
from storagemirror.wire.frame import LIMITS, header
from storagemirror.wire.messages import FrameType

_COMPRESSED = struct.Struct("<BBI")
_FRAGMENT = struct.Struct("<BI")

ENVELOPES = frozenset({FrameType.COMPRESSED, FrameType.FRAGMENT})

COMPRESSIBLE = frozenset(
    {
        *(FrameType.PACK, FrameType.DATA),
        *(FrameType.DIGESTS, FrameType.LISTING, FrameType.LOOKED, FrameType.WANT, FrameType.LOOK),
        *(FrameType.DOOMED, FrameType.DELETE, FrameType.RENAME, FrameType.SUM, FrameType.SUMMED),
        *(FrameType.MANIFEST_DIGESTS, FrameType.MANIFEST_WANT, FrameType.MANIFEST_PART),
        *(FrameType.FLAGS, FrameType.OBJECT, FrameType.NAMES),
    }
)
"""Frames that may be large. The others are never compressed."""

_BETWEEN = frozenset({FrameType.PING, FrameType.BYE, FrameType.ABORT})
_TYPES = {int(kind): kind for kind in FrameType}


class Codec(IntEnum):
    """How a Compressed frame is compressed."""

    LZ4 = 1
    """One block of the LZ4 block format, without a header."""
    ZSTD = 2
    """One frame of RFC 8878 that tells its content's size."""


def compressed(kind: FrameType, codec: Codec, length: int, content: bytes) -> tuple[bytes, bytes]:
    """The Compressed frame of a payload of `length` bytes, in two parts; `content` is it compressed."""
    prefix = _COMPRESSED.pack(kind, codec, length)
    return header(FrameType.COMPRESSED, len(prefix) + len(content)) + prefix, content


def fragment(kind: FrameType, length: int, piece: bytes | memoryview) -> bytes:
    """One Fragment of a payload of `length` bytes."""
    prefix = _FRAGMENT.pack(kind, length)
    return header(FrameType.FRAGMENT, len(prefix) + len(piece)) + prefix + piece


class Opener:
    """Takes frames out of what they came in."""

    def __init__(self) -> None:
        self.codec: Codec | None = None
        """Of the latest Compressed."""
        self._kind: FrameType | None = None
        self._length = 0
        self._pieces = bytearray()

    @property
    def unfinished(self) -> bool:
        """Whether pieces are missing."""
        return self._kind is not None

    def open(self, kind: FrameType, payload: memoryview) -> tuple[FrameType, memoryview] | None:
        """The frame within; None while pieces are missing. `ProtocolError` for what may not be."""
        if kind is FrameType.FRAGMENT:
            whole = self._piece(payload)
            if whole is None:
                return None
            kind, payload = whole
        elif self._kind is not None and kind not in _BETWEEN:
            raise ProtocolError(f"expected the rest of a {self._kind.name} frame, got {kind.name}")
        return self._decompressed(payload) if kind is FrameType.COMPRESSED else (kind, payload)

    def _piece(self, payload: memoryview) -> tuple[FrameType, memoryview] | None:
        if payload.nbytes <= _FRAGMENT.size:
            raise ProtocolError(f"expected a piece of a frame in a FRAGMENT, got {payload.nbytes} bytes")
        number, length = _FRAGMENT.unpack_from(payload)
        if self._kind is None:
            kind = _TYPES.get(number)
            if kind is None or kind is FrameType.FRAGMENT or kind in _BETWEEN:
                raise ProtocolError(f"expected the type of a frame that may come in pieces, got {number}")
            if length > LIMITS[kind]:
                raise ProtocolError(f"expected at most {LIMITS[kind]} bytes in a {kind.name} frame, got {length}")
            self._kind, self._length, self._pieces = kind, length, bytearray()
        elif (number, length) != (self._kind, self._length):
            raise ProtocolError(f"expected the rest of a {self._kind.name} frame, got a piece of another")
        piece = payload[_FRAGMENT.size :]
        if len(self._pieces) + piece.nbytes > self._length:
            raise ProtocolError(f"expected {self._length} bytes in the pieces of a {self._kind.name} frame, got more")
        self._pieces += piece
        if len(self._pieces) < self._length:
            return None
        whole = self._kind, memoryview(self._pieces)
        self._kind, self._pieces = None, bytearray()
        return whole

    def _decompressed(self, payload: memoryview) -> tuple[FrameType, memoryview]:
        if payload.nbytes <= _COMPRESSED.size:
            raise ProtocolError(f"expected content in a COMPRESSED frame, got {payload.nbytes} bytes")
        number, codec, length = _COMPRESSED.unpack_from(payload)
        kind = _TYPES.get(number)
        if kind not in COMPRESSIBLE:
            raise ProtocolError(f"expected the type of a frame that may be compressed, got {number}")
        content = payload[_COMPRESSED.size :]
        if not content.nbytes < length <= LIMITS[kind]:
            raise ProtocolError(
                f"expected a {kind.name} frame of at most {LIMITS[kind]} bytes in fewer, got {length} in "
                f"{content.nbytes}"
            )
        if codec == Codec.LZ4:
            data = _lz4(content, length)
        elif codec == Codec.ZSTD:
            data = _zstd(content, length)
        else:
            raise ProtocolError(f"expected codec 1 (lz4) or 2 (zstd), got {codec}")
        if len(data) != length:
            raise ProtocolError(f"expected {length} bytes in a COMPRESSED frame, got {len(data)}")
        self.codec = Codec(codec)
        return kind, memoryview(data)


def _lz4(content: memoryview, length: int) -> bytes:
    import lz4.block

    try:
        data: bytes = lz4.block.decompress(content, uncompressed_size=length)
    except (lz4.block.LZ4BlockError, ValueError, OverflowError) as e:
        raise ProtocolError(f"a COMPRESSED frame is no lz4 of {length} bytes: {e}") from e
    return data


def _zstd(content: memoryview, length: int) -> bytes:
    import zstandard

    try:
        # The library makes room for what the content itself says: that is looked at first.
        said = zstandard.get_frame_parameters(content)
        if said.content_size != length or said.dict_id:
            raise ProtocolError(f"expected a zstd frame of {length} bytes, it says {said.content_size}")
        return zstandard.ZstdDecompressor().decompress(content, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as e:
        raise ProtocolError(f"a COMPRESSED frame is no zstd of {length} bytes: {e}") from e
