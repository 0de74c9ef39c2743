"""Reading an object of the source, and telling it in a point.

While passes go on, what is read is told at once. While the volume is frozen it is only read, into the queue
(`storagemirror.sync.pointmaker.keeping`); told it is after the thaw.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import msgspec

from storagemirror.entry import Attributes, View, split
from storagemirror.fs.blocks import BlockReader
from storagemirror.fs.inodeflags import FlagReader
from storagemirror.fs.scan import Report
from storagemirror.fs.source import SourceDirectory, SourceVolume
from storagemirror.fs.trace import Placed
from storagemirror.point import CONTENT_LIMIT, Object
from storagemirror.sync.pointmaker.catalogue import NEVER, Catalogue, Known
from storagemirror.sync.pointmaker.narrowing import Narrowing
from storagemirror.sync.pointmaker.reading import Changed
from storagemirror.sync.pointmaker.surveying import Due

_ELSEWHERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ESTALE, errno.EXDEV})


class Tells(Protocol):
    """Where records go: a `Teller`, or `Aside`."""

    def object(self, told: Object) -> None: ...
    def content(self, offset: int, content: memoryview) -> None: ...
    def zeros(self, offset: int, length: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Read:
    """What was read of an object, and is known of it once it is told."""

    known: Known
    told: Object
    ctime_ns: int
    """`NEVER`: it may be otherwise by now."""
    sums: bytes | None
    changed_ns: int
    """When it changed last: its ctime."""
    looked: int = 0
    """Bytes that were read."""
    content: int = 0
    """Bytes of content that were told."""
    placed: Placed | None = None
    narrow: bool = False
    """See `Known`."""


class Reader:
    """Reads objects of one source for points. For one thread."""

    def __init__(
        self, catalogue: Catalogue, volume: SourceVolume, view: View, report: Report, narrowing: Narrowing
    ) -> None:
        self._narrowing = narrowing
        self._catalogue = catalogue
        self._volume = volume
        self._view = view
        self._report = report
        self._flags = FlagReader()

    def read(self, known: Known, due: Due, to: Tells, pace: Callable[[int], None] | None = None) -> Read | None:
        """Read it, and tell it to `to`; None when it is not where it was. OSError when it cannot be read.

        `pace` is called with the size of each piece before it is read, and may raise; None: the volume is not frozen,
        and the page cache is left as it was."""
        job = _Job(known, due, to, pace)
        try:
            if known.parent is None:
                return self._root(job) if known is self._catalogue.root else None
            return self._entry(job)
        except OSError as e:
            if e.errno in _ELSEWHERE:
                return None
            raise

    def final(self, known: Known, told: Object) -> Object:
        """As it is in the end, after what was told."""
        return msgspec.structs.replace(
            told,
            was=self._was(known),
            links=known.links,
            moves=known not in self._catalogue.since.new and self._catalogue.has_moved(known),
        )

    def _root(self, job: _Job) -> Read:
        with self._volume.directory(b"", self._view, self._report) as directory:
            found, flags = os.fstat(directory.fd), self._flags.read(directory.fd)
            return self._tell(job, found, directory.attributes(), flags)

    def _entry(self, job: _Job) -> Read | None:
        known = job.known
        path = self._catalogue.path(known)
        if path is None:
            return None
        parent, name = split(path)
        with self._volume.directory(parent, self._view, self._report) as directory:
            if stat.S_ISREG(known.mode):
                fd, found = directory.open_file(name)
                try:
                    return self._file(job, _File(directory, name, fd, found)) if found.st_ino == known.inode else None
                finally:
                    os.close(fd)
            found = directory.lstat(name)
            if found.st_ino != known.inode or stat.S_IFMT(found.st_mode) != stat.S_IFMT(known.mode):
                return None
            if known.children is not None:
                return self._directory(job, path)
            content = b""
            if stat.S_ISLNK(known.mode):
                content = directory.readlink(name)
            elif stat.S_ISCHR(known.mode) or stat.S_ISBLK(known.mode):
                content = b"%d:%d" % (os.major(found.st_rdev), os.minor(found.st_rdev))
            return self._tell(job, found, directory.special_attributes(name, found), None, content)

    def _directory(self, job: _Job, path: bytes) -> Read | None:
        with self._volume.directory(path, self._view, self._report) as directory:
            found = os.fstat(directory.fd)
            if found.st_ino != job.known.inode:
                return None
            return self._tell(job, found, directory.attributes(), self._flags.read(directory.fd))

    def _file(self, job: _Job, file: _File) -> Read:
        known, due, to, pace = job.known, job.due, job.to, job.pace
        found, size = file.found, file.found.st_size
        attributes = file.directory.file_attributes(file.fd, found, file.name)
        narrowed = self._narrowing.narrow(known, due.ranges, file.fd, found, due.named)
        footprint = self._volume.reading.large(file.fd, size) if pace is None and size > CONTENT_LIMIT else None
        changed = Changed(BlockReader(file.fd, size, footprint), size, known.sums, narrowed.ranges, pace or _unhurried)
        if pace is None:
            known.sums = None  # until all of it is told: of half of it nobody would know
        read = self._tell(job, found, attributes, self._flags.read(file.fd))
        content = 0
        try:
            with self._narrowing.compare(known, narrowed, file.fd, frozen=pace is not None) as comparison:
                for part in changed:
                    comparison.add(part)
                    if part.content is None:
                        to.zeros(part.offset, part.length)
                    else:
                        to.content(part.offset, part.content)
                        content += part.length
                comparison.void = changed.short
        finally:
            if footprint is not None:
                footprint.end()
        ctime = NEVER if changed.short else read.ctime_ns
        return Read(
            *(known, read.told, ctime, changed.sums, found.st_ctime_ns, changed.read, content),
            placed=narrowed.placed,
            narrow=narrowed.ranges is not None,
        )

    def _tell(
        self,
        job: _Job,
        found: os.stat_result,
        attributes: Attributes,
        flags: tuple[int, int] | None,
        content: bytes = b"",
    ) -> Read:
        known, due = job.known, job.due
        told = Object(
            known.id,
            None,
            self._rounded(attributes),
            size=found.st_size if stat.S_ISREG(found.st_mode) else 0,
            content=content,
            flags=flags[0] if flags is not None else None,
            project=flags[1] if flags is not None else None,
        )
        told = self.final(known, told)
        job.to.object(told)
        ctime = due.ctime_ns if due.ctime_ns == found.st_ctime_ns else NEVER
        if stat.S_ISREG(found.st_mode):
            ctime = self._narrowing.told(found, ctime)
        return Read(known, told, ctime, known.sums, found.st_ctime_ns)

    def _was(self, known: Known) -> bytes | None:
        was = self._catalogue.was(known)
        if was is None and known not in self._catalogue.since.new:
            raise AssertionError("an object of the base has a path there")
        return was

    def _rounded(self, attributes: Attributes) -> Attributes:
        """With the time as the target can keep it."""
        rest = attributes.mtime_ns % self._view.time_grain_ns
        return msgspec.structs.replace(attributes, mtime_ns=attributes.mtime_ns - rest) if rest else attributes


def _unhurried(size: int) -> None:
    """No pace."""


@dataclass(frozen=True, slots=True)
class _Job:
    known: Known
    due: Due
    to: Tells
    pace: Callable[[int], None] | None


@dataclass(frozen=True, slots=True)
class _File:
    directory: SourceDirectory
    name: bytes
    fd: int
    found: os.stat_result
