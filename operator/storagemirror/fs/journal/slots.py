"""At which point a volume is: `journal/slots`.

Two slots of fixed size, written in turn, each with a checksum, and synced.

A slot that cannot be read (its write was cut) counts for nothing: the other one is what was true before. That is safe,
since what a slot tells has happened before it is written, and what may only happen after it has not.
"""

from __future__ import annotations

import os
import struct

import msgspec
from xxhash import xxh3_128_digest

from storagemirror.entry import Size, TimeNs
from storagemirror.fs import marker
from storagemirror.point import MIRROR, End, Number

NAME = b"slots"
_SLOT = 4096
"""Bytes: no block of a disk holds both."""
_LENGTH = struct.Struct("<I")
_DIGEST = 16


class At(msgspec.Struct, frozen=True, array_like=True):
    """Where the volume is."""

    sequence: Number = 0
    number: Number = 0
    """Of the last point that was applied; 0: none yet."""
    digest: bytes = MIRROR
    """Of that point."""
    at_ns: TimeNs = 0
    """Whose state it is: on the source's clock, nanoseconds since the Unix epoch."""
    changed_ns: TimeNs = 0
    entries: Size = 0
    spoiled: str = ""
    """Why the volume is at no point, although one was applied: a CamelCase word; empty: it is."""
    message: str = ""
    """The same as a sentence."""
    spoiled_in: Number = 0
    """The point that was being applied then; 0: none."""
    changed_since_ns: TimeNs = 0
    """Where somebody else has changed it: no file that they changed has an older ctime; 0: not told."""
    group: Number = 0
    """Of the last point: other volumes whose point bears the same are of that moment too; 0: of this volume alone."""
    group_ns: TimeNs = 0
    """That moment, on the clock of whoever led the group."""

    def after(self, end: End) -> At:
        """Once that point was applied. What had spoiled it is over where its base is a mirror that came later."""
        over = end.before == MIRROR and end.number > self.spoiled_in
        return msgspec.structs.replace(
            self if not over else At(),
            number=end.number,
            digest=end.digest,
            at_ns=end.at_ns,
            changed_ns=end.changed_ns,
            entries=end.entries,
            group=end.group,
            group_ns=end.group_ns,
        )


def read(directory: int) -> At | None:
    """The newer slot that is whole; None when there is none. OSError."""
    data = marker.read(directory, NAME) or b""
    slots = [_read(data[at : at + _SLOT]) for at in (0, _SLOT)]
    return max((slot for slot in slots if slot is not None), key=lambda slot: slot.sequence, default=None)


def write(directory: int, at: At) -> None:
    """Into the slot that is not the newest; durable when it returns. OSError."""
    encoded = msgspec.msgpack.encode(at)
    body = _LENGTH.pack(len(encoded)) + encoded
    slot = (xxh3_128_digest(body) + body).ljust(_SLOT, b"\0")
    if len(slot) > _SLOT:
        raise AssertionError("what a volume says of its point does not fit its slot")
    fd = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        new = os.fstat(fd).st_size < 2 * _SLOT
        if new:  # room for both is taken at once
            os.pwrite(fd, bytes(_SLOT), _SLOT * ((at.sequence + 1) % 2))
        os.pwrite(fd, slot, _SLOT * (at.sequence % 2))
        os.fsync(fd)
        if new:
            os.fsync(directory)
    finally:
        os.close(fd)


def _read(data: bytes) -> At | None:
    if len(data) < _SLOT:
        return None
    (length,) = _LENGTH.unpack_from(data, _DIGEST)
    body = data[_DIGEST : _DIGEST + _LENGTH.size + length]
    if length > _SLOT or xxh3_128_digest(body) != data[:_DIGEST]:
        return None
    try:
        return msgspec.msgpack.decode(body[_LENGTH.size :], type=At)
    except msgspec.MsgspecError:
        return None
