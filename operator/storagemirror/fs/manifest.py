"""What a copy held when it was made live: `.storagemirror/manifest`.

    u32        length of the header, little-endian
    header     MessagePack: format, pair UID, volume, epoch, the view it was taken with
    u32, part  as often as needed: one directory (a large one in several parts), in the order of the walk
    u32        0: that was all
    16 bytes   xxh3_128 of all that comes before

It is written to a temporary name, fsynced, renamed, and the directory fsynced: it is there whole, or not at all. The
checksum is looked at before anything in it is believed. The epoch in its header says of which promotion it is; one of
another promotion says nothing. Neither side of it ever holds more than one directory in memory.

Two things are not in it. The time of a directory changes with every entry, so it says nothing. And which names are
those of one file: whoever unlinks one and makes a copy in its place has written nothing that is not there already.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import msgspec
from xxhash import xxh3_128

from storagemirror.entry import Attributes, Entry, View, join
from storagemirror.errors import BadInput
from storagemirror.fs.scan import Leaders, Scanner, digest_of, ignore
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree

MANIFEST = b"manifest"
_FORMAT = 1
_LENGTH = struct.Struct("<I")
_DIGEST = 16
_LARGEST = 4 << 20
_BUFFER = 1 << 20
_ENTRIES = 5_000
_BYTES = 1 << 20

NO_ATTRIBUTES = bytes(_DIGEST)
"""Of a directory that has gone."""

_encode = msgspec.msgpack.Encoder().encode


class Header(msgspec.Struct, frozen=True, array_like=True):
    """Of which promotion it is."""

    format: int
    pair_uid: str
    volume: str
    epoch: int
    view: View


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One directory, or a piece of a large one."""

    path: bytes
    attributes: bytes
    """xxh3_128 of the directory's own attributes but its time."""
    entries: list[Entry]
    """Sorted by name; no entry has a leader."""
    last: bool = True


class _Nobody(Leaders):
    """Every name is that of a file of its own."""

    def leader(self, inode: int, path: bytes) -> bytes:
        return b""


def scanner(
    tree: Tree, view: View, distrust_after_ns: int | None = None, selection: Selection | None = None
) -> Scanner:
    """Looks at directories as a manifest tells of them."""
    return Scanner(tree, view, ignore, _Nobody(), distrust_after_ns, selection=selection)


def without_time(attributes: Attributes, view: View) -> bytes:
    """xxh3_128 of a directory's own attributes but its time."""
    return digest_of(msgspec.structs.replace(attributes, mtime_ns=0), view)


def parts_of(scan: Scanner, *, changing: bool = False) -> Iterator[Part]:
    """All that the volume holds. OSError when something cannot be read; of a volume that is `changing` meanwhile a
    directory that has gone is told empty."""
    stack = [b""]
    while stack:
        path = stack.pop()
        try:
            found = scan.scan(path)
        except (FileNotFoundError, NotADirectoryError):
            if not changing:
                raise
            yield Part(path, NO_ATTRIBUTES, [])
            continue
        except BadInput:
            continue  # deeper than any path that is carried
        stack.extend(join(path, name) for name in reversed(found.subdirectories))
        yield from cut(path, without_time(found.own, scan.view), found.entries)


def cut(path: bytes, own: bytes, entries: list[Entry]) -> Iterator[Part]:
    """One directory, in as many parts as it needs."""
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        weight = len(entry.name) + len(entry.content) + 80
        if batch and (len(batch) >= _ENTRIES or size + weight > _BYTES):
            yield Part(path, own, batch, last=False)
            batch, size = [], 0
        batch.append(entry)
        size += weight
    yield Part(path, own, batch)


@dataclass(slots=True)
class Digest:
    """Of the entries of one directory: xxh3_128 over the MessagePack of each, in their order."""

    entries: int = 0
    _hash: xxh3_128 = field(default_factory=xxh3_128)

    def add(self, entries: list[Entry]) -> None:
        """The next ones."""
        self.entries += len(entries)
        for entry in entries:
            self._hash.update(_encode(entry))

    def digest(self) -> bytes:
        """16 bytes."""
        return self._hash.digest()


def write(directory: int, header: Header, parts: Iterator[Part]) -> None:
    """In the directory `directory`, durable when it returns. OSError: nothing is left of it then."""
    temporary = MANIFEST + b".new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(fd, "wb", _BUFFER) as file:
            checksum = xxh3_128()
            for record in _records(header, parts):
                checksum.update(record)
                file.write(record)
            file.write(checksum.digest())
            file.flush()
            os.fsync(fd)
        os.rename(temporary, MANIFEST, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory)
        raise
    os.fsync(directory)


def _records(header: Header, parts: Iterator[Part]) -> Iterator[bytes]:
    for record in itertools.chain((header,), parts):
        encoded = _encode(record)
        yield _LENGTH.pack(len(encoded)) + encoded
    yield _LENGTH.pack(0)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One that is whole, open for reading."""

    header: Header
    _file: BinaryIO

    def parts(self) -> Iterator[Part]:
        """From the first to the last, once. OSError."""
        decode = msgspec.msgpack.Decoder(Part).decode
        while record := _read_record(self._file):
            yield decode(record)

    def close(self) -> None:
        """Let go of it."""
        self._file.close()


def new_header(pair_uid: str, volume: str, epoch: int, view: View) -> Header:
    """Of a manifest that is to be written."""
    return Header(_FORMAT, pair_uid, volume, epoch, view)


def find(directory: int, pair_uid: str, volume: str, epoch: int) -> Manifest | None:
    """The manifest of this promotion in `directory`; None when there is none, or it is damaged, or of another.

    Reads all of it once, for its checksum. OSError."""
    try:
        fd = os.open(MANIFEST, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    file = os.fdopen(fd, "rb", _BUFFER)
    try:
        header = _whole(file)
    except BaseException:
        file.close()
        raise
    if header is None or (header.pair_uid, header.volume, header.epoch) != (pair_uid, volume, epoch):
        file.close()
        return None
    return Manifest(header, file)


def _whole(file: BinaryIO) -> Header | None:
    """The header, when the checksum is right; the file is at the first part then."""
    left = os.fstat(file.fileno()).st_size - _DIGEST
    checksum = xxh3_128()
    while left > 0:
        piece = file.read(min(left, _BUFFER))
        if not piece:
            return None
        checksum.update(piece)
        left -= len(piece)
    if left < 0 or file.read(_DIGEST) != checksum.digest():
        return None
    file.seek(0)
    try:
        header = msgspec.msgpack.decode(_read_record(file), type=Header)
    except msgspec.MsgspecError:
        return None
    return header if header.format == _FORMAT else None


def _read_record(file: BinaryIO) -> bytes:
    """The next one; empty at the end."""
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return b""
    (length,) = _LENGTH.unpack(head)
    return file.read(length) if length <= _LARGEST else b""
