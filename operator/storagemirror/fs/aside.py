"""What a volume held that nobody else does, kept aside: `.storagemirror/diverged/<epoch>/`.

It is moved there by rename, under the path that it had, so that nothing of it is read, copied or changed; a directory
goes with all that is in it. The directories that lead to it are made with the attributes of those that they stand for,
and marked (an extended attribute), so that they are not counted. Where a name is taken, by an earlier attempt, another
is found (`name.1`): nothing that was kept is ever overwritten.

`diverged/<epoch>.json` says what is there, written durably once everything is. Until then nothing counts as kept: the
count is taken from what lies there, so that a pass that was killed is simply done again.

A kept name of a file that has another name outside gets a content of its own (`storagemirror.fs.unshare`); where there
is no room for that it stays shared, and what is written through the name that stayed shows in both.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator

import msgspec

from storagemirror.entry import NAME_MAX, Attributes, join, printable, split
from storagemirror.errors import VolumeError, VolumeFull
from storagemirror.fs import marker as state
from storagemirror.fs import xattrs
from storagemirror.fs.kept import DIVERGED, KEPT, PARENT, Record, Tally, count, is_parent, mark, record_name, walk
from storagemirror.fs.place import raise_if_full
from storagemirror.fs.scan import ignore, read_attributes
from storagemirror.fs.syscalls import chmod_no_follow
from storagemirror.fs.target import TargetVolume
from storagemirror.fs.tree import Tree
from storagemirror.fs.unshare import shared, unshare

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Aside:
    """The place for one epoch, on a volume that was claimed. Made when the first thing is kept.

    `place` and `name`: another place in our directory, for what is moved aside on another occasion."""

    def __init__(self, volume: TargetVolume, epoch: int, *, place: bytes = DIVERGED, name: bytes | None = None) -> None:
        self._volume = volume
        self._epoch = epoch
        self._place = place
        self._name = name if name is not None else b"%d" % epoch
        self._all = -1
        self._tree: Tree | None = None
        self._numbers = 0

    def close(self) -> None:
        """Let go of it."""
        if self._tree is not None:
            self._tree.close()
            self._tree = None
        if self._all >= 0:
            os.close(self._all)
            self._all = -1

    # -- keeping

    def keep(self, directory: int, path: bytes, name: bytes) -> None:
        """Move `name` of the directory `directory` at `path`, with all that is below. What has gone meanwhile is no
        error. `VolumeError` NotKeptAside when it cannot be moved, `VolumeFull` when there is no room for what leads to
        it."""
        try:
            place = self._parents(path)
            try:
                with self._let_in(directory, name):
                    os.rename(name, self._free(place, name), src_dir_fd=directory, dst_dir_fd=place)
            finally:
                os.close(place)
        except OSError as e:
            if e.errno == errno.ENOENT and not _is_there(directory, name):
                return
            raise_if_full(e)
            raise _cannot(join(path, name), e) from e

    @contextlib.contextmanager
    def _let_in(self, directory: int, name: bytes) -> Iterator[None]:
        """Without privilege the modes of a directory, and of one that is in it, may keep even their owner from moving
        that: they get them back at once."""
        if self._volume.view.owner:
            yield
            return
        before = os.fstat(directory)
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        _widen(directory, before)
        moved = -1
        if stat.S_ISDIR(found.st_mode):
            with contextlib.suppress(OSError):
                chmod_no_follow(xattrs.path_of(directory, name), stat.S_IMODE(found.st_mode) | 0o700)
            moved = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            yield
        finally:
            _narrow(directory, before)
            if moved >= 0:
                _narrow(moved, found)
                os.close(moved)

    def keep_attributes(self, path: bytes, *, again: bool) -> None:
        """Keep what the directory at `path` is by itself: an empty one with its attributes, which counts. `again`: of
        an earlier attempt those of another one may be kept already."""
        try:
            place = self._parents(path)
            try:
                taken = not is_parent(place)
                mark(place, KEPT)
            finally:
                os.close(place)
            if taken and again and path:
                self._keep_beside(path)
        except OSError as e:
            raise_if_full(e)
            raise _cannot(path, e) from e

    def _keep_beside(self, path: bytes) -> None:
        parent, name = split(path)
        above = self._parents(parent)
        try:
            self._make(path, above, self._free(above, name), marked=False)
        finally:
            os.close(above)

    def kept(self, path: bytes) -> bool:
        """Whether something that was at `path` is kept already."""
        tree = self._open(make=False)
        if tree is None:
            return False
        found = tree.lstat(path)
        if found is None:
            return False
        if not stat.S_ISDIR(found.st_mode):
            return True
        fd = tree.open_directory(path)
        try:
            return not is_parent(fd)
        finally:
            os.close(fd)

    def _parents(self, path: bytes) -> int:
        """A descriptor of the directory that stands for that at `path`."""
        tree = self._open(make=True)
        if tree is None:
            raise AssertionError("it was made")
        try:
            return tree.open_directory(path)
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
        fd = os.dup(tree.root)
        at = b""
        for name in path.split(b"/"):
            at = join(at, name)
            try:
                deeper = self._step(fd, at, name)
            finally:
                os.close(fd)
            fd = deeper
        return fd

    def _step(self, above: int, path: bytes, name: bytes) -> int:
        number = 0
        here = name
        while True:
            try:
                return os.open(here, _DIRECTORY, dir_fd=above)
            except FileNotFoundError:
                self._make(path, above, here, marked=True)
            except OSError as e:
                if e.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                number += 1  # a file of that name is kept
                here = _numbered(name, number)

    def _make(self, path: bytes, above: int, name: bytes, *, marked: bool) -> None:
        """A directory with the attributes of that at `path`; it is there whole or not at all."""
        source = self._volume.tree.open_directory(path)
        try:
            attributes = read_attributes(source, self._volume.view, ignore, path)
        finally:
            os.close(source)
        temporary = self._volume.temporary
        self._numbers += 1
        made = b"parent.%d" % self._numbers
        os.mkdir(made, 0o700, dir_fd=temporary)
        fd = os.open(made, _DIRECTORY, dir_fd=temporary)
        try:
            self._dress(fd, attributes)
            if marked:
                mark(fd, PARENT)
            os.rename(made, name, src_dir_fd=temporary, dst_dir_fd=above)
        except BaseException:
            with contextlib.suppress(OSError):
                os.rmdir(made, dir_fd=temporary)
            raise
        finally:
            os.close(fd)

    def _dress(self, fd: int, attributes: Attributes) -> None:
        view = self._volume.view
        if view.owner:
            os.fchown(fd, attributes.uid, attributes.gid)
        xattrs.write(fd, attributes.xattrs, view, lambda kind: None)
        ours = 0 if view.owner else 0o700
        with contextlib.suppress(PermissionError):
            os.fchmod(fd, attributes.mode & 0o7777 | ours)

    @staticmethod
    def _free(place: int, name: bytes) -> bytes:
        number = 0
        free = name
        while True:
            try:
                os.stat(free, dir_fd=place, follow_symlinks=False)
            except FileNotFoundError:
                return free
            number += 1
            free = _numbered(name, number)

    def _open(self, *, make: bool) -> Tree | None:
        if self._tree is not None:
            return self._tree
        if self._all < 0:
            with contextlib.suppress(FileExistsError):
                if make:
                    os.mkdir(self._place, 0o700, dir_fd=self._volume.ours)
            try:
                self._all = os.open(self._place, _DIRECTORY, dir_fd=self._volume.ours)
            except FileNotFoundError:
                return None
        name = self._name
        while True:
            try:
                fd = os.open(name, _DIRECTORY, dir_fd=self._all)
                break
            except FileNotFoundError:
                if not make:
                    return None
                self._make(b"", self._all, name, marked=True)
        try:
            self._tree = Tree(b"/proc/self/fd/%d" % fd)
        finally:
            os.close(fd)
        return self._tree

    # -- what is there

    def write_record(self, record: Record) -> None:
        """Durable when it returns. `VolumeFull`; `VolumeError` TargetNotWritable."""
        try:
            if self._all < 0:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(DIVERGED, 0o700, dir_fd=self._volume.ours)
                    os.fsync(self._volume.ours)
                self._all = os.open(DIVERGED, _DIRECTORY, dir_fd=self._volume.ours)
            state.replace(self._all, record_name(self._epoch), msgspec.json.encode(record))
        except OSError as e:
            raise_if_full(e)
            raise VolumeError(f"cannot write to the target volume: {e.strerror}", reason="TargetNotWritable") from e

    def unshare(self) -> bool:
        """Give what was kept a content of its own (`storagemirror.fs.unshare`); False when there is no room for that.
        OSError."""
        tree = self._open(make=False)
        if tree is None:
            return True
        groups = shared((path, found) for path, found, counts, _ in walk(tree) if counts)
        if not groups:
            return True
        try:
            unshare(self._volume, tree, groups)
        except VolumeFull:
            return False
        return True

    def tally(self) -> Tally:
        """Count what lies there. OSError."""
        tree = self._open(make=False)
        return Tally() if tree is None else count(tree)


def _numbered(name: bytes, number: int) -> bytes:
    end = b".%d" % number
    return name[: NAME_MAX - len(end)] + end


def _widen(directory: int, found: os.stat_result) -> None:
    """Let its owner in, whatever its mode was."""
    if found.st_mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):
            os.fchmod(directory, stat.S_IMODE(found.st_mode) | 0o700)


def _narrow(directory: int, found: os.stat_result) -> None:
    """Give it the mode back that it had."""
    if found.st_mode & 0o700 != 0o700:
        with contextlib.suppress(OSError):
            os.fchmod(directory, stat.S_IMODE(found.st_mode))


def _is_there(directory: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _cannot(path: bytes, error: OSError) -> VolumeError:
    return VolumeError(
        f"cannot keep aside {printable(path)}, which the other side does not know: {error.strerror}",
        reason="NotKeptAside",
        hint="Nothing was overwritten. Look at that entry (immutable? another file system?) and move it away by hand.",
    )
