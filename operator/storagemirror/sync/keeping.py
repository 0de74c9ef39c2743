"""Before a volume that was the live side is written: what it holds that the other side does not know is kept aside.

The source tells what the copy held when it was promoted: by then it had all that the old side had done up to the cut,
as far as it had come. Whatever is otherwise here now was written after that (or never came), and nobody else has it. It
is moved to `.storagemirror/diverged/<epoch>/` (`storagemirror.fs.aside`):

- an entry that the manifest does not have, a directory with all that is in it;
- one of another type, size, time, mode, owner, link target, device or extended attributes, as far as the copy could
  hold these (the manifest's view);
- of a directory that both have, and whose mode, owner or extended attributes are others, an empty one with these.
  Its time says nothing: it changes with every entry.

A content that was changed under the same size and time is not seen, here as in any comparison: a proof by checksum
finds it afterwards, and what the live side has counts.

What the manifest has and this volume does not was deleted here; it is only counted. A volume that is not the one that
the copy was made of (its claim was made anew) has deleted nothing. What is mounted inside is left alone.

A pass that was killed is done again from its start. Nothing has been overwritten yet, so the rules are the same, and
what lies aside already is found there.

Where the source does not know any more what it held it tells what it holds now, and everything that differs from that
is kept. Nothing is lost; it is only less tidy.

First come digests of all directories; the entries of those that differ are asked for. Untrusted is all that comes:
directories must come in the order of the walk, entries in that of their names; a directory of ours that is not told is
kept whole. Memory is held for what is here and differs, and for one frame.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable

from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import KeptAside, RestoreOrder
from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, Entry, is_path, join, printable, split, walk_key
from storagemirror.errors import ProtocolError
from storagemirror.fs.kept import Record, first_names, read_record, record_of
from storagemirror.fs.manifest import Digest
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.apart import Apart, Here
from storagemirror.sync.paths import frames_of
from storagemirror.wire import messages as m

log = logging.getLogger("storagemirror.agent")


def is_kept(volume: TargetVolume, order: RestoreOrder) -> Record | None:
    """What was kept under this order; None while that is not done."""
    record = record_of(volume, order.epoch)
    return record if record is not None and record.attempt == order.attempt else None


def told(record: Record) -> KeptAside:
    """As an agent reports it."""
    return KeptAside(
        epoch=record.epoch,
        attempt=record.attempt,
        known=record.known,
        entries=record.entries,
        bytes=record.bytes,
        deleted=record.deleted,
        first=record.first,
        at=rfc3339(record.at_ns),
    )


class Keeping:
    """Of one session; for its thread. `begin`, `digests` up to the last, `part` by `part`, `end`; `close` in any case.

    All of them raise OSError, `VolumeError`, `VolumeFull` and `ProtocolError`.
    """

    def __init__(self, volume: TargetVolume, order: RestoreOrder, clock: Clock, *, same_volume: bool) -> None:
        """The volume was claimed. `same_volume`: it is the one that the copy was made of."""
        self._volume = volume
        self._order = order
        self._clock = clock
        self._same_volume = same_volume
        self._before = read_record(volume.ours, order.epoch)
        synced = volume.synced() if self._before is not None else None
        self._apart = Apart(volume, order.epoch, synced.at_ns if synced is not None else None)
        self._begun = self._known = False
        self._passed: bytes | None = None
        self._pending: list[bytes] = []  # within directories that are equal, and not told yet: the next one last
        self._all_told = False
        self._wanted: list[bytes] = []  # those that differ
        self._differing: set[bytes] = set()
        self._told: set[bytes] = set()  # of what is within these
        self._here: Here | None = None
        self._deleted = 0

    def close(self) -> None:
        """Let go of everything."""
        if self._here is not None:
            self._here.close()
        self._apart.close()

    def begin(self, message: m.Manifest) -> None:
        """What is told, and how it was looked at."""
        if message.epoch != self._order.epoch or self._begun:
            raise ProtocolError(f"expected what was held at epoch {self._order.epoch}, got epoch {message.epoch}")
        if self._before is None:
            # Whatever is written from now on, what is here now need not be doubted after a crash.
            self._volume.sync(0, 0)
        self._begun, self._known = True, message.known
        self._apart.look_with(message.view)

    # -- digests

    def digests(self, message: m.ManifestDigests, send: Callable[[m.Message], None]) -> None:
        """Some directories. With the last of them those that differ are asked for."""
        if not self._begun or self._all_told:
            raise ProtocolError("digests of a manifest that were not asked for")
        for told in message.directories:
            self._in_order(told.path)
            self._judge(told)
        if not message.last:
            return
        if self._passed is None or self._pending:
            raise ProtocolError("what the source held once was not told to its end")
        self._all_told = True
        lists = frames_of(self._wanted) or [[]]
        self._wanted.reverse()
        for number, paths in enumerate(lists, 1):
            send(m.ManifestWant(paths, last=number == len(lists)))

    def _in_order(self, path: bytes) -> None:
        key = walk_key(path)
        if (self._passed is None and path) or (self._passed is not None and key <= self._passed):
            raise ProtocolError(f"the directory {printable(path)} is out of order")
        self._passed = key
        if self._pending:
            if walk_key(self._pending[-1]) < key:
                raise ProtocolError(f"the directory {printable(self._pending[-1])} was passed over")
            if self._pending[-1] == path:
                self._pending.pop()

    def _judge(self, told: m.ManifestDigest) -> None:
        here = self._apart.look(told.path)
        try:
            if here.fd < 0:
                if self._same_volume and not here.foreign:
                    self._deleted += told.entries
                return
            if here.attributes != told.attributes and self._apart.is_somebodys(os.fstat(here.fd)):
                self._apart.aside.keep_attributes(told.path, again=self._before is not None)
        finally:
            here.close()
        if told.path and split(told.path)[0] in self._differing:
            self._told.add(told.path)
        digest = Digest()
        digest.add(here.entries)
        if (digest.digest(), digest.entries) == (told.digest, told.entries):
            self._pending.extend(reversed(here.subdirectories()))
        else:
            self._wanted.append(told.path)
            self._differing.add(told.path)

    # -- entries

    def part(self, message: m.ManifestPart) -> None:
        """A directory that differs, or a piece of it."""
        here = self._here
        if here is None:
            if not self._all_told or not self._wanted or self._wanted.pop() != message.path:
                raise ProtocolError(f"the directory {printable(message.path)} was not asked for now")
            here = self._here = self._apart.look(message.path)
        elif here.path != message.path:
            raise ProtocolError(f"{printable(here.path)} was not told to its end")
        for entry in message.entries:
            if entry.name <= here.last or (not here.path and entry.name in (STATE_DIRECTORY, LOST_AND_FOUND)):
                raise ProtocolError(f"{printable(entry.name)} is out of order in {printable(here.path)}")
            here.last = entry.name
            self._compare(here, entry)
        if message.last:
            self._apart.keep_up_to(here, None)
            here.close()
            self._here = None

    def _compare(self, here: Here, entry: Entry) -> None:
        self._apart.keep_up_to(here, entry.name)
        path = join(here.path, entry.name)
        if here.at < len(here.entries) and here.entries[here.at].name == entry.name:
            found = here.entries[here.at]
            here.at += 1
            if found != entry or (stat.S_ISDIR(found.mode) and path not in self._told and is_path(path)):
                self._apart.keep(here, found)
        elif self._same_volume and not (here.foreign or entry.name in here.hidden or self._apart.aside.kept(path)):
            self._deleted += 1

    # -- the end

    def end(self) -> Record:
        """That was all: make it durable, and remember it."""
        if not self._all_told or self._here is not None or self._wanted:
            raise ProtocolError("what the source held once was not told to its end")
        if not self._apart.aside.unshare():
            log.warning("no room to part what is kept aside from other names of the same files")
        last = self._volume.synced()
        self._volume.sync(0, 0) if last is None else self._volume.sync(last.through_ns, last.deleted, last.base)
        tally = self._apart.aside.tally()
        before = self._before
        record = Record(
            epoch=self._order.epoch,
            attempt=self._order.attempt,
            known=self._known and (before is None or before.known),
            entries=tally.entries,
            bytes=tally.content_bytes,
            deleted=self._deleted if before is None else before.deleted,
            first=first_names(tally),
            at_ns=self._clock.now_ns(),
        )
        self._apart.aside.write_record(record)
        log.info(
            "kept aside: %d entries, %d bytes; %d had been deleted here", record.entries, record.bytes, record.deleted
        )
        return record
