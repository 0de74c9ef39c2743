"""Before a volume that was the live side is written: what it holds that the other side does not know is kept aside.

The source tells, directory by directory, what the copy held when it was promoted: by then it had all that the old side
had done up to the cut, as far as it had come. Whatever is otherwise here now was written after that (or never came),
and nobody else has it. It is moved to `.storagemirror/diverged/<epoch>/` (`storagemirror.fs.aside`):

- an entry that the manifest does not have, a directory with all that is in it;
- one of another type, size, time, mode, owner, link target, device or extended attributes, as far as the copy could
  hold these (the manifest's view);
- of a directory that both have, and whose mode, owner or extended attributes are others, an empty one with these.
  Its time says nothing: it changes with every entry.

What the manifest has and this volume does not was deleted here; it is only counted. A volume that is not the one that
the copy was made of (its claim was made anew) has deleted nothing. What is mounted inside is left alone.

A pass that was killed is done again from its start. Nothing has been overwritten yet, so the rules are the same, and
what lies aside already is found there.

**A later attempt of the same epoch** finds what an earlier one restored: that deviates as well, and is ours. It is told
by the change time of the inode, which nobody can set: what was not changed since our own last sync of the volume
(`Synced.at_ns`) is ours, what was changed since may be somebody's, and is kept. Its limits: what we wrote after that
sync, because the session was killed, is kept too; what somebody changed before it, while we were mirroring, is not; and
a clock that was set back since makes what is younger look older. A directory that the manifest does not have is looked
through: of it only what is younger is kept. Deletions are not counted again.

Where the source does not know any more what it held it tells what it holds now, and everything that differs from that
is kept. Nothing is lost; it is only less tidy.

Untrusted is all that comes: directories must come in the order of the walk, entries in that of their names, none of
what is here may be passed over; memory is held for what is here, and for one frame.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from dataclasses import dataclass, field

from storagemirror.clock import Clock, rfc3339
from storagemirror.contract import KeptAside, RestoreOrder
from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, Entry, is_path, join, printable, walk_key
from storagemirror.errors import ProtocolError, VolumeError
from storagemirror.fs.aside import Aside
from storagemirror.fs.kept import Record, first_names, read_record, record_of
from storagemirror.fs.manifest import own_attributes, scanner
from storagemirror.fs.scan import Scanner
from storagemirror.fs.target import TargetVolume
from storagemirror.wire import messages as m

log = logging.getLogger("storagemirror.agent")

_NEVER_NS = -(1 << 63)


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


@dataclass(slots=True)
class _Here:
    """The directory that is being compared, as it is on this volume; `fd` is -1 where there is none."""

    path: bytes
    fd: int = -1
    foreign: bool = False
    """Another file system is mounted there, or above."""
    entries: list[Entry] = field(default_factory=list)
    hidden: frozenset[bytes] = frozenset()
    at: int = 0
    """The first entry that has not been compared."""
    last: bytes = b""
    """The last name that was told."""
    deeper: list[bytes] = field(default_factory=list)
    """Paths of directories that both sides have, in order."""

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Keeping:
    """Of one session; for its thread. `begin`, then `part` by `part`, then `end`; `close` in any case."""

    def __init__(self, volume: TargetVolume, order: RestoreOrder, clock: Clock, *, same_volume: bool) -> None:
        """The volume was claimed. `same_volume`: it is the one that the copy was made of."""
        self._volume = volume
        self._order = order
        self._clock = clock
        self._same_volume = same_volume
        self._before = read_record(volume.ours, order.epoch)
        synced = volume.synced() if self._before is not None else None
        self._ours_before_ns = synced.at_ns if synced is not None else _NEVER_NS
        self._aside = Aside(volume, order.epoch)
        self._scanner: Scanner | None = None
        self._known = False
        self._here: _Here | None = None
        self._passed: bytes | None = None
        self._pending: list[
            bytes
        ] = []  # directories that both sides have and that were not told yet, the next one last
        self._directories = 0
        self._deleted = 0

    def close(self) -> None:
        """Let go of everything."""
        if self._here is not None:
            self._here.close()
        self._aside.close()

    @property
    def _again(self) -> bool:
        """Something was restored already."""
        return self._before is not None

    # -- what the source tells

    def begin(self, message: m.Manifest) -> None:
        """What is told, and how it was looked at."""
        if message.epoch != self._order.epoch or self._scanner is not None:
            raise ProtocolError(f"expected what was held at epoch {self._order.epoch}, got epoch {message.epoch}")
        if not self._again:
            # Whatever is written from now on, what is here now need not be doubted after a crash.
            self._volume.sync(0, 0)
        self._known = message.known
        self._scanner = scanner(self._volume.tree, message.view)

    def part(self, message: m.ManifestPart) -> None:
        """One directory, or a piece of it. OSError, `VolumeError`, `VolumeFull`, `ProtocolError`."""
        here = self._here
        if here is None or here.path != message.path:
            here = self._enter(message)
        for entry in message.entries:
            if entry.name <= here.last or (not here.path and entry.name in (STATE_DIRECTORY, LOST_AND_FOUND)):
                raise ProtocolError(f"{printable(entry.name)} is out of order in {printable(here.path)}")
            here.last = entry.name
            self._compare(here, entry)
        if message.last:
            self._keep_up_to(here, None)
            here.close()
            self._pending.extend(reversed(here.deeper))
            self._here, self._passed = None, walk_key(here.path)

    def end(self, message: m.ManifestEnd) -> Record:
        """That was all: make it durable, and remember it. Raises as `part`."""
        if self._here is not None or self._pending or self._passed is None or message.directories != self._directories:
            raise ProtocolError("what the source held once was not told to its end")
        if not self._aside.unshare():
            log.warning("no room to part what is kept aside from other names of the same files")
        last = self._volume.synced()
        self._volume.sync(0, 0) if last is None else self._volume.sync(last.through_ns, last.deleted, last.base)
        tally = self._aside.tally()
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
        self._aside.write_record(record)
        log.info(
            "kept aside: %d entries, %d bytes; %d had been deleted here", record.entries, record.bytes, record.deleted
        )
        return record

    # -- one directory

    def _enter(self, message: m.ManifestPart) -> _Here:
        path = message.path
        key = walk_key(path)
        if self._here is not None:
            raise ProtocolError(f"{printable(self._here.path)} was not told to its end")
        first = self._passed is None
        if first != (not path) or (self._passed is not None and key <= self._passed):
            raise ProtocolError(f"the directory {printable(path)} is out of order")
        if self._pending:
            if walk_key(self._pending[-1]) < key:
                raise ProtocolError(f"the directory {printable(self._pending[-1])} was passed over")
            if self._pending[-1] == path:
                self._pending.pop()
        self._directories += 1
        self._here = here = self._look(path)
        if here.fd >= 0 and self._own(path) != message.attributes and self._is_somebodys(os.fstat(here.fd)):
            self._aside.keep_attributes(path, again=self._again)
        return here

    def _looks(self) -> Scanner:
        if self._scanner is None:
            raise AssertionError("begin first")
        return self._scanner

    def _own(self, path: bytes) -> bytes:
        return own_attributes(self._volume.tree, self._looks().view, path)

    def _look(self, path: bytes) -> _Here:
        """As it is here. Where it cannot be opened because it is none, or somebody else's, nothing is. `VolumeError`
        NotKeptAside where we may not."""
        try:
            fd = self._volume.tree.open_directory(path)
        except PermissionError as e:
            raise VolumeError(
                f"cannot look into {printable(path)} for what only this side has: {e.strerror}",
                reason="NotKeptAside",
                hint="Let the agent's user read it, or set spec.agents.privilege to Baseline.",
            ) from e
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                raise
            return _Here(path, foreign=e.errno == errno.EXDEV)
        try:
            found = self._looks().scan(path)
        except BaseException:
            os.close(fd)
            raise
        return _Here(path, fd, entries=found.entries, hidden=frozenset(found.hidden))

    def _compare(self, here: _Here, entry: Entry) -> None:
        self._keep_up_to(here, entry.name)
        path = join(here.path, entry.name)
        if here.at < len(here.entries) and here.entries[here.at].name == entry.name:
            found = here.entries[here.at]
            here.at += 1
            if stat.S_ISDIR(found.mode) and stat.S_ISDIR(entry.mode):
                if is_path(path):
                    here.deeper.append(path)
            elif found != entry:
                self._keep(here.fd, here.path, found)
        elif self._same_volume and not (here.foreign or entry.name in here.hidden or self._aside.kept(path)):
            self._deleted += 1

    def _keep_up_to(self, here: _Here, name: bytes | None) -> None:
        """What is here before `name` the source does not know; None: all that is left."""
        while here.at < len(here.entries) and (name is None or here.entries[here.at].name < name):
            self._keep(here.fd, here.path, here.entries[here.at])
            here.at += 1

    def _keep(self, fd: int, path: bytes, entry: Entry) -> None:
        if not self._again:
            self._aside.keep(fd, path, entry.name)
        elif not stat.S_ISDIR(entry.mode):
            self._keep_younger(fd, path, entry.name)
        else:
            self._keep_within(join(path, entry.name))

    # -- a later attempt

    def _is_somebodys(self, found: os.stat_result) -> bool:
        return not self._again or found.st_ctime_ns >= self._ours_before_ns

    def _keep_younger(self, fd: int, path: bytes, name: bytes) -> None:
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        if self._is_somebodys(found):
            self._aside.keep(fd, path, name)

    def _keep_within(self, top: bytes) -> None:
        """Of a directory that the source does not know: what is younger, and itself when it is empty and younger."""
        stack = [top]
        while stack:
            path = stack.pop()
            here = self._look(path)
            try:
                for entry in here.entries:
                    if stat.S_ISDIR(entry.mode):
                        stack.append(join(path, entry.name))
                    else:
                        self._keep_younger(here.fd, path, entry.name)
                if here.fd >= 0 and not here.entries and self._is_somebodys(os.fstat(here.fd)):
                    self._keep_empty(path)
            finally:
                here.close()

    def _keep_empty(self, path: bytes) -> None:
        directory, _, name = path.rpartition(b"/")
        fd = self._volume.tree.open_directory(directory)
        try:
            self._aside.keep(fd, directory, name)
        finally:
            os.close(fd)
