"""Records of points in files: `journal/<point>-<segment>`, both in hexadecimal.

A record, little-endian:

    4 bytes   magic
    u64       epoch
    u64       point
    u64       number of the record within its point, from 0
    u32       length of the payload
    u8        kind
    16 bytes  xxh3_128 of all before and of the payload
    payload

The first record of a point holds the digest of the point before. The last is its commit: how many records came before
it, the xxh3_128 over their checksums, and what the source said of the point's end, with the digest of the point before.

A reader believes nothing: a record that is torn, changed, of another point or epoch, twice or missing ends the point
there, and so does a segment that is missing. Then there is no commit, or it does not say what was read.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from xxhash import xxh3_128

from storagemirror.entry import Size
from storagemirror.point import End, Number, PointDigest, RecordKind

MAGIC = b"SMJ1"
BEGIN = 65
"""Kind of the first record: its payload is the digest of the base."""
_FIELDS = struct.Struct("<4sQQQIB")
_CHECKSUM = 16
HEADER = _FIELDS.size + _CHECKSUM
PLAN = 64
"""Kind of a record of ours (`storagemirror.fs.journal.plan`): of the point, but not in the source's digest."""
COMMIT = 255
_TOLD = frozenset(int(kind) for kind in RecordKind)
PAYLOAD_LIMIT = 4 << 20
SEGMENT = 64 << 20
"""A segment is closed when it holds so much."""
_BUFFER = 1 << 20
_NAME = re.compile(rb"([0-9a-f]{16})-([0-9a-f]{8})")
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Commit(msgspec.Struct, frozen=True, array_like=True):
    """The payload of the last record."""

    records: Number
    """Before this one, ours among them."""
    digest: bytes
    """xxh3_128 over their checksums."""
    end: End
    plan_at: Number = 0
    """Position of the first record of the plan."""
    reserved: Size = 0
    """Bytes that were set aside for applying it."""


class Record(NamedTuple):
    """One that was read, and is what its checksum says."""

    kind: int
    payload: bytes
    position: int
    """Where it begins: for `Reader.at`."""
    checksum: bytes


def segment_name(point: int, segment: int) -> bytes:
    """Of a file."""
    return b"%016x-%08x" % (point, segment)


def segments(directory: int) -> dict[int, list[int]]:
    """By point the numbers of its segments, in order."""
    found: dict[int, list[int]] = {}
    for name in os.listdir(b"/proc/self/fd/%d" % directory):
        match = _NAME.fullmatch(name)
        if match is not None:
            found.setdefault(int(match[1], 16), []).append(int(match[2], 16))
    return {point: sorted(found[point]) for point in sorted(found)}


def remove(directory: int, point: int) -> None:
    """All segments of a point, the last first: what is left of it has no commit. OSError."""
    for segment in reversed(segments(directory).get(point, [])):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(segment_name(point, segment), dir_fd=directory)


class Writer:
    """Writes the records of one point. Nothing is durable before `sync`."""

    def __init__(self, directory: int, epoch: int, point: int, before: bytes, *, segment_bytes: int = SEGMENT) -> None:
        """OSError, here and in all below."""
        self._directory = directory
        self._epoch = epoch
        self.point = point
        self._segment_bytes = segment_bytes
        self._segment = -1
        self._fd = -1
        self._size = 0
        self._buffer = bytearray()
        self._digest = xxh3_128()
        self.records = 0
        self._next()
        self.add(BEGIN, before)

    def _next(self) -> None:
        if self._fd >= 0:
            self._flush()
            os.fdatasync(self._fd)
            os.close(self._fd)
            self._fd = -1
        self._segment += 1
        self._size = 0
        self._fd = os.open(segment_name(self.point, self._segment), _CREATE, 0o600, dir_fd=self._directory)

    def add(self, kind: int, *parts: bytes | memoryview) -> int:
        """Append a record; its position."""
        if self._size >= self._segment_bytes:
            self._next()
        length = sum(memoryview(part).nbytes for part in parts)
        if length > PAYLOAD_LIMIT:
            raise AssertionError(f"a record holds at most {PAYLOAD_LIMIT} bytes, not {length}")
        fields = _FIELDS.pack(MAGIC, self._epoch, self.point, self.records, length, kind)
        state = xxh3_128(fields)
        for part in parts:
            state.update(part)
        checksum = state.digest()
        self._digest.update(checksum)
        position = self._segment << 32 | self._size
        self._buffer += fields + checksum
        for part in parts:
            self._buffer += part
        self._size += HEADER + length
        self.records += 1
        if len(self._buffer) >= _BUFFER:
            self._flush()
        return position

    def _flush(self) -> None:
        with memoryview(self._buffer) as whole:
            at = 0
            while at < whole.nbytes:
                at += os.write(self._fd, whole[at:])
        self._buffer.clear()

    def sync(self) -> None:
        """All that was added is on the disk, and so are the segments' names."""
        self._flush()
        os.fdatasync(self._fd)
        os.fsync(self._directory)

    def commit(self, end: End, plan_at: int, reserved: int) -> Commit:
        """After `sync`: the record that makes it a point; on the disk when this returns."""
        commit = Commit(self.records, self._digest.digest(), end, plan_at, reserved)
        self.add(COMMIT, msgspec.msgpack.encode(commit))
        self._flush()
        os.fdatasync(self._fd)
        os.fsync(self._directory)
        return commit

    def close(self) -> None:
        """Let go; what was not flushed is lost."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Reader:
    """Reads the records of one point, from the first on."""

    def __init__(self, directory: int, point: int) -> None:
        self._directory = directory
        self.point = point
        self.epoch = -1
        """Of its first record."""
        self._fd = -1
        self._segment = -1
        self._buffer = b""
        self._begin = 0
        """Offset of the buffer in the segment."""

    def records(self) -> Iterator[Record]:
        """Each in its order, up to the commit, which is the last; ends where the next one cannot be believed. OSError
        of a disk that fails."""
        number, segment, offset = 0, 0, 0
        while True:
            record = self._read(segment, offset, number)
            if record is None:
                segment, offset = segment + 1, 0
                record = self._read(segment, offset, number)
                if record is None:
                    return
            yield record
            if record.kind == COMMIT:
                return
            number += 1
            offset += HEADER + len(record.payload)

    def at(self, position: int) -> Record | None:
        """The record at a position; None when it cannot be believed."""
        return self._read(position >> 32, position & 0xFFFF_FFFF, None)

    def after(self, record: Record) -> int:
        """The position of the record that comes after this one."""
        segment, offset = record.position >> 32, (record.position & 0xFFFF_FFFF) + HEADER + len(record.payload)
        return segment << 32 | offset if self._read(segment, offset, None) is not None else (segment + 1) << 32

    def _read(self, segment: int, offset: int, number: int | None) -> Record | None:
        if not self._turn_to(segment):
            return None
        head = self._bytes(offset, HEADER)
        if len(head) < HEADER:
            return None
        magic, epoch, point, found, length, kind = _FIELDS.unpack_from(head)
        if magic != MAGIC or point != self.point or length > PAYLOAD_LIMIT or number not in (None, found):
            return None
        if self.epoch not in (-1, epoch):
            return None
        payload = self._bytes(offset + HEADER, length)
        state = xxh3_128(head[: _FIELDS.size])
        state.update(payload)
        if len(payload) < length or state.digest() != head[_FIELDS.size :]:
            return None
        self.epoch = epoch
        return Record(kind, payload, segment << 32 | offset, head[_FIELDS.size :])

    def _turn_to(self, segment: int) -> bool:
        if segment == self._segment and self._fd >= 0:
            return True
        self.close()
        try:
            self._fd = os.open(segment_name(self.point, segment), _READ, dir_fd=self._directory)
        except FileNotFoundError:
            return False
        self._segment, self._buffer, self._begin = segment, b"", 0
        return True

    def _bytes(self, offset: int, length: int) -> bytes:
        at = offset - self._begin
        if not 0 <= at <= at + length <= len(self._buffer):
            self._buffer = os.pread(self._fd, max(length, _BUFFER), offset)
            self._begin, at = offset, 0
        return self._buffer[at : at + length]

    def close(self) -> None:
        """Let go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def committed(directory: int, point: int) -> Commit | None:
    """What the commit of a point says, where all of the point can be read and is that; None: it is not a point (yet, or
    any more). Reads all of it. OSError."""
    reader = Reader(directory, point)
    over_all = xxh3_128()
    told: PointDigest | None = None
    count = 0
    try:
        for record in reader.records():
            if record.kind == COMMIT:
                commit = read_commit(record.payload)
                same = commit is not None and (commit.records, commit.digest) == (count, over_all.digest())
                if commit is None or told is None or not same:
                    return None
                return commit if (commit.end.number, commit.end.digest) == (point, told.digest()) else None
            count += 1
            over_all.update(record.checksum)
            if record.kind == BEGIN:
                told = PointDigest(record.payload)
            elif told is not None and record.kind in _TOLD:
                told.add(RecordKind(record.kind), record.payload)
    finally:
        reader.close()
    return None


def read_commit(payload: bytes) -> Commit | None:
    """None when it is none."""
    try:
        return msgspec.msgpack.decode(payload, type=Commit)
    except msgspec.MsgspecError:
        return None
