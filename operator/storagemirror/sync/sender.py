"""Sending entries: many small ones packed, large ones piece by piece.

A file may change while it is read, or within the grain of the file system's clock afterwards, so that nobody could
tell. Then its time is told wrong by one grain (it is *unsettled*): the target's copy differs from the source for
every later comparison, until the file was read again and found to be what was sent (`Settler`).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import msgspec
from xxhash import xxh3_128_digest

from storagemirror.entry import Attributes, NotKeptKind, View, join, split
from storagemirror.fs.plainfile import PlainFiles, can_tell
from storagemirror.fs.scan import Report
from storagemirror.fs.shared import shares_data
from storagemirror.fs.source import Content, SourceDirectory, SourceVolume, data_extents, unchanged
from storagemirror.sync.channel import Channel
from storagemirror.sync.flagging import Flagging
from storagemirror.sync.readahead import ReadAhead
from storagemirror.wire import messages as m
from storagemirror.wire.content import Child, ContentDigest, Contents, Enter, File, Leave, Node, Record, Symlink, Touch
from storagemirror.wire.frame import DATA_CHUNK, PACK_TARGET, SMALL_FILE

_RECORD_BYTES = 64
"""What a record takes in a pack beside its name and attributes, about."""
_TRIES = 3


@dataclass(slots=True)
class Counts:
    """What was sent so far."""

    files: int = 0
    bytes: int = 0
    metadata: int = 0
    links: int = 0


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A file that was sent with a wrong time on purpose."""

    digest: bytes
    """xxh3_128 of what was sent; empty when it is known not to be the file as it is now."""
    found: os.stat_result
    """As it was when it was read."""
    blocks: bool = False
    """The digest is over the sums of its blocks (`storagemirror.fs.blocks`)."""


@dataclass(slots=True)
class Sender:
    """Sends entries of `volume`. Nothing is on its way before `flush`."""

    channel: Channel
    volume: SourceVolume
    view: View
    report: Report
    sent: Callable[[int, int], None]
    """Called with (entries, bytes of content) as they are sent."""
    counts: Counts = field(default_factory=Counts)
    unsettled: dict[bytes, Unsettled] = field(default_factory=dict)
    now_ns: Callable[[], int] = time.time_ns
    unread: Callable[[bytes, OSError], None] = lambda path, error: None
    """Told of each entry that cannot be read, and why."""
    flagging: Flagging | None = None
    """None: the target knows nothing of inode flags."""
    _records: list[Record] = field(default_factory=list)
    _contents: Contents = field(default_factory=lambda: Contents(PACK_TARGET + SMALL_FILE + 1))
    _size: int = 0
    _entered: Enter | None = None
    _plain_files: int = 0
    """With `_plain_bytes`: what `sent` was not called with yet."""
    _plain_bytes: int = 0

    def unreadable(self, path: bytes, error: OSError) -> None:
        """An entry cannot be read: it is reported, and the rest goes on."""
        if error.errno == errno.EXDEV:
            self.report(NotKeptKind.OTHER_FILE_SYSTEM, path)
            return
        self.report(NotKeptKind.UNREADABLE, path)
        self.unread(path, error)

    # -- packing

    def enter(self, path: bytes, *, fresh: bool) -> None:
        """What follows is in this directory. `fresh`: the target has nothing in it."""
        self._entered = Enter(path, fresh)
        self._records.append(self._entered)
        self._size += _RECORD_BYTES + len(path)

    def leave(self, attributes: Attributes) -> None:
        """Nothing more comes for this directory."""
        self._add(Leave(self.rounded(attributes)), _size_of(attributes))
        self._entered = None

    def child(self, name: bytes) -> None:
        """There is a directory of this name."""
        self._add(Child(name), len(name))
        self.sent(1, 0)

    def _add(self, record: Record, size: int) -> None:
        """`size`: bytes of its name, its attributes and its content, about."""
        self._records.append(record)
        self._size += _RECORD_BYTES + size
        if self._size >= PACK_TARGET:
            self.flush()

    def flush(self) -> None:
        """Send what was packed."""
        if self._plain_files:
            self.sent(self._plain_files, self._plain_bytes)
            self._plain_files = self._plain_bytes = 0
        if not self._records:
            return
        if self._records != [self._entered]:
            self.channel.send_pack(self._records, self._contents)
        self._records, self._size = [], 0
        self._contents.clear()
        if self._entered is not None:
            self._records.append(self._entered)

    # -- entries of the directory that was entered

    def file(
        self, directory: SourceDirectory, name: bytes, leader_of: Callable[[int, bytes], bytes] | None = None
    ) -> tuple[os.stat_result, bytes]:
        """A regular file, whole; what it is. OSError when it cannot be read (any more).

        With `leader_of`, a further name of a file that was met before is not sent: its leader is returned."""
        fd, found = directory.open_file(name)
        try:
            if directory.is_foreign(found):
                raise OSError(errno.EXDEV, "another file system", name)
            if found.st_nlink > 1 and leader_of is not None:
                leader = leader_of(found.st_ino, join(directory.path, name))
                if leader:
                    return found, leader
            if self.flagging is not None:
                self.flagging.seen(join(directory.path, name), fd)
            if found.st_size > SMALL_FILE:
                self._large(directory, name, fd, found)
                return found, b""
            room = self._contents.room()
            content = directory.read_small(fd, found, name, room)
            for _ in range(_TRIES):
                if content.steady or (found := os.fstat(fd)).st_size > SMALL_FILE:
                    break
                content = directory.read_small(fd, found, name, room)
        finally:
            os.close(fd)
        attributes = self._remember_small(directory.path, name, content)
        size = content.data.nbytes
        self._contents.take(size)
        self._add(File(name, attributes, size), len(name) + size + (_size_of(attributes) if attributes.xattrs else 0))
        self._count(size)
        return content.found, b""

    def plain_files(self, directory: SourceDirectory) -> PlainFiles | None:
        """For `plain`; None where no file can be told so simply."""
        if not can_tell(self.view, self.volume.grain_ns):
            return None
        flags = None
        if self.flagging is not None and (flags := self.flagging.reader) is None:
            return None
        return PlainFiles(directory, self.view, flags, SMALL_FILE)

    def plain(self, files: PlainFiles, path: bytes, name: bytes) -> os.stat_result | None:
        """As `file` of the directory at `path`, for what nothing special is to be said of; None: nothing was sent."""
        contents = self._contents
        found = files.read(name, contents.buffer, contents.end)
        if found is None:
            return None
        size = found.st_size
        contents.end += size
        attributes = Attributes(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns)
        self._records.append(File(name, attributes, size))
        self._size += _RECORD_BYTES + len(name) + size
        counts = self.counts
        counts.files += 1
        counts.bytes += size
        self._plain_files += 1
        self._plain_bytes += size
        if self.unsettled:
            self.unsettled.pop(join(path, name), None)
        if self._size >= PACK_TARGET:
            self.flush()
        return found

    def _remember_small(self, directory: bytes, name: bytes, content: Content) -> Attributes:
        attributes = self.rounded(content.attributes)
        if content.steady and not self.is_racy(content.found):
            if self.unsettled:
                self.unsettled.pop(join(directory, name), None)
            return attributes
        path = join(directory, name)
        digest = xxh3_128_digest(content.data) if content.steady else b""
        self.unsettled[path] = Unsettled(digest, content.found)
        return self.wrong_time(attributes)

    def is_racy(self, found: os.stat_result) -> bool:
        """Whether another change could have the same time. The ctime tells: nobody can set it."""
        grain = self.volume.grain_ns
        return grain > 0 and found.st_ctime_ns > self.now_ns() - grain

    def wrong_time(self, attributes: Attributes) -> Attributes:
        """With a time that is no file's: what bears it differs."""
        grain = self.view.time_grain_ns
        wrong = attributes.mtime_ns - grain
        if wrong < self.view.oldest_ns:
            wrong = attributes.mtime_ns + grain
        return msgspec.structs.replace(attributes, mtime_ns=wrong)

    def rounded(self, attributes: Attributes) -> Attributes:
        """With the time as the target can keep it."""
        grain = self.view.time_grain_ns
        if grain == 1 or not (rest := attributes.mtime_ns % grain):
            return attributes
        return msgspec.structs.replace(attributes, mtime_ns=attributes.mtime_ns - rest)

    def _count(self, size: int) -> None:
        self.counts.files += 1
        self.counts.bytes += size
        self.sent(1, size)

    def _large(self, directory: SourceDirectory, name: bytes, fd: int, before: os.stat_result) -> None:
        path = join(directory.path, name)
        self.flush()
        racy = self.is_racy(before)
        attributes = self.rounded(directory.file_attributes(fd, before, name))
        if self.volume.shares and shares_data(fd):
            self.report(NotKeptKind.SHARED, path)
        self.channel.send(m.Begin(path, self.wrong_time(attributes), before.st_size))
        digest = ContentDigest()
        try:
            size = self._pieces(fd, before.st_size, digest)
        except OSError:
            self.channel.send(m.Drop())
            raise
        steady = size == before.st_size and unchanged(before, os.fstat(fd))
        known = Unsettled(digest.digest() if steady else b"", before)
        self.end_large(path, attributes, digest, known, settled=steady and not racy)

    def end_large(
        self, path: bytes, attributes: Attributes, digest: ContentDigest, known: Unsettled, *, settled: bool
    ) -> None:
        """A large file was sent, whole or as a delta. `settled`: it was at rest, so it gets its right time; else
        `known` is remembered of it, for a second look."""
        mtime_ns = attributes.mtime_ns if settled else None
        self.channel.send(m.End(known.found.st_size, digest.digest(), mtime_ns))
        if settled:
            self.unsettled.pop(path, None)
        else:
            self.unsettled[path] = known
        self.counts.files += 1
        self.sent(1, 0)

    def _pieces(self, fd: int, size: int, digest: ContentDigest) -> int:
        """Send the data of `fd` without its holes; the size up to which the file could be read."""
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        footprint = self.volume.reading.large(fd, size)
        reading = ReadAhead(fd, data_extents(fd, size), footprint, digest, DATA_CHUNK)
        try:
            with closing(reading.pieces()) as pieces:  # nobody reads any more when this is left
                for at, content in pieces:
                    self.channel.send_data(at, content)
                    self.counts.bytes += content.nbytes
                    self.sent(0, content.nbytes)
        finally:
            footprint.end()
        return size if reading.end is None else reading.end

    def special(self, directory: SourceDirectory, name: bytes, found: os.stat_result) -> None:
        """A symbolic link, FIFO, socket or device. OSError when it is gone, or something else by now."""
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOENT, "something else by now", name)
        attributes = self.rounded(directory.special_attributes(name, found))
        mode = found.st_mode
        if stat.S_ISLNK(mode):
            content = directory.readlink(name)
            self._add(Symlink(name, attributes, content), len(name) + len(content) + _size_of(attributes))
        elif (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and not self.view.devices:
            self.report(NotKeptKind.DEVICE, join(directory.path, name))
            return
        else:
            device = found.st_rdev
            node = Node(name, attributes, os.major(device), os.minor(device))
            self._add(node, len(name) + _size_of(attributes))
        self._count(0)

    def touch(self, directory: SourceDirectory, name: bytes, found: os.stat_result) -> None:
        """The attributes alone of what is no directory. OSError when it is gone, or is one by now."""
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOENT, "a directory by now", name)
        attributes = self.rounded(directory.special_attributes(name, found))
        self._add(Touch(name, attributes), len(name) + _size_of(attributes))
        self.counts.metadata += 1
        self.sent(1, 0)

    def entry(self, directory: SourceDirectory, name: bytes) -> os.stat_result:
        """Whatever it is, whole; never a directory. OSError when it cannot be read (any more)."""
        found = directory.lstat(name)
        if stat.S_ISREG(found.st_mode):
            return self.file(directory, name)[0]
        self.special(directory, name, found)
        return found

    # -- by path

    def link(self, path: bytes, leader: bytes) -> None:
        """A further name of `leader`."""
        self.flush()
        self.channel.send(m.Link(path, leader))
        self.counts.links += 1

    def directory_attributes(self, path: bytes) -> None:
        """Those of the directory at `path`, as they are now. OSError when it is gone."""
        with self.volume.directory(path, self.view, self.report) as directory:
            attributes = directory.attributes()
            self.enter(path, fresh=False)
            self.leave(attributes)

    def settle(self, path: bytes, found: os.stat_result) -> None:
        """What was sent of `path` is what it is: give it its right time."""
        parent, name = split(path)
        with self.volume.directory(parent, self.view, self.report) as directory:
            self.enter(parent, fresh=False)
            self.touch(directory, name, found)
            self._entered = None


def _size_of(attributes: Attributes) -> int:
    values = attributes.xattrs
    return sum(map(len, values)) + sum(map(len, values.values())) if values else 0
