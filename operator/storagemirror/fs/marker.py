"""What a target volume says about itself, in `.storagemirror/`.

`pair.json`    whose copy this is. Written rarely, to a temporary name, fsynced, renamed, and the directory fsynced:
               after a crash it is the old one or the new one, never a part.
`hold.msgpack` what the last hold was about, so that a confirmation lets through that and nothing else. As above.
`manifest`     what the copy held when it was made live: `storagemirror.fs.manifest`.
`diverged/`    what was kept aside of a volume that was the live side before: `storagemirror.fs.aside`.
`synced`       two slots of fixed size, written in turn, each with a checksum. Not fsynced: it is written after the
               syncfs it tells of, and when it is lost an older one is believed, which is only more careful.
"""

from __future__ import annotations

import contextlib
import os
import struct

import msgspec
from xxhash import xxh3_64_intdigest

from storagemirror.entry import STATE_DIRECTORY, Identity
from storagemirror.errors import VolumeError

PAIR = b"pair.json"
HOLD = b"hold.msgpack"
SYNCED = b"synced"
_LARGEST = 64 << 20


class Marker(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Whose copy a volume is."""

    format: int = 1
    pair_uid: str
    volume: str
    epoch: int
    source: Identity
    entries: int | None = None
    """Of the source, when the last full mirror ended; None before the first."""
    boot: str = ""
    mount: int | None = None
    """The lifetime of the mount under which `open` was set."""
    open: bool = True
    """False: closed in good order, all synced."""
    promoted: int | None = None
    """The epoch at which this copy became the live side; None: it is a copy. Whoever would write it as a copy needs a
    later one. With `entries` None it was made live before it was ever whole: what it lacks is on the source alone."""


class HoldRecord(msgspec.Struct, frozen=True, array_like=True):
    """A hold that a person may confirm."""

    token: str
    reason: str
    entries: int
    """That would have been deleted."""
    paths: list[int]
    """xxh3_64 of each path that was to go (the topmost ones)."""
    identity: Identity | None = None
    """Of the source that was refused."""


class Synced(msgspec.Struct, frozen=True, array_like=True):
    """The last syncfs that succeeded. Times in nanoseconds since the Unix epoch."""

    sequence: int
    at_ns: int
    """Just before it, on the clock of the target's file system."""
    through_ns: int
    """On the source's clock, as its mark said."""
    deleted: int = 0
    """Entries deleted since the last full mirror."""
    base: int = 0
    """Entries that deletions are counted against: those of the last full mirror, and what has settled since."""


_SLOT = struct.Struct("<QI")
_SLOT_SIZE = 512


def read_marker(directory: int) -> Marker | None:
    """None when there is none; `VolumeError` when it cannot be read: then this copy is nobody's to change."""
    data = read(directory, PAIR)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Marker)
    except msgspec.MsgspecError as e:
        raise VolumeError(
            f"expected a marker of ours in .storagemirror/pair.json: {e}",
            reason="TargetUnusable",
            hint="If nothing on this volume is needed, empty it.",
        ) from e


def write_marker(directory: int, marker: Marker) -> None:
    """Durable when it returns."""
    replace(directory, PAIR, msgspec.json.format(msgspec.json.encode(marker), indent=1) + b"\n")


def marker_beneath(root: int) -> Marker | None:
    """That of the volume whose root directory is `root`; None when it has none that can be read."""
    try:
        fd = os.open(STATE_DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    except OSError:
        return None
    try:
        return read_marker(fd)
    except (OSError, VolumeError):
        return None
    finally:
        os.close(fd)


def read_hold(directory: int) -> HoldRecord | None:
    """None when there is none that can be read."""
    data = read(directory, HOLD)
    if data is None:
        return None
    try:
        return msgspec.msgpack.decode(data, type=HoldRecord)
    except msgspec.MsgspecError:
        return None


def write_hold(directory: int, hold: HoldRecord | None) -> None:
    """Durable when it returns; None removes it."""
    if hold is not None:
        replace(directory, HOLD, msgspec.msgpack.encode(hold))
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(HOLD, dir_fd=directory)
        os.fsync(directory)


def read_synced(directory: int) -> Synced | None:
    """The newer of the two slots that is whole."""
    data = read(directory, SYNCED) or b""
    slots = [_slot(data[at : at + _SLOT_SIZE]) for at in (0, _SLOT_SIZE)]
    return max((slot for slot in slots if slot is not None), key=lambda slot: slot.sequence, default=None)


def write_synced(directory: int, synced: Synced) -> None:
    """Into the slot that is not the newest."""
    encoded = msgspec.msgpack.encode(synced)
    slot = _SLOT.pack(xxh3_64_intdigest(encoded), len(encoded)) + encoded
    fd = os.open(SYNCED, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        os.pwrite(fd, slot.ljust(_SLOT_SIZE, b"\0"), _SLOT_SIZE * (synced.sequence % 2))
    finally:
        os.close(fd)


def _slot(data: bytes) -> Synced | None:
    if len(data) < _SLOT_SIZE:
        return None
    checksum, length = _SLOT.unpack_from(data)
    encoded = data[_SLOT.size : _SLOT.size + min(length, _SLOT_SIZE)]
    if xxh3_64_intdigest(encoded) != checksum:
        return None
    try:
        return msgspec.msgpack.decode(encoded, type=Synced)
    except msgspec.MsgspecError:
        return None


def read(directory: int, name: bytes) -> bytes | None:
    """A file of ours; None when there is none."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        return file.read(_LARGEST)


def replace(directory: int, name: bytes, data: bytes) -> None:
    """A file of ours, durable when it returns: after a crash it is the old one or the new one."""
    temporary = name + b".new"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
    )
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)
