"""What would a mirror cost? Both sides are compared as ever, and nothing is sent or written.

The time is an estimate: what the comparison took, which a mirror does again; and a sample of the files that would be
sent, read as a mirror reads them, for at most a second. So it knows this side's disk (or its page cache), and neither
the other side's nor the link: a lower bound, where these are slower.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from xxhash import xxh3_128

from storagemirror.clock import Clock
from storagemirror.contract import CompareBy
from storagemirror.entry import Entry, View, join, split
from storagemirror.fs.scan import Scanned
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.decide import Verdict, decide
from storagemirror.sync.left import LeftAlone, LeftKind
from storagemirror.sync.observer import NotKeptCount
from storagemirror.wire.frame import SMALL_FILE

SAMPLE_SECONDS = 1.0
_SAMPLE_FILES = 1_000
_CHUNK = 1 << 20
FIRST_NAMES = 10
_NOTHING = View(acls=False, user_xattrs=False, capabilities=False, trusted_xattrs=False)


@dataclass(frozen=True, slots=True)
class Size:
    """What a mirror would do. Bytes are those of content, as long as the files are (holes included)."""

    entries: int
    """On the source."""
    bytes_total: int
    new_files: int
    new_bytes: int
    """Of files that the target does not have."""
    changed_files: int
    changed_bytes: int
    """Of files that both have and that differ. Of a large one perhaps only some blocks are sent."""
    others: int
    """Directories, links and special files that would be made."""
    metadata: int
    """Entries whose attributes alone would be sent."""
    deleted: int
    """Entries that would be deleted, or moved aside."""
    left_alone: tuple[LeftAlone, ...]
    not_kept: tuple[NotKeptCount, ...]
    compare_seconds: float
    """That the comparison took."""
    estimated_seconds: float
    """That a mirror would take, on this machine's word alone."""


@dataclass(slots=True)
class Sizing:
    """Counts what differs; `absent` and `listed` are for `sync.differing.Differing`."""

    compare: CompareBy
    doomed: list[tuple[bytes, bool]] = field(default_factory=list)
    new_files: int = 0
    new_bytes: int = 0
    changed_files: int = 0
    changed_bytes: int = 0
    others: int = 0
    metadata: int = 0
    newer: list[bytes] = field(default_factory=list)
    newer_count: int = 0
    _sample: list[bytes] = field(default_factory=list)
    _seen: int = 0

    def absent(self, mine: Scanned) -> None:
        """A directory that the target does not have. (That it is made was counted with the one above.)"""
        for entry in mine.entries:
            self._new(mine.path, entry)

    def listed(self, mine: Scanned, attributes: bytes, theirs: list[Entry]) -> None:
        """One that both have."""
        if attributes != mine.attributes:
            self.metadata += 1
        there = {entry.name: entry for entry in theirs}
        for decision in decide(mine.entries, theirs, spare_newer=self.compare is CompareBy.NEWER):
            path = join(mine.path, decision.name)
            match decision.verdict:
                case Verdict.SAME:
                    continue
                case Verdict.TOUCH:
                    self.metadata += 1
                case Verdict.NEWER:
                    self.newer_count += 1
                    self.newer.extend([path] if len(self.newer) < FIRST_NAMES else [])
                case Verdict.DELETE:
                    if decision.name not in mine.hidden:
                        self.doomed.append((path, False))
                case _ if decision.source is not None:
                    if decision.verdict is Verdict.MAKE_WAY:
                        self.doomed.append((path, True))
                    self._whole(mine.path, decision.source, there.get(decision.name))

    def _whole(self, directory: bytes, entry: Entry, theirs: Entry | None) -> None:
        is_file = stat.S_ISREG(entry.mode) and not entry.leader
        if not is_file or theirs is None or not stat.S_ISREG(theirs.mode):
            self._new(directory, entry)
            return
        self.changed_files += 1
        self.changed_bytes += entry.size
        self._remember(join(directory, entry.name))

    def _new(self, directory: bytes, entry: Entry) -> None:
        if not stat.S_ISREG(entry.mode) or entry.leader:
            self.others += 1
            return
        self.new_files += 1
        self.new_bytes += entry.size
        self._remember(join(directory, entry.name))

    def _remember(self, path: bytes) -> None:
        """Some from everywhere: each next one takes a place that was drawn by its number (Knuth's multiplicative hash:
        the same sample for the same tree)."""
        self._seen += 1
        if len(self._sample) < _SAMPLE_FILES:
            self._sample.append(path)
            return
        place = (self._seen * 2_654_435_761) % (1 << 32) % self._seen
        if place < _SAMPLE_FILES:
            self._sample[place] = path

    def left(self, orphans: int, first: tuple[bytes, ...]) -> tuple[LeftAlone, ...]:
        """What would be left as it is."""
        found = (
            LeftAlone(LeftKind.NEWER, self.newer_count, tuple(self.newer)),
            LeftAlone(LeftKind.ORPHAN, orphans, first),
        )
        return tuple(kind for kind in found if kind.count)

    # -- the estimate

    def seconds(self, volume: SourceVolume, clock: Clock) -> float:
        """How long reading what is to be sent takes, judged by a sample of it."""
        files = self.new_files + self.changed_files
        size = self.new_bytes + self.changed_bytes
        reader = _Reader(volume, clock, clock.monotonic() + SAMPLE_SECONDS)
        step = max(1, len(self._sample) // 97)  # not one directory after the other
        for path in (path for start in range(step) for path in self._sample[start::step]):
            if reader.over:
                break
            reader.read(path)
        small, large = reader.small, reader.large
        per_file = small.seconds / small.files if small.files else 0.0
        per_byte = large.seconds / large.bytes if large.bytes else 0.0
        if not large.bytes and small.bytes:
            per_byte = small.seconds / small.bytes
        average = size / files if files else 0.0
        if average <= SMALL_FILE and small.files:
            return files * per_file
        return files * per_file + size * per_byte


@dataclass(slots=True)
class _Rate:
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Reader:
    """Reads and sums files as a mirror does, as far as the time goes."""

    volume: SourceVolume
    clock: Clock
    end: float
    small: _Rate = field(default_factory=_Rate)
    large: _Rate = field(default_factory=_Rate)

    @property
    def over(self) -> bool:
        """No time is left."""
        return self.clock.monotonic() >= self.end

    def read(self, path: bytes) -> None:
        """One file; nothing where it cannot be read."""
        directory, name = split(path)
        began = self.clock.monotonic()
        done = 0
        try:
            with self.volume.directory(directory, _NOTHING, lambda kind, where: None) as above:
                fd, found = above.open_file(name)
                try:
                    digest = xxh3_128()
                    while data := os.pread(fd, _CHUNK, done):
                        digest.update(data)
                        done += len(data)
                        if self.over:
                            break
                finally:
                    os.close(fd)
        except OSError:
            return
        rate = self.small if found.st_size <= SMALL_FILE else self.large
        rate.files += 1
        rate.bytes += done
        rate.seconds += self.clock.monotonic() - began
