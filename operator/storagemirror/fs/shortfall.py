"""What a copy lacks, and how far its inode flags are known: `.storagemirror/shortfall`.

What the target's file system refused (an extended attribute that is too large, a name beyond the number of hard links
that a file may have, an inode flag) would differ at each comparison, and be sent again each time. So it is written down
what was wanted and what came of it: as long as the target holds the latter, it counts as the former, and is told again
at each full mirror. When the source wants something else, that is tried.

Written at the end of a full mirror; lost, it costs one attempt more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from storagemirror.entry import Identity, NotKeptKind
from storagemirror.fs import marker as state

SHORTFALL = b"shortfall"
REMEMBERED = 100_000
"""Entries; beyond, they are sent again each time."""


class Lack(msgspec.Struct, frozen=True, array_like=True):
    """One thing that could not be kept."""

    kinds: tuple[NotKeptKind, ...]
    wanted: bytes
    """Of extended attributes the digest; of a hard link the path of its leader; of flags nothing."""
    found: bytes = b""
    """Of extended attributes the digest of those that the entry has instead."""


class Record(msgspec.Struct, frozen=True, array_like=True):
    """As it is written."""

    pair_uid: str
    source: Identity
    flags_through_ns: int
    """Inode flags of files that the source did not change since (by its clock) are here."""
    flagged: bool
    """Whether anything here may have flags."""
    attributes: dict[bytes, Lack] = {}
    links: dict[bytes, Lack] = {}
    flags: dict[bytes, Lack] = {}


@dataclass(slots=True)
class Shortfall:
    """Of one target volume, by path."""

    attributes: dict[bytes, Lack] = field(default_factory=dict)
    links: dict[bytes, Lack] = field(default_factory=dict)
    flags: dict[bytes, Lack] = field(default_factory=dict)
    flags_through_ns: int = 0
    flagged: bool = False
    _written: bytes = b""

    def read(self, directory: int, pair_uid: str, source: Identity) -> bool:
        """What an earlier session wrote down of the same source; False when that is nothing."""
        data = state.read(directory, SHORTFALL)
        try:
            record = msgspec.msgpack.decode(data or b"", type=Record)
        except msgspec.MsgspecError:
            return False  # none, or of another release: everything is looked at once
        if record.pair_uid != pair_uid or not record.source.same_as(source):
            return False
        self.attributes, self.links, self.flags = dict(record.attributes), dict(record.links), dict(record.flags)
        self.flags_through_ns, self.flagged = record.flags_through_ns, record.flagged
        self._written = data or b""
        return True

    def write(self, directory: int, pair_uid: str, source: Identity) -> None:
        """Durable when it returns; nothing when nothing changed. OSError."""
        data = msgspec.msgpack.encode(
            Record(
                pair_uid,
                source,
                self.flags_through_ns,
                self.flagged,
                self.attributes,
                self.links,
                self.flags,
            )
        )
        if data != self._written:
            state.replace(directory, SHORTFALL, data)
            self._written = data

    def note(self, where: dict[bytes, Lack], path: bytes, lack: Lack | None) -> None:
        """`path` lacks this now; None: nothing (any more). `where` is one of the three."""
        if lack is None:
            where.pop(path, None)
        elif path in where or len(where) < REMEMBERED:
            where[path] = lack
