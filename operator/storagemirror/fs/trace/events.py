"""Which of the kernel's events name a change, on which file system, and how each is read.

`Dirty` pages are named after the data is in them (through a memory map: before, but then the page is write-protected
when it has been written back, and named again). Everything else is named when it begins.

Direct I/O: XFS has an event for writes. Elsewhere `iomap_dio_rw_begin` (Linux 6.5) names reads as well, and nothing in
it tells which; `iomap_iter` (5.15) tells, with the place but without a length. Together they name the writes alone.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from storagemirror.errors import BadInput
from storagemirror.fs.trace.device import Device
from storagemirror.fs.trace.layout import Format
from storagemirror.fs.trace.unavailable import TraceUnavailable


class Meaning(Enum):
    """What a record says, and which fields say it."""

    DIRTY = auto()
    """ino, index: a folio was made dirty."""
    DIRECT = auto()
    """ino, start, length: these bytes are being written, punched or zeroed."""
    DIRECT_ANY = auto()
    """ino, start, length: direct I/O begins there, a write or a read."""
    DIRECT_WRITE = auto()
    """ino, start: direct I/O there is a write."""
    TAIL = auto()
    """ino, start: everything from there on is being cut off."""
    WHOLE = auto()
    """inos: compare these files whole."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event to enable. `name` is `system/event`; `filter` is put behind the one by device; `flags` are bits that it
    must know by name, all to be set in `flag_field`."""

    name: str
    meaning: Meaning
    fields: tuple[str, ...]
    filter: str = ""
    flags: tuple[str, ...] = ()
    by_bdi: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """An event that this kernel has: what is written into its `filter`, how its records are read."""

    name: str
    number: int
    meaning: Meaning
    filter: str
    unpack: struct.Struct


_DIRTY = (
    Wanted("writeback/writeback_dirty_folio", Meaning.DIRTY, ("ino", "index"), by_bdi=True),
    Wanted("writeback/writeback_dirty_page", Meaning.DIRTY, ("ino", "index"), by_bdi=True),  # before Linux 5.18
)
_XFS_DIRECT = Wanted("xfs/xfs_file_direct_write", Meaning.DIRECT, ("ino", "offset", "count"))
_ANY_DIRECT = Wanted("iomap/iomap_dio_rw_begin", Meaning.DIRECT_ANY, ("ino", "pos", "count"))
_WRITES = Wanted("iomap/iomap_iter", Meaning.DIRECT_WRITE, ("ino", "pos"), flags=("WRITE", "DIRECT"))
_WRITES_WHOLE = Wanted("iomap/iomap_iter", Meaning.WHOLE, ("ino",), flags=("WRITE", "DIRECT"))

_WHOLE = {
    "ext4": ("ext4_collapse_range", "ext4_insert_range", "ext4_truncate_enter"),
    "xfs": (
        "xfs_free_file_space",
        "xfs_zero_file_space",
        "xfs_collapse_file_space",
        "xfs_insert_file_space",
    ),
}
_EXT4_RANGES = (
    Wanted("ext4/ext4_punch_hole", Meaning.DIRECT, ("ino", "offset", "len")),
    Wanted("ext4/ext4_zero_range", Meaning.DIRECT, ("ino", "offset", "len")),
    # Whatever else fallocate(2) can do, now or later. Modes 0 and 1 give room, and change no content.
    Wanted("ext4/ext4_fallocate_enter", Meaning.DIRECT, ("ino", "offset", "len"), filter="mode & 65534"),
)
_XFS_TRUNCATE = Wanted("xfs/xfs_itruncate_extents_start", Meaning.TAIL, ("ino", "new_size"))
"""Not xfs_setattr, which names a file that only grows, or changes its mode, as well."""
_XFS_REFLINK = Wanted("xfs/xfs_reflink_remap_range", Meaning.WHOLE, ("dest_ino",))
_XFS_EXCHANGES = (
    Wanted("xfs/xfs_swap_extent_before", Meaning.WHOLE, ("ino",)),
    Wanted("xfs/xfs_exchrange_prep", Meaning.WHOLE, ("ip1_ino", "ip2_ino")),
)
"""Contents of two files swapped. What the kernel has no event for it cannot do."""

Lookup = Callable[[str], Format | None]
"""The format of the event `system/event`; None where the kernel has none."""


def names_structure(fs_type: str) -> bool:
    """Whether events name what is done to a file's blocks (holes, clones, truncation). On btrfs none do."""
    return fs_type in _WHOLE


def choose(device: Device, lookup: Lookup) -> list[Chosen]:
    """The events that together name every change of content that events can name on `device`.

    `TraceUnavailable` where the kernel lacks one that is needed.
    """
    chosen = [_first(_DIRTY, device, lookup)]
    if device.fs_type == "xfs":
        chosen += [_first((wanted,), device, lookup) for wanted in (_XFS_DIRECT, _XFS_TRUNCATE)]
    else:
        chosen += _direct(device, lookup)
    for event in _WHOLE.get(device.fs_type, ()):
        chosen.append(_first((Wanted(f"{device.fs_type}/{event}", Meaning.WHOLE, ("ino",)),), device, lookup))
    if device.fs_type == "ext4":
        chosen += [_first((wanted,), device, lookup) for wanted in _EXT4_RANGES]
    if device.fs_type == "xfs":
        found = [_read(wanted, device, lookup) for wanted in (_XFS_REFLINK, *_XFS_EXCHANGES)]
        chosen += [event for event in found if event is not None]
    return chosen


def _direct(device: Device, lookup: Lookup) -> list[Chosen]:
    begins = _read(_ANY_DIRECT, device, lookup)
    if begins is None:
        return [_first((_WRITES_WHOLE,), device, lookup)]
    writes = _read(_WRITES, device, lookup)
    return [begins, writes] if writes is not None else [_read_as_writes(begins)]


def _read_as_writes(begins: Chosen) -> Chosen:
    """Nothing tells reads apart: take them all for writes."""
    return Chosen(begins.name, begins.number, Meaning.DIRECT, begins.filter, begins.unpack)


def _first(names: tuple[Wanted, ...], device: Device, lookup: Lookup) -> Chosen:
    for wanted in names:
        found = _read(wanted, device, lookup)
        if found is not None:
            return found
    raise TraceUnavailable(
        f"this kernel has no event {' or '.join(wanted.name for wanted in names)}, which is needed on {device.fs_type}",
        reason="EventsMissing",
    )


def _read(wanted: Wanted, device: Device, lookup: Lookup) -> Chosen | None:
    """None where the kernel does not have it, or not with what we need of it."""
    form = lookup(wanted.name)
    if form is None:
        return None
    conditions = [f'name == "{device.bdi}"' if wanted.by_bdi else f"dev == {device.number}"]
    if wanted.by_bdi and device.fs_type == "btrfs":  # the trees of btrfs are pages of an inode, too: number 1
        conditions.append("ino > 255")
    if wanted.filter:
        conditions.append(wanted.filter)
    for flag in wanted.flags:
        if flag not in form.bits:
            return None
        conditions.append(f"flags & {form.bits[flag]}")
    try:
        unpack = form.unpacker(*wanted.fields)
    except BadInput:
        return None
    return Chosen(wanted.name, form.number, wanted.meaning, " && ".join(conditions), unpack)
