"""The volume that is written. Ours on it is `.storagemirror/`; all else is the source's."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from typing import Self

import msgspec

from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, Attributes, Identity, NotKeptKind, View, join, split
from storagemirror.errors import VolumeError
from storagemirror.fs import marker as state
from storagemirror.fs import partial, redo
from storagemirror.fs.abilities import probe, takes_labels
from storagemirror.fs.identity import Facts, Lifetime, facts, identity, lifetime
from storagemirror.fs.incoming import IncomingFile
from storagemirror.fs.journal.journal import (
    NO_POINT,
    WAS_LIVE,
    Journal,
    NotPromotable,
    Promotable,
    left_beneath,
    promotable_beneath,
)
from storagemirror.fs.journal.others import Nobody, Others
from storagemirror.fs.journal.volume import Volume
from storagemirror.fs.locks import Locks
from storagemirror.fs.partial import ResumedFile
from storagemirror.fs.patch import Base, IncomingDelta
from storagemirror.fs.place import Placer, raise_if_full
from storagemirror.fs.remove import count_entries, remove_entry
from storagemirror.fs.scan import Leaders, Report, Scanner, ignore, read_attributes
from storagemirror.fs.selection import Selection
from storagemirror.fs.shortfall import Shortfall
from storagemirror.fs.syscalls import syncfs
from storagemirror.fs.tree import Tree
from storagemirror.point import End

_TEMPORARY = b"tmp"
_LOCK = b"lock"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CTIME_MARGIN_NS = 1_000_000_000
_COPY = 1 << 20


class TargetVolume:
    """A directory that is written. Nothing is changed before `claim`."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.identity: Identity = identity(tree.root)
        self.lifetime: Lifetime = lifetime(tree.root)
        self.view = View()
        """What it can hold; known after `claim`."""
        self.report: Report = ignore
        self.selection: Selection | None = None
        """What is mirrored; None: everything. Of the session that goes on."""
        self.distrust_after_ns: int | None = None
        """Files changed since may have lost content in a crash; until a full mirror has looked at them again."""
        self.takes_labels = False
        """SELinux's; known after `claim`."""
        self.locks = Locks(tree)
        self.others: Others = Nobody()
        """Who watches what somebody else does to it."""
        self.shortfall = Shortfall()
        """What an earlier session could not keep; read by the session."""
        self.unsynced = False
        """The last sync failed, or an earlier session ended without one."""
        self._state = -1
        self._temporary = -1
        self._lock = -1
        self._placer: Placer | None = None
        self._journal: Journal | None = None

    @classmethod
    def open(cls, path: str | bytes) -> Self:
        """`VolumeError` when there is no directory at `path`. Changes nothing."""
        return cls(Tree(path))

    def close(self) -> None:
        """Let go of it (and of its lock)."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
        for fd in (self._temporary, self._state, self._lock):
            if fd >= 0:
                os.close(fd)
        self._temporary = self._state = self._lock = -1
        self.tree.close()

    def __enter__(self) -> TargetVolume:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def facts(self) -> Facts:
        """Size and free space of its file system."""
        return facts(self.tree.root)

    def is_empty(self) -> bool:
        """Whether nothing is there but `lost+found` and what is ours."""
        return not set(os.listdir(b"/proc/self/fd/%d" % self.tree.root)) - {LOST_AND_FOUND, STATE_DIRECTORY}

    def marker(self) -> state.Marker | None:
        """Whose copy this is; None: nobody's (yet)."""
        fd = self.open_state()
        if fd is None:
            return None
        try:
            return state.read_marker(fd)
        finally:
            os.close(fd)

    def claim(self) -> None:
        """Make our directory, lock it, clear what a killed session left, and find out what can be held.

        `VolumeError`: TargetNotWritable, TargetBusy (another process writes it), TargetUnusable. `VolumeFull`.
        """
        try:
            self._claim()
        except OSError as e:
            raise _not_writable(e, "Is it mounted read-only, or owned by another user than the agent runs as?") from e

    def _claim(self) -> None:
        if self._state >= 0:
            if self._journal is not None:
                self._journal.recover()  # of an earlier session, or what could not be finished then
            return
        root = self.tree.root
        before = os.fstat(root)
        made = False
        with contextlib.suppress(FileExistsError):
            os.mkdir(STATE_DIRECTORY, 0o700, dir_fd=root)
            made = True
        opened = self.open_state()
        if opened is None:
            raise FileNotFoundError(errno.ENOENT, "our directory was removed just now")
        self._state = opened
        self._lock_it()
        with contextlib.suppress(FileExistsError):
            os.mkdir(_TEMPORARY, 0o700, dir_fd=self._state)
        self._temporary = os.open(_TEMPORARY, _DIRECTORY, dir_fd=self._state)
        for place in (self._state, self._temporary):
            for inherited in (b"system.posix_acl_default", b"system.posix_acl_access"):
                with contextlib.suppress(OSError):
                    os.removexattr(place, inherited)
        self._clear_temporary()
        self.view = probe(self._temporary)
        self.takes_labels = takes_labels(self._temporary)
        redo.recover(self._state, self.tree, Placer(self._temporary, self.view, ignore))
        ours = Volume(self.tree, self.placer, self.locks, self._tell, lambda: self.others)
        self._journal = Journal(self._state, ours)
        self._journal.recover()
        if made:
            with contextlib.suppress(OSError):
                os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))

    def open_state(self) -> int | None:
        """A descriptor of our directory, to be closed; None when there is none. `VolumeError` TargetUnusable."""
        try:
            return os.open(STATE_DIRECTORY, _DIRECTORY, dir_fd=self.tree.root)
        except FileNotFoundError:
            return None
        except OSError as e:
            if e.errno in (errno.ENOTDIR, errno.ELOOP):
                raise VolumeError(
                    "expected .storagemirror on the target to be a directory of ours; it is something else",
                    reason="TargetUnusable",
                    hint="Move it away: its name is ours.",
                ) from e
            raise

    def _lock_it(self) -> None:
        self._lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._state)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            raise VolumeError(
                "another process is writing this target volume",
                reason="TargetBusy",
                hint="Two pairs must not share a target; an agent that is being replaced lets go by itself.",
            ) from e

    def _clear_temporary(self) -> None:
        resumable = partial.kept(self._state, self._temporary) is not None
        for name in os.listdir(b"/proc/self/fd/%d" % self._temporary):
            if resumable and name == partial.NAME:
                continue
            try:
                os.unlink(name, dir_fd=self._temporary)
            except PermissionError:  # killed while it tried what flags can be set
                if not self.locks.unlock_entry(self._temporary, name):
                    raise
                os.unlink(name, dir_fd=self._temporary)
            except IsADirectoryError:
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=self._temporary)

    def promotable(self) -> Promotable | NotPromotable:
        """Whether it is exactly a point, as far as it says so itself. Known before `claim` too. OSError."""
        fd = self.open_state()
        if fd is None:
            return NotPromotable(NO_POINT, "nothing was ever written to it")
        try:
            found = self._journal.promotable() if self._journal is not None else promotable_beneath(fd)
            marker = state.read_marker(fd)
        finally:
            os.close(fd)
        if isinstance(found, Promotable) and marker is not None and marker.promoted is not None:
            return WAS_LIVE
        return found

    @property
    def held(self) -> End | None:
        """Of the point that is held back (`Journal.held`); None: there is none, or it is not known before `claim`."""
        journal = self._journal
        return journal.held if journal is not None else None

    @property
    def unlooked(self) -> bool:
        """Whether a point lies there that an agent before us was told, and only `claim` can say what it is. OSError."""
        fd = self.open_state() if self._journal is None else None
        if fd is None:
            return False
        try:
            return left_beneath(fd)
        finally:
            os.close(fd)

    @property
    def journal(self) -> Journal:
        """Of points; after `claim`, which has applied what was committed before, and holds what is to be held."""
        if self._journal is None:
            raise AssertionError("claim the volume first")
        return self._journal

    @property
    def ours(self) -> int:
        """Descriptor of our directory; after `claim`."""
        return self._state

    @property
    def temporary(self) -> int:
        """Descriptor of the directory for what has not got its place yet; after `claim`."""
        return self._temporary

    @property
    def placer(self) -> Placer:
        """Makes entries; after `claim`."""
        if self._placer is None:
            self._placer = Placer(self._temporary, self.view, self._tell, self.shortfall)
        return self._placer

    def _tell(self, kind: NotKeptKind, path: bytes) -> None:
        self.report(kind, path)  # looked up each time: each session has a report of its own

    def scanner(self, view: View) -> Scanner:
        """Something that looks at directories as both sides compare them."""
        lacks = self.shortfall if self.shortfall.attributes or self.shortfall.links else None
        return Scanner(
            self.tree, view, ignore, Leaders(), self.distrust_after_ns, lacks=lacks, selection=self.selection
        )

    # -- what it says about itself

    def write_marker(self, marker: state.Marker) -> None:
        """Durable when it returns."""
        self._full_or(lambda: state.write_marker(self._state, marker))

    def hold(self) -> state.HoldRecord | None:
        """The last hold, if nothing went through since."""
        return state.read_hold(self._state)

    def write_hold(self, hold: state.HoldRecord | None) -> None:
        """Durable when it returns."""
        self._full_or(lambda: state.write_hold(self._state, hold))

    def synced(self) -> state.Synced | None:
        """What the last syncfs that succeeded covered. Known before `claim` too."""
        if self._state >= 0:
            return state.read_synced(self._state)
        fd = self.open_state()
        if fd is None:
            return None
        try:
            return state.read_synced(fd)
        finally:
            os.close(fd)

    def sync(self, through_ns: int, deleted: int, base: int = 0) -> None:
        """Make everything durable, and remember that; `VolumeError` when the disk refuses."""
        last = state.read_synced(self._state)
        at = time.time_ns() - _CTIME_MARGIN_NS
        if self.distrust_after_ns is not None:
            at = min(at, self.distrust_after_ns)
        try:
            syncfs(self.tree.root)
        except OSError as e:
            self.unsynced = True
            raise_if_full(e)
            raise VolumeError(f"the target could not be synced: {e.strerror}", reason="TargetFailing") from e
        self.unsynced = False
        sequence = last.sequence + 1 if last is not None else 1
        self._full_or(lambda: state.write_synced(self._state, state.Synced(sequence, at, through_ns, deleted, base)))

    def remember(self, through_ns: int) -> None:
        """Nothing has changed since the last sync: it covers the source up to `through_ns` as well."""
        last = state.read_synced(self._state)
        if last is not None:
            now = msgspec.structs.replace(last, sequence=last.sequence + 1, through_ns=through_ns)
            self._full_or(lambda: state.write_synced(self._state, now))

    @staticmethod
    def _full_or(write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as e:
            raise _not_writable(e) from e

    # -- changes

    def directory(self, path: bytes) -> int:
        """A descriptor of the directory at `path`; OSError when it is none."""
        return self.tree.open_directory(path)

    def enter(self, path: bytes) -> tuple[int, bool]:
        """A descriptor of the directory at `path`, made (with what leads to it) when it is not there, and whether it
        was made. OSError ENOTDIR when something else is in the way."""
        made = False
        try:
            fd = self.tree.open_directory(path)
        except FileNotFoundError:
            if not path:
                raise
            fd, made = self._make(path)
        if not self.view.owner:
            self.others.touch(path)
            self._let_us_in(fd)
        return fd, made

    def _make(self, path: bytes) -> tuple[int, bool]:
        """As `enter`, name by name: a path may have thousands of them."""
        fd, made = os.dup(self.tree.root), False
        watched, at = self.others.armed, b""
        try:
            for name in path.split(b"/"):
                if not self.view.owner:
                    self.others.touch(at)
                    self._let_us_in(fd)
                if watched:
                    at = join(at, name)
                    self.others.touch(at)
                try:
                    deeper = self.tree.open_child(fd, name)
                except FileNotFoundError:
                    made = self.placer.directory(fd, name)
                    deeper = self.tree.open_child(fd, name)
                os.close(fd)
                fd = deeper
        except BaseException:
            os.close(fd)
            raise
        return fd, made

    @staticmethod
    def _let_us_in(fd: int) -> None:
        """Without privilege a directory's own mode may keep us out; it gets its mode back when it is left."""
        mode = os.fstat(fd).st_mode
        if mode & 0o700 != 0o700:
            with contextlib.suppress(OSError):
                os.fchmod(fd, mode | 0o700)

    def begin(self, path: bytes, attributes: Attributes, size: int = 0) -> IncomingFile:
        """A large file of about `size` bytes, written under a temporary name."""
        if size < partial.LEAST:
            return IncomingFile(self.placer, self._temporary, path, attributes)
        partial.remember(self._state, self._temporary, path)
        return IncomingFile(self.placer, self._temporary, path, attributes, keep_as=partial.NAME)

    def partial(self) -> tuple[bytes, int] | None:
        """Path and size of a file that an earlier session did not finish; after `claim`."""
        return partial.kept(self._state, self._temporary)

    def open_partial(self, path: bytes) -> Base | None:
        """What is kept of the file at `path`; None: nothing."""
        return partial.open_base(self._state, self._temporary, path) if self._state >= 0 else None

    def forget_partial(self) -> None:
        """It is not needed. OSError."""
        partial.forget(self._state, self._temporary)

    def resume(self, path: bytes, attributes: Attributes, base: Base) -> ResumedFile:
        """The rest comes of a file that an earlier session did not finish."""
        return ResumedFile(self.placer, self._temporary, path, attributes, base)

    def begin_delta(self, path: bytes, attributes: Attributes, base: Base) -> IncomingDelta:
        """A large file that comes as what differs from `base`."""
        return IncomingDelta(path, attributes, base, placer=self.placer, state=self._state, temporary=self._temporary)

    def finish(self, incoming: IncomingFile | IncomingDelta, size: int) -> None:
        """Give it its attributes and its name; OSError EISDIR when a directory has it."""
        directory, name = split(incoming.path)
        fd, _ = self.enter(directory)
        self.others.touch(incoming.path)
        try:
            incoming.finish(fd, name, size)
        finally:
            os.close(fd)

    def link(self, path: bytes, leader: bytes) -> None:
        """`path` becomes a further name of `leader`; OSError ENOENT when that is not there, EMLINK when it has too
        many, EISDIR when a directory is in the way."""
        leader_directory, leader_name = split(leader)
        directory, name = split(path)
        leader_fd = self.tree.open_directory(leader_directory)
        try:
            fd, _ = self.enter(directory)
            self.others.touch(path)
            try:
                self.placer.link(leader_fd, leader_name, fd, name)
            finally:
                os.close(fd)
        finally:
            os.close(leader_fd)

    def copy(self, path: bytes, leader: bytes) -> None:
        """As `link`, where the file may have no more names: `path` becomes a file of its own, equal to `leader`."""
        leader_directory, leader_name = split(leader)
        directory_fd = self.tree.open_directory(leader_directory)
        try:
            fd = os.open(leader_name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory_fd)
        finally:
            os.close(directory_fd)
        try:
            incoming = self.begin(path, read_attributes(fd, self.view, ignore, path))
            try:
                at = 0
                while data := os.pread(fd, _COPY, at):
                    incoming.write(at, memoryview(data))
                    at += len(data)
                self.finish(incoming, at)
            except BaseException:
                incoming.drop()
                raise
        finally:
            os.close(fd)

    def rename(self, old: bytes, new: bytes) -> None:
        """OSError when it cannot be: `old` is not there, or something in the way of `new` cannot be replaced."""
        try:
            self._rename(old, new)
        except OSError as e:
            if not self.locks.yields(e, old, new):
                raise
            self._rename(old, new)
        self.others.through()

    def _rename(self, old: bytes, new: bytes) -> None:
        old_directory, old_name = split(old)
        new_directory, new_name = split(new)
        old_fd = self.tree.open_directory(old_directory)
        try:
            new_fd = self.tree.open_directory(new_directory)
            self.others.touch(old)
            self.others.touch(new)
            try:
                os.rename(old_name, new_name, src_dir_fd=old_fd, dst_dir_fd=new_fd)
            finally:
                os.close(new_fd)
        finally:
            os.close(old_fd)

    def count(self, path: bytes, forget: Callable[[bytes], bool]) -> int:
        """How many entries deleting `path` would delete, those not counted of which `forget(path)` is true, nor what
        is left out."""
        return count_entries(self.tree, path, forget, self.selection)

    def delete(self, path: bytes) -> int:
        """Delete `path` with all that is below, but for what is left out; how many entries that were (0: nothing was
        there)."""
        try:
            return remove_entry(self.tree, path, self._let_us_in, self.selection, self.others.touch)
        except PermissionError:
            if not self.locks.unlock_tree(path):
                raise
            return remove_entry(self.tree, path, self._let_us_in, self.selection, self.others.touch)


def _not_writable(error: OSError, hint: str = "") -> VolumeError:
    """`VolumeFull` where it is that."""
    raise_if_full(error)
    message = f"cannot write to the target volume: {error.strerror}"
    if error.errno in (errno.EIO, errno.EUCLEAN):
        return VolumeError(message, reason="TargetFailing", hint="Its disk fails: look at its node's kernel log.")
    return VolumeError(message, reason="TargetNotWritable", hint=hint)
