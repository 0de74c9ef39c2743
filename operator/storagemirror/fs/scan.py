"""One directory of a volume, as it is compared: its entries, and one digest for all of them.

Source and target run the same code with the same `View`, so that equal directories have equal digests. A walk goes
directory by directory: the entries of one sorted by their bytes, then its subdirectories in the same order. The first
path under which a walk meets a file with several names is its *leader*; in equal trees leaders are equal too.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
from xxhash import xxh3_128_digest

from storagemirror.entry import (
    LOST_AND_FOUND,
    STATE_DIRECTORY,
    Attributes,
    Entry,
    NotKeptKind,
    View,
    join,
    within,
)
from storagemirror.fs import xattrs
from storagemirror.fs.marker import marker_beneath
from storagemirror.fs.selection import Selection
from storagemirror.fs.shortfall import Shortfall
from storagemirror.fs.tree import Tree

Report = Callable[[NotKeptKind, bytes], None]

_NEVER = 1 << 63
"""Nanoseconds: beyond every time that a file system tells."""

_TYPE = 0o170000
_encode = msgspec.msgpack.Encoder().encode


def ignore(kind: NotKeptKind, path: bytes) -> None:
    """A report nobody needs: of the target's own side, or of a second look."""


@dataclass(slots=True)
class Leaders:
    """Of each file with several names: the path under which this walk met it first."""

    first: dict[int, bytes] = field(default_factory=dict)

    def leader(self, inode: int, path: bytes) -> bytes:
        """Empty when `path` is the first."""
        first = self.first.setdefault(inode, path)
        return b"" if first == path else first


@dataclass(slots=True)
class Scanned:
    """A directory, looked at once."""

    path: bytes
    attributes: bytes
    """Digest of the directory's own attributes, in this view."""
    entries: list[Entry]
    subdirectories: list[bytes]
    """Names."""
    digest: bytes
    """xxh3_128 over attributes and entries."""
    content_bytes: int
    own: Attributes
    """The directory's own."""
    changed: list[bytes] = field(default_factory=list)
    """Files that changed not before the scanner's `changed_since_ns`; empty for the directory itself."""
    hidden: list[bytes] = field(default_factory=list)
    """Names on which another file system is mounted. What is below that mount is not gone."""


@dataclass(slots=True)
class Scanner:
    """Looks at directories with one view. `report` hears what is left out, or could not be read."""

    tree: Tree
    view: View
    report: Report = ignore
    leaders: Leaders = field(default_factory=Leaders)
    distrust_after_ns: int | None = None
    """Target: files whose ctime is not before this may have lost content in a crash: their time is told wrong by
    one grain, so that they differ."""
    changed_since_ns: int | None = None
    """Source: files whose ctime is not before this are named in `Scanned.changed`."""
    lacks: Shortfall | None = None
    """Target: what it could not keep counts as kept while it is what came of it."""
    selection: Selection | None = None
    """What is looked at; None: everything."""

    def scan(self, path: bytes) -> Scanned:
        """The directory at `path`; OSError when it cannot be opened (gone, no directory, no permission)."""
        fd = self.tree.open_directory(path)
        try:
            return self._scan(fd, path)
        finally:
            os.close(fd)

    def _scan(self, fd: int, path: bytes) -> Scanned:
        attributes = read_attributes(fd, self.view, self.report, path)
        if not self.view.owner and (attributes.uid, attributes.gid) != (self.view.uid, self.view.gid):
            self.report(NotKeptKind.OWNER, path)
        if within(attributes.mtime_ns, self.view) != attributes.mtime_ns:
            self.report(NotKeptKind.TIMES, path)
        own = digest_of(attributes, self.view, self._excused(path, xattrs.digest(attributes.xattrs)))
        names = self._names(fd, path)
        listed = xattrs.list_names(fd, names) if self._looks_at_xattrs() else {}
        entries: list[Entry] = []
        subdirectories: list[bytes] = []
        hidden: list[bytes] = []
        total = 0
        look, append = os.stat, entries.append
        plain, device = self._compares_plainly(), self.tree.device
        oldest, latest = self.view.oldest_ns, self.view.latest_ns
        since = self.changed_since_ns if self.changed_since_ns is not None else _NEVER
        changed = [b""] if since is not _NEVER and os.fstat(fd).st_ctime_ns >= since else []
        excludes = self.selection.excludes if self.selection is not None else None
        for name in names:
            try:
                found = look(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue
            mode = found.st_mode
            if excludes is not None and excludes(path, name, is_directory=stat.S_ISDIR(mode)):
                continue
            # Nearly all entries are such files: as `_entry` would have it, without asking what cannot be.
            if (
                plain
                and mode & _TYPE == stat.S_IFREG
                and found.st_nlink == 1
                and found.st_dev == device
                and oldest <= found.st_mtime_ns <= latest
                and name not in listed
            ):
                size = found.st_size
                append(Entry(name, mode, found.st_uid, found.st_gid, size, found.st_mtime_ns))
                total += size
                if found.st_ctime_ns >= since:
                    changed.append(name)
                continue
            entry = self._entry(fd, path, name, found, listed.get(name))
            if entry is None:
                if found.st_dev != self.tree.device:
                    hidden.append(name)
                continue
            append(entry)
            total += entry.size
            if stat.S_ISDIR(mode):
                subdirectories.append(name)
            elif found.st_ctime_ns >= since:
                changed.append(name)
        digest = xxh3_128_digest(own + _encode(entries))
        return Scanned(path, own, entries, subdirectories, digest, total, attributes, changed, hidden)

    def _compares_plainly(self) -> bool:
        """Whether owner and time of a file are told as they are found."""
        lacks = self.lacks
        return (
            self.view.owner
            and self.view.time_grain_ns == 1
            and not self.view.access_times
            and self.distrust_after_ns is None
            and (lacks is None or not (lacks.attributes or lacks.links))
        )

    def _looks_at_xattrs(self) -> bool:
        view = self.view
        return view.acls or view.user_xattrs or view.capabilities or view.trusted_xattrs

    def _names(self, fd: int, path: bytes) -> list[bytes]:
        names = os.listdir(b"/proc/self/fd/%d" % fd)
        names.sort()
        if path:
            return names
        if STATE_DIRECTORY in names and marker_beneath(fd) is None:
            self.report(NotKeptKind.RESERVED_NAME, STATE_DIRECTORY)
        return [name for name in names if name not in (STATE_DIRECTORY, LOST_AND_FOUND)]

    def look(self, fd: int, path: bytes, name: bytes) -> Entry | None:
        """One entry of the directory `fd` at `path`; None when there is nothing."""
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if self.selection is not None and self.selection.excludes(path, name, is_directory=stat.S_ISDIR(found.st_mode)):
            return None
        return self._entry(fd, path, name, found, xattrs.names_at(xattrs.path_of(fd, name)))

    def _entry(
        self, fd: int, path: bytes, name: bytes, found: os.stat_result, attributes: list[bytes] | None
    ) -> Entry | None:
        mode = found.st_mode
        view = self.view
        if found.st_dev != self.tree.device:
            self.report(NotKeptKind.OTHER_FILE_SYSTEM, join(path, name))
            return None
        if stat.S_ISDIR(mode):
            return Entry(name, stat.S_IFDIR)
        content = b""
        size = 0
        if stat.S_ISREG(mode):
            size = found.st_size
        elif stat.S_ISLNK(mode):
            try:
                content = os.readlink(name, dir_fd=fd)
            except OSError as e:
                if e.errno not in (errno.ENOENT, errno.EINVAL):
                    raise
                return None  # gone, or something else by now
        elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
            if not view.devices:
                self.report(NotKeptKind.DEVICE, join(path, name))
                return None
            content = b"%d:%d" % (os.major(found.st_rdev), os.minor(found.st_rdev))
        leader = self.leaders.leader(found.st_ino, join(path, name)) if found.st_nlink > 1 else b""
        digest = b""
        if attributes or view.access_times:
            digest = self._xattr_digest(fd, path, name, attributes or [], found)
        if self.lacks is not None:
            digest = self._excused(join(path, name), digest)
            leader = leader or self._excused_leader(join(path, name))
        mtime = found.st_mtime_ns
        if not view.oldest_ns <= mtime <= view.latest_ns:
            mtime = self._within(mtime, path, name)
        if view.time_grain_ns != 1:
            mtime -= mtime % view.time_grain_ns
        if self.distrust_after_ns is not None and found.st_ctime_ns >= self.distrust_after_ns and stat.S_ISREG(mode):
            mtime -= view.time_grain_ns
        uid, gid = found.st_uid, found.st_gid
        if not view.owner:
            uid, gid = self._owner(found, path, name)
        return Entry(name, mode, uid, gid, size, mtime, content, leader, digest)

    def _excused(self, path: bytes, digest: bytes) -> bytes:
        """The digest of extended attributes that were wanted, where those that are there are what came of it."""
        lack = self.lacks.attributes.get(path) if self.lacks is not None else None
        return lack.wanted if lack is not None and lack.found == digest else digest

    def _excused_leader(self, path: bytes) -> bytes:
        """Of a file of its own that was to be a further name of another, which could have no more."""
        lack = self.lacks.links.get(path) if self.lacks is not None else None
        return lack.wanted if lack is not None else b""

    def _owner(self, found: os.stat_result, path: bytes, name: bytes) -> tuple[int, int]:
        if (found.st_uid, found.st_gid) != (self.view.uid, self.view.gid):
            self.report(NotKeptKind.OWNER, join(path, name))
        return 0, 0

    def _within(self, time_ns: int, path: bytes, name: bytes) -> int:
        self.report(NotKeptKind.TIMES, join(path, name) if name else path)
        return within(time_ns, self.view)

    def _xattr_digest(self, fd: int, path: bytes, name: bytes, names: list[bytes], found: os.stat_result) -> bytes:
        def report(kind: NotKeptKind) -> None:
            self.report(kind, join(path, name))

        values = xattrs.values_at(xattrs.path_of(fd, name), names, self.view, report) if names else {}
        return xattrs.digest(values | xattrs.access_time(found, self.view))


def attributes_digest(fd: int, view: View) -> bytes:
    """Of the directory `fd` itself."""
    return digest_of(read_attributes(fd, view, ignore, b""), view)


def digest_of(attributes: Attributes, view: View, extended: bytes | None = None) -> bytes:
    """xxh3_128 of a directory's attributes as `view` sees them; `extended`: digest of its extended attributes, None:
    of those in `attributes`."""
    if extended is None:
        extended = xattrs.digest(attributes.xattrs)
    owner = (attributes.uid, attributes.gid) if view.owner else (0, 0)
    mtime = within(attributes.mtime_ns, view)
    mtime -= mtime % view.time_grain_ns
    return xxh3_128_digest(_encode((attributes.mode, *owner, mtime, extended)))


def read_attributes(fd: int, view: View, report: Report, path: bytes) -> Attributes:
    """Of an open file or directory."""
    found = os.fstat(fd)
    names = xattrs.names_at(fd)
    values = xattrs.values_at(fd, names, view, lambda kind: report(kind, path)) if names else {}
    return Attributes(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, values)
