"""What arrives, put into the target volume. An entry that fails is reported, and the rest goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.entry import NotKeptKind, join
from storagemirror.errors import ProtocolError, VolumeError, VolumeFull
from storagemirror.fs.incoming import IncomingFile
from storagemirror.fs.newfiles import NewFiles
from storagemirror.fs.partial import ResumedFile
from storagemirror.fs.patch import Base, IncomingDelta
from storagemirror.fs.place import raise_if_full
from storagemirror.fs.remove import in_the_way
from storagemirror.fs.shortfall import Lack
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.deletions import Deletions
from storagemirror.sync.guard import path_hash
from storagemirror.sync.knownsums import Coming, KnownSums
from storagemirror.sync.sparing import Sparing
from storagemirror.wire import messages as m
from storagemirror.wire.content import Child, ContentDigest, Data, Enter, File, Leave, Node, Pack, Symlink, Touch

_REASONS = {
    errno.ENOSPC: m.FailureReason.FULL,
    errno.EDQUOT: m.FailureReason.FULL,
    errno.EROFS: m.FailureReason.READ_ONLY,
    errno.EPERM: m.FailureReason.DENIED,
    errno.EACCES: m.FailureReason.DENIED,
    errno.EIO: m.FailureReason.IO,
    errno.EISDIR: m.FailureReason.CONFLICT,
    errno.ENOTDIR: m.FailureReason.CONFLICT,
    errno.ENOTEMPTY: m.FailureReason.CONFLICT,
}


_Inner = File | Symlink | Node | Touch | Child | Leave

_REMEMBERED = 100_000
"""Failures that are known by name; beyond, no file gets attributes alone."""


@dataclass(slots=True)
class Applier:
    """Applies packs, large files and what goes by path. `tell` sends a report to the source."""

    volume: TargetVolume
    deletions: Deletions
    tell: Callable[[m.Message], None]
    failed: int = 0
    """Since `forget_failures`."""
    first: m.Failed | None = None
    held_back: bool = False
    """The guard did not let a deletion through, and everything has not been compared since."""
    live: bool = True
    """No comparison of everything is running: what appears is new since the last one."""
    sparing: Sparing | None = None
    """While the volume is brought home: what must not be overwritten although nothing showed it."""
    known: KnownSums | None = None
    """What is kept of the sums of large files; None: nothing is."""
    _coming: Coming | None = None
    _fd: int = -1
    _path: bytes = b""
    _fresh: bool = False
    _made: bool = False
    _new: NewFiles | None = None
    """Makes files in the directory that is entered, when that is a new one."""
    _skip: bool = False
    _inside: bool = False
    """Of the directory that is entered: it was made just now, and all in it counts as touched."""
    _incoming: IncomingFile | IncomingDelta | None = None
    _digest: ContentDigest = field(default_factory=ContentDigest)
    _dropped: bool = False
    changed: bool = False
    """Whether anything was written since this was last set to False."""
    _old: set[int] = field(default_factory=set)
    """Hashes of paths that could not be written: what is there may be the old content, which must not get the time of
    the new one."""

    def forget_failures(self) -> None:
        """A mirror begins: it looks at everything again."""
        self.failed, self.first, self.held_back = 0, None, False
        self._old.clear()

    def fail(self, path: bytes, error: Exception) -> None:
        """Report one entry."""
        if isinstance(error, VolumeFull):
            reason, message = m.FailureReason.FULL, error.message
        elif isinstance(error, OSError):
            reason = _REASONS.get(error.errno or 0, m.FailureReason.OTHER)
            message = error.strerror or str(error)
        else:
            reason, message = m.FailureReason.OTHER, str(error)
        report = m.Failed(path, reason, message)
        self.failed += 1
        if len(self._old) < _REMEMBERED:
            self._old.add(path_hash(path))
        # What stops everything counts for more than what stops one entry.
        if self.first is None or (
            reason in (m.FailureReason.FULL, m.FailureReason.READ_ONLY, m.FailureReason.IO)
            and self.first.reason is not m.FailureReason.FULL
        ):
            self.first = report
        self.tell(report)

    def _written(self, path: bytes) -> None:
        if self._old:
            self._old.discard(path_hash(path))

    def _may_be_old(self, path: bytes) -> bool:
        """Whether what is at `path` may not be what the source believes: a comparison has to look first."""
        return bool(self._old) and (len(self._old) >= _REMEMBERED or path_hash(path) in self._old)

    def guarded(self, path: bytes) -> None:
        """Report a deletion that the guard did not let through."""
        self.held_back = True
        self.tell(m.Failed(path, m.FailureReason.GUARDED, "too many deletions since the last full comparison"))

    # -- packs

    def pack(self, pack: Pack) -> None:
        """All that is in it, in order."""
        self.changed = True
        others = self.volume.others
        touch = others.touch if others.armed else None
        try:
            for record, content in pack:
                if isinstance(record, Enter):
                    self._enter(record)
                    continue
                if self._skip:
                    continue
                try:
                    if touch is not None and not self._inside:
                        touch(self._path if isinstance(record, Leave) else join(self._path, record.name))
                    if self._new is not None and type(record) is File:  # nearly all of a first copy
                        self._put_new(self._new, record, content)
                    else:
                        self._record(record, content)
                except (OSError, VolumeFull, ValueError, OverflowError) as e:
                    self._again(record, content, e)
        finally:
            self._close_directory()

    def _again(self, record: _Inner, content: memoryview, error: Exception) -> None:
        """Where a lock of ours was in the way; else it has failed."""
        path = self._path if isinstance(record, Leave) else join(self._path, record.name)
        try:
            if not isinstance(error, OSError) or not self.volume.locks.yields(error, path):
                raise error
            self._record(record, content)
        except (OSError, VolumeFull, ValueError, OverflowError) as e:
            self.fail(path, e)

    def _record(self, record: _Inner, content: memoryview) -> None:
        placer = self.volume.placer
        match record:
            case File() if self._new is not None:
                self._put_new(self._new, record, content)
            case Leave():
                self._new, self._inside = None, False
                self.volume.others.touch(self._path)
                placer.leave(self._fd, self._path, record.attributes, fresh=self._made and bool(self._path))
            case _:
                self._put(record, content)

    def _put_new(self, new: NewFiles, record: File, content: memoryview) -> None:
        try:
            new.put(record.name, record.attributes, content)
        except FileExistsError:
            self._put(record, content)
            return
        except OSError as e:
            raise_if_full(e)
            raise
        if self.live:
            self.deletions.created(join(self._path, record.name))

    def _enter(self, record: Enter) -> None:
        self._close_directory()
        self._path, self._fresh, self._skip, self._inside = record.path, record.fresh, False, False
        locks = self.volume.locks
        try:
            try:
                self._fd, self._made = self._open(record.path)
            except OSError as e:
                if not locks.yields(e, record.path):
                    raise
                self._fd, self._made = self._open(record.path)
            if locks.active:
                locks.unlock(self._fd, record.path)
        except (OSError, VolumeFull) as e:
            self._skip = True
            self.fail(record.path, e)
            return
        if record.fresh and not self._made and not record.path:
            self.volume.others.touch(b"")
            self.volume.placer.bare(self._fd)  # nobody made the root
        if self._made:
            self._inside = True
            self.volume.others.touch_within(record.path)
        if self.live and self._made:
            self.deletions.created(record.path)
        # A directory that an earlier pack of this mirror made is as new as one made now.
        self._made = self._made or record.fresh
        if record.fresh:
            self._new = self.volume.placer.new_files(self._fd, record.path)

    def _open(self, path: bytes) -> tuple[int, bool]:
        try:
            return self.volume.enter(path)
        except OSError as e:
            if e.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST) or not path:
                raise
        # Something that is no directory is in its place, or in that of a directory above.
        part = self.volume.tree.obstacle(path)
        if part is not None and not self._make_way(part):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), part)
        return self.volume.enter(path)

    def _put(self, record: File | Symlink | Node | Touch | Child, content: memoryview) -> None:
        """In place of what is there: what is no directory is replaced in one step, a directory must be deletable."""
        try:
            self._put_once(record, content)
        except OSError as e:
            if not in_the_way(e) or not self._make_way(join(self._path, record.name)):
                raise
            self._put_once(record, content)

    def _put_once(self, record: File | Symlink | Node | Touch | Child, content: memoryview) -> None:
        placer, fd, path = self.volume.placer, self._fd, self._path
        match record:
            case File():
                self._note_new(record.name)
                if self.sparing is not None:
                    self.sparing.spare(fd, path, record.name, len(content), record.attributes.mtime_ns)
                placer.file(fd, path, record.name, record.attributes, content)
                self._written(join(path, record.name))
            case Symlink():
                self._note_new(record.name)
                placer.symlink(fd, path, record.name, record.attributes, record.content)
            case Node():
                self._note_new(record.name)
                device = os.makedev(record.major, record.minor)
                placer.node(fd, path, record.name, record.attributes, device)
            case Touch():
                if self.volume.locks.active:
                    self.volume.locks.unlock_entry(fd, join(path, record.name))
                if not self._may_be_old(join(path, record.name)):
                    placer.touch(fd, path, record.name, record.attributes)
            case Child():
                if placer.directory(fd, record.name) and self.live:
                    self.deletions.created(join(path, record.name))

    def _note_new(self, name: bytes) -> None:
        """Live, an entry that was not there is new since the last comparison."""
        if self.live:
            try:
                os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                self.deletions.created(join(self._path, name))

    def _make_way(self, path: bytes) -> bool:
        self._inside = False  # what was touched may be forgotten
        if not self.deletions.delete(path):
            self.guarded(path)
            return False
        self.volume.others.touch(path)  # it is changed once more
        return True

    def _close_directory(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._new = None

    # -- large files

    def begin(self, message: m.Begin) -> None:
        """A large file comes."""
        self.changed = True
        self._begin_file(message.attributes.mtime_ns, None)
        try:
            self._incoming = self.volume.begin(message.path, message.attributes, message.size)
        except (OSError, VolumeFull) as e:
            self._drop(message.path, e)

    def delta(self, message: m.Delta, base: Base) -> None:
        """A large file comes as what differs from `base`, which is ours from now on."""
        self.changed = True
        self._begin_file(message.attributes.mtime_ns, base)
        try:
            begin = self.volume.resume if base.partial else self.volume.begin_delta
            self._incoming = begin(message.path, message.attributes, base)
        except (OSError, VolumeFull) as e:
            base.close()
            self._drop(message.path, e)

    def _begin_file(self, mtime_ns: int, base: Base | None) -> None:
        self._digest = ContentDigest()
        self._incoming, self._dropped, self._coming = None, False, None
        if self.known is not None and (base is None or not base.partial):
            self._coming = Coming(self.known, mtime_ns, None if base is None else base.found)

    def hole(self, message: m.Hole) -> None:
        """Zeros in it."""
        self._digest.add_hole(message.offset, message.length)
        incoming = self._incoming
        if incoming is None:
            return
        if not isinstance(incoming, IncomingDelta | ResumedFile):
            raise ProtocolError("expected a Hole within a Delta alone")
        if self._coming is not None:
            self._coming.hole(message.offset, message.length)
        try:
            incoming.hole(message.offset, message.length)
        except (OSError, ValueError) as e:
            self._drop(incoming.path, e)

    def copy(self, message: m.Copy) -> None:
        """What its base has elsewhere."""
        self._digest.add_copy(message.offset, message.start, message.length)
        incoming = self._incoming
        if incoming is None:
            return
        if not isinstance(incoming, IncomingDelta):
            raise ProtocolError("expected a Copy within a Delta alone")
        if self._coming is not None:
            self._coming.copy()
        try:
            incoming.copy(message.offset, message.start, message.length)
        except (OSError, VolumeFull, ValueError) as e:
            self._drop(incoming.path, e)

    def data(self, data: Data) -> None:
        """A piece of it."""
        self._digest.add(data.offset, data.content)
        if self._incoming is None:
            return
        if self._coming is not None:
            self._coming.data(data.offset, data.content)
        try:
            self._incoming.write(data.offset, data.content)
        except (OSError, VolumeFull, ValueError) as e:
            self._drop(self._incoming.path, e)

    def end(self, message: m.End) -> None:
        """It is whole: it gets its name, if it is what was sent."""
        if self._digest.digest() != message.digest:
            self.drop()
            raise ProtocolError("a file's content is not what its checksum says: it was damaged on the way")
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        if message.mtime_ns is not None:
            incoming.set_time(message.mtime_ns)
        if self.live and self.volume.tree.lstat(incoming.path) is None:
            self.deletions.created(incoming.path)
        coming = self._coming
        sums = coming.sums(message.size) if coming is not None else None
        try:
            self.volume.others.touch(incoming.path)
            if isinstance(incoming, IncomingDelta):
                incoming.complete(message.size, in_place=self.sparing is None)
            if self.sparing is not None and message.mtime_ns is not None:
                self.sparing.spare_at(incoming.path, message.size, message.mtime_ns)
            try:
                self._finish(incoming, message.size)
            except OSError as e:
                if not in_the_way(e) or not self._make_way(incoming.path):
                    raise
                self._finish(incoming, message.size)
            self._written(incoming.path)
            if coming is not None:
                coming.mtime_ns = message.mtime_ns if message.mtime_ns is not None else coming.mtime_ns
                coming.written(self.volume.tree.lstat(incoming.path), sums)
        except (OSError, VolumeFull) as e:
            incoming.drop()
            self.fail(incoming.path, e)

    def _finish(self, incoming: IncomingFile | IncomingDelta, size: int) -> None:
        try:
            self.volume.finish(incoming, size)
        except OSError as e:
            if not self.volume.locks.yields(e, incoming.path):
                raise
            self.volume.finish(incoming, size)

    def leave(self) -> None:
        """The session ends: what has come of a large file is kept where it can be gone on with."""
        incoming, self._incoming = self._incoming, None
        if isinstance(incoming, IncomingFile):
            incoming.leave()
        elif incoming is not None:
            incoming.drop()

    def drop(self) -> None:
        """Forget the large file, if there is one."""
        if self._incoming is not None:
            self._incoming.drop()
            self._incoming = None

    def _drop(self, path: bytes, error: Exception) -> None:
        self.drop()
        self.fail(path, error)

    # -- by path

    def link(self, message: m.Link) -> None:
        """A further name."""
        self.changed = True
        path = message.path
        try:
            if self.live and self.volume.tree.lstat(path) is None:
                self.deletions.created(path)
            lacks = self.volume.shortfall
            try:
                self._link(path, message.leader)
                if lacks.links:
                    lacks.note(lacks.links, path, None)
            except OSError as e:
                if e.errno == errno.EMLINK:
                    self.volume.copy(path, message.leader)
                    self.tell(m.NotKept(NotKeptKind.HARD_LINK, path))
                    lacks.note(lacks.links, path, Lack((NotKeptKind.HARD_LINK,), message.leader))
                    return
                if not in_the_way(e) or not self._make_way(path):
                    raise
                self.volume.link(path, message.leader)
        except (OSError, VolumeFull) as e:
            self.fail(path, e)

    def _link(self, path: bytes, leader: bytes) -> None:
        try:
            self.volume.link(path, leader)
        except OSError as e:
            if not self.volume.locks.yields(e, leader, path):
                raise
            self.volume.link(path, leader)

    def rename(self, message: m.Rename) -> None:
        """Where it can be done; the source looks at both paths afterwards, whatever came of it."""
        self.changed = True
        for old, new in message.renames:
            try:
                if not self.deletions.rename(old, new):
                    self.guarded(new)
            except OSError:
                continue

    def delete(self, message: m.Delete) -> None:
        """With all that is below."""
        self.changed = True
        for path in message.paths:
            try:
                if not self.deletions.delete(path, in_the_way=message.in_the_way):
                    self.guarded(path)
            except (OSError, VolumeFull, VolumeError) as e:
                self.fail(path, e)
