"""The payloads that carry content, and those of points, which are kept as they came.

Pack: many small things in one frame.
    16 bytes   xxh3_128 of all that follows
     4 bytes   length of the records, little-endian
     records   MessagePack array of `Record`s
     contents  of the `File` records, one after the other

Data: a piece of a large file.
     8 bytes   offset, little-endian
     content   1 byte or more
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator

import msgspec
from xxhash import xxh3_128, xxh3_128_digest

from storagemirror.entry import KINDS, STATE_DIRECTORY, Attributes, Kind, Size, is_name, is_path
from storagemirror.errors import ProtocolError
from storagemirror.point import Names, Object, RecordKind, read_names, read_object

_RECORDS_LENGTH = struct.Struct("<I")
_OFFSET = struct.Struct("<Q")
_DIGEST = 16
_TYPE = 0o170000
_RECORDS_ROOM = 1 << 20
"""Bytes before the contents, for the records; where these need more they are copied together."""


class Enter(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=1):
    """The records that follow are in this directory, which is made when it is not there."""

    path: bytes
    fresh: bool = False
    """The target does not have it, or it was made by this mirror: nothing in it can be in the way."""


class File(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=2):
    """A small file; its content is in the pack."""

    name: bytes
    attributes: Attributes
    size: Size


class Symlink(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=3):
    """A symbolic link."""

    name: bytes
    attributes: Attributes
    content: bytes


class Node(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=4):
    """A FIFO, a socket or a device: `attributes.mode` says which."""

    name: bytes
    attributes: Attributes
    major: int = 0
    minor: int = 0


class Touch(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=5):
    """The content is right, the attributes are not. Never of a directory."""

    name: bytes
    attributes: Attributes


class Child(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=7):
    """A directory in this one: made when it is not there. What is in it comes under its own `Enter`."""

    name: bytes


class Leave(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=6):
    """Nothing more comes for the directory that was entered: these are its attributes."""

    attributes: Attributes


Record = Enter | File | Symlink | Node | Touch | Child | Leave

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Record]).decode


class Contents:
    """The contents of a pack's files, one after the other, read to where they are sent from: nothing is copied, and no
    memory is asked for again and again."""

    def __init__(self, size: int) -> None:
        """Room for `size` bytes."""
        self.buffer = memoryview(bytearray(_RECORDS_ROOM + size))
        self.end = _RECORDS_ROOM
        """Where in `buffer` the next content goes."""

    def room(self) -> memoryview:
        """Where the next content goes."""
        return self.buffer[self.end :]

    def take(self, count: int) -> None:
        """So many bytes of it are the content of the next `File` record."""
        self.end += count

    def clear(self) -> None:
        """It was sent."""
        self.end = _RECORDS_ROOM

    def after(self, head: bytes) -> bytes | memoryview:
        """`head` and all contents; holds until `clear`."""
        begin = _RECORDS_ROOM - len(head)
        if begin < 0:
            return b"".join((head, self.buffer[_RECORDS_ROOM : self.end]))
        self.buffer[begin:_RECORDS_ROOM] = head
        return self.buffer[begin : self.end]


def pack_payload(records: list[Record], contents: Contents | list[bytes]) -> tuple[bytes, bytes | memoryview]:
    """The payload of a pack, in two parts: its checksum, and the rest (a megabyte that need not be copied again).

    `contents` are those of the `File` records, in order."""
    encoded = _encode(records)
    head = _RECORDS_LENGTH.pack(len(encoded)) + encoded
    body = contents.after(head) if isinstance(contents, Contents) else b"".join((head, *contents))
    return xxh3_128_digest(body), body


class Pack:
    """A pack that has arrived, checked: its checksum, its names, and that the contents are as long as they say."""

    __slots__ = ("_contents", "records")

    def __init__(self, payload: memoryview) -> None:
        if payload.nbytes < _DIGEST + _RECORDS_LENGTH.size:
            raise ProtocolError(f"expected a pack of at least 20 bytes, got {payload.nbytes}")
        body = payload[_DIGEST:]
        if xxh3_128_digest(body) != payload[:_DIGEST]:
            raise ProtocolError("a pack's content is not what its checksum says: it was damaged on the way")
        (length,) = _RECORDS_LENGTH.unpack_from(body)
        begin = _RECORDS_LENGTH.size + length
        if begin > body.nbytes:
            raise ProtocolError(f"expected {length} bytes of records in a pack of {body.nbytes}")
        try:
            self.records: list[Record] = _decode(body[_RECORDS_LENGTH.size : begin])
        except (msgspec.MsgspecError, RecursionError, ValueError) as e:
            raise ProtocolError(f"a pack's records cannot be read: {e}") from e
        self._contents = body[begin:]
        self._check()

    def _check(self) -> None:
        size = 0
        inside = at_root = False
        for record in self.records:
            if type(record) is File:  # nearly all are
                if not inside or not is_name(record.name) or record.attributes.mode & _TYPE != stat.S_IFREG:
                    raise ProtocolError(f"expected a file in a directory, got {record.name[:300]!r}")
                if at_root and record.name == STATE_DIRECTORY:
                    raise ProtocolError("a pack names what is the target's own")
                size += record.size
                continue
            if isinstance(record, Enter):
                if not is_path(record.path):
                    raise ProtocolError(f"not a path within the volume: {record.path[:300]!r}")
                inside, at_root = True, not record.path
                continue
            if not inside:
                raise ProtocolError("a pack names an entry outside of any directory")
            if isinstance(record, Leave):
                inside = False
                if stat.S_IFMT(record.attributes.mode) != Kind.DIRECTORY:
                    raise ProtocolError("a directory's attributes are of another type")
                continue
            if not is_name(record.name):
                raise ProtocolError(f"not a name of an entry: {record.name[:300]!r}")
            if at_root and record.name == STATE_DIRECTORY:
                raise ProtocolError("a pack names what is the target's own")
            if isinstance(record, Child):
                continue
            mode = stat.S_IFMT(record.attributes.mode)
            if mode not in KINDS or mode == Kind.DIRECTORY:
                raise ProtocolError(f"expected the mode of an entry that is no directory, got {mode:o}")
            if mode == Kind.FILE and not isinstance(record, Touch):
                raise ProtocolError(f"a record of {type(record).__name__} has the mode {mode:o}")
            if isinstance(record, Symlink) and (mode != Kind.SYMLINK or not _target(record.content)):
                raise ProtocolError("expected a symbolic link of 1 to 4095 bytes, without NUL")
            if isinstance(record, Node) and (mode == Kind.SYMLINK or not _device(record.major, record.minor)):
                raise ProtocolError("expected a FIFO, a socket or a device with its numbers")
        if size != self._contents.nbytes:
            raise ProtocolError(f"expected {size} bytes of content in a pack, got {self._contents.nbytes}")

    def __iter__(self) -> Iterator[tuple[Record, memoryview]]:
        """Each record with its content (empty but for files). The views hold as long as the payload does."""
        at = 0
        empty = self._contents[:0]
        for record in self.records:
            if type(record) is File:
                end = at + record.size
                yield record, self._contents[at:end]
                at = end
            else:
                yield record, empty


def _target(content: bytes) -> bool:
    return 0 < len(content) < 4096 and b"\0" not in content


def _device(major: int, minor: int) -> bool:
    return 0 <= major < 1 << 12 and 0 <= minor < 1 << 20


class Data:
    """A piece of a large file that has arrived."""

    __slots__ = ("content", "offset")

    def __init__(self, payload: memoryview) -> None:
        if payload.nbytes <= _OFFSET.size:
            raise ProtocolError(f"expected an offset and content in a Data frame, got {payload.nbytes} bytes")
        (self.offset,) = _OFFSET.unpack_from(payload)
        self.content = payload[_OFFSET.size :]
        if self.offset + self.content.nbytes >= 1 << 63:
            raise ProtocolError(f"expected an offset within a file, got {self.offset}")


class Told:
    """An Object or Names frame of a point that has arrived: what it says, and its bytes, which the journal keeps."""

    __slots__ = ("kind", "payload", "record")

    def __init__(self, kind: RecordKind, payload: bytes) -> None:
        self.kind = kind
        self.payload = payload
        try:
            self.record: Object | Names = read_names(payload) if kind is RecordKind.NAMES else read_object(payload)
        except (msgspec.MsgspecError, RecursionError, ValueError) as e:
            raise ProtocolError(f"a record of a point cannot be read: {e}") from e


class ContentDigest:
    """The checksum of a large file: over each piece, preceded by its offset."""

    def __init__(self) -> None:
        self._hash = xxh3_128()

    def add(self, offset: int, content: bytes | bytearray | memoryview) -> None:
        """The next piece, as it is sent or as it arrived."""
        self._hash.update(_OFFSET.pack(offset))
        self._hash.update(content)

    def add_hole(self, offset: int, length: int) -> None:
        """Zeros, in their place among the pieces."""
        self.add(offset, _OFFSET.pack(length))

    def add_copy(self, offset: int, start: int, length: int) -> None:
        """What the base has, in its place among the pieces."""
        self.add(offset, _OFFSET.pack(start) + _OFFSET.pack(length))

    def digest(self) -> bytes:
        """16 bytes."""
        return self._hash.digest()


def data_prefix(offset: int) -> bytes:
    """What precedes the content in a Data frame."""
    return _OFFSET.pack(offset)
