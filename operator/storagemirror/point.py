"""What a point is made of: the final states of what changed on the source since the point before.

A point is a crash-consistent state of the source's volume. It is told as a stream, and the target keeps it as it was
told (`storagemirror.fs.journal`), in this order:

    begin  (Object (content | zeros)* | Object Names*)*  end

- What follows an `Object` is its own: content and zeros of a file, or the names in a directory. So an object is never
  looked up by its id while a point is read.
- States, never operations: a range of bytes as it is in the end, a size, all attributes, of a directory that changed
  *all* its names. Nothing says that something was renamed. So swaps, cycles and numbers of inodes that were given again
  need no care, and all of it can be done twice.
- An `Object` may be told again within a point (found in a live pass, and once more while frozen). Ranges are applied in
  the order in which they are told; of size, attributes and names the last ones count.
- An object that no name leads to in the end is gone, whatever was told of it.

**Who is who.** An object is (inode, generation) of the source. The target keeps no map of these. Of what was there at
the point before (the *base*) the source says at which path: it knows that, and both trees are equal by path then. So
nothing has to be kept on the target beyond a point, a first point after a mirror is one like any other, and no state
can go stale. What the target knows by id is only what a point itself makes or moves.

Struct fields travel as MessagePack arrays, and lie in journals: a field is only ever added at the end, with a default.
"""

from __future__ import annotations

import stat
from enum import IntEnum
from typing import Annotated

import msgspec
from xxhash import xxh3_128

from storagemirror.entry import (
    KINDS,
    LOST_AND_FOUND,
    STATE_DIRECTORY,
    Attributes,
    Kind,
    Size,
    TimeNs,
    is_name,
    is_path,
)
from storagemirror.errors import ProtocolError

DIGEST = 16
"""Bytes of a digest."""
MIRROR = b""
"""As the digest of the point before: there is none, the base is what a mirror left."""
CONTENT_LIMIT = 1 << 20
"""Bytes of content in one record, at most."""

Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class RecordKind(IntEnum):
    """What a record of a point is. Its bytes are those of the frame in which it travels, and of the journal."""

    OBJECT = 1
    """MessagePack of an `Object`."""
    NAMES = 2
    """MessagePack of a `Names`."""
    CONTENT = 3
    """u64 offset, little-endian, then 1 byte or more."""
    ZEROS = 4
    """MessagePack of a `Zeros`."""


class ObjectId(msgspec.Struct, frozen=True, array_like=True, gc=False, order=True):
    """An object of the source: a number of an inode is given again, with another generation."""

    inode: Number
    generation: Number
    """Anything that is another one when the number is given again. (Both: of a u64 its low 63 bits.)"""

    def name(self) -> bytes:
        """A file name for it."""
        return b"%x-%x" % (self.inode, self.generation)


class Object(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file, a directory, or anything else, as it is at the point."""

    id: ObjectId
    was: bytes | None
    """A path at which it was at the base (any one of them); None: it is new. The root is `b""`, and never new."""
    attributes: Attributes
    """All of them. `mode` says what it is; an object never becomes another kind."""
    size: Size = 0
    """Of a file, in the end: content beyond is cut off, and what is not told below is zeros (new), or as it was."""
    content: bytes = b""
    """Of a symbolic link where it leads; of a device `b"major:minor"`; else empty."""
    links: Annotated[int, msgspec.Meta(ge=1, le=0xFFFF_FFFF)] = 1
    """How many names it has; of a directory 1."""
    moves: bool = False
    """Of one that is not new: `Names` give it a name that it did not have at the base (in that directory)."""
    flags: U32 | None = None
    """FS_*_FL bits; None: not told, they stay."""
    project: U32 | None = None
    """Project id; None: not told."""

    @property
    def kind(self) -> Kind:
        """ValueError when the type bits are those of no type."""
        return Kind(stat.S_IFMT(self.attributes.mode))


class Name(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One name in a directory."""

    name: bytes
    id: ObjectId
    kept: bool = False
    """In this same directory this same name led to this same object at the base: nothing is to be done. Of any other
    name the object is told in this point, as new or with `moves`."""


class Names(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """All names in the directory told before; a large one in several records, one after the other.

    Sorted by name, none twice. Not `.storagemirror` and `lost+found` in the root. What is not in it is not there any
    more. A directory whose names did not change has none of these; a new one without any is empty.
    """

    names: list[Name]
    last: bool = True


class Zeros(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A part of a file that is zeros: a hole, where the target can."""

    offset: Size
    length: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class End(msgspec.Struct, frozen=True, array_like=True):
    """What a point must come to."""

    number: Number
    records: Number
    """How many `Object`, `Names`, content and zeros."""
    digest: bytes
    """`PointDigest` over them."""
    before: bytes
    """That of the base; `MIRROR` where that is none."""
    at_ns: TimeNs
    """The moment whose state it is, on the source's clock; nanoseconds since the Unix epoch."""
    changed_ns: TimeNs = 0
    """When the source saw the last change that is in it; 0: not told."""
    entries: Size = 0
    """How many entries the source has at this point; 0: not told."""
    group: Number = 0
    """Points of several volumes that bear the same are of one moment; 0: it is of this volume alone."""
    group_ns: TimeNs = 0
    """That moment, on the clock of whoever leads the group; 0: of this volume alone."""


_object = msgspec.msgpack.Decoder(Object).decode
_names = msgspec.msgpack.Decoder(Names).decode
encode = msgspec.msgpack.Encoder().encode
"""The bytes of an `Object`, a `Names` or a `Zeros`."""


def read_object(payload: bytes) -> Object:
    """What the bytes of a record say. msgspec's errors, ValueError; ProtocolError where an object cannot be."""
    told = _object(payload)
    check_object(told)
    return told


def read_names(payload: bytes) -> Names:
    """As `read_object`; what they are depends on the directory (`check_names`)."""
    return _names(payload)


class PointDigest:
    """xxh3_128 over a point: the digest of its base, then of each record its kind (u8), length (u32, little-endian) and
    bytes."""

    def __init__(self, before: bytes) -> None:
        self._hash = xxh3_128(before)
        self.records = 0

    def add(self, kind: RecordKind, *parts: bytes | memoryview) -> None:
        """The next record, whole, in one or more parts."""
        length = sum(memoryview(part).nbytes for part in parts)
        self._hash.update(bytes((kind,)) + length.to_bytes(4, "little"))
        for part in parts:
            self._hash.update(part)
        self.records += 1

    def digest(self) -> bytes:
        """16 bytes."""
        return self._hash.digest()


def check_object(told: Object) -> None:
    """ProtocolError when it cannot be."""
    mode = stat.S_IFMT(told.attributes.mode)
    if mode not in KINDS:
        raise ProtocolError(f"expected the mode of an entry in a point, got {mode:o}")
    if told.was is not None and not is_path(told.was):
        raise ProtocolError(f"not a path within the volume: {told.was[:300]!r}")
    if told.was == b"" and (mode != Kind.DIRECTORY or told.moves):
        raise ProtocolError("expected the root of a point to be a directory that stays where it is")
    if mode != Kind.FILE and told.size:
        raise ProtocolError("expected a size in a point of a file alone")
    if mode == Kind.SYMLINK:
        if not 0 < len(told.content) < 4096 or b"\0" in told.content:
            raise ProtocolError("expected a symbolic link of 1 to 4095 bytes, without NUL")
    elif mode in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE):
        device(told.content)
    elif told.content:
        raise ProtocolError("expected no content of its own in a point's object of this kind")


def device(content: bytes) -> tuple[int, int]:
    """Major and minor number of a device; ProtocolError."""
    major, _, minor = content.partition(b":")
    if not (major.isdigit() and minor.isdigit() and len(content) < 16):
        raise ProtocolError("expected the numbers of a device, as major:minor")
    numbers = int(major), int(minor)
    if numbers[0] >= 1 << 12 or numbers[1] >= 1 << 20:
        raise ProtocolError("expected the numbers of a device, as major:minor")
    return numbers


def check_names(told: Names, after: bytes, *, root: bool) -> bytes:
    """The last name, for the next record of the same directory; `after` is that of the one before (`b""` at first).
    ProtocolError when they cannot be."""
    for name in told.names:
        if not is_name(name.name) or name.name <= after:
            raise ProtocolError(f"expected names of a directory in their order, got {name.name[:300]!r}")
        if root and name.name in (STATE_DIRECTORY, LOST_AND_FOUND):
            raise ProtocolError("a point names what is the target's own")
        after = name.name
    return after
