"""Changes that are written into a file in place, so that no kill and no power cut leaves it torn for good.

    the changes, with their plan, lie in `.storagemirror/redo/` → fsync → they are copied into the file, whose time is
    wrong meanwhile → fsync → it gets its attributes, its time last → the changes are forgotten

Before the copying the file is what it was. From then on the plan is there: whoever claims the volume next carries
it out again from the beginning (`recover`), before anything is compared or the copy is made live, with or without a
source. Carrying out a plan twice gives the same file.

A plan is only carried out on the file that it was made for: the same inode, made at the same time, with this one name.
As long as one is left nothing else is written in place, so that it never meets what came later. One that is not whole
(no fsync had ended yet) has changed nothing, and is forgotten.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator

import msgspec
from xxhash import xxh3_128_digest

from storagemirror.entry import PATH_LIMIT, Attributes, TimeNs, is_path, split
from storagemirror.fs.place import Placer
from storagemirror.fs.syscalls import birth_and_mount, punch_hole
from storagemirror.fs.tree import Tree

log = logging.getLogger("storagemirror.agent")

DIRECTORY = b"redo"
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MAGIC = b"smredo1\n"
_TRAILER = len(_MAGIC) + 8 + 16
_PLAN_LIMIT = 64 << 20
_COPY = 1 << 20

Run = tuple[int, int, bool]
"""Offset, length, and whether it is a hole."""


class Plan(msgspec.Struct, frozen=True, array_like=True):
    """What is to be done to one file. Its content lies in the plan's own file, at the same offsets."""

    path: bytes
    inode: int
    size: int
    """In the end."""
    attributes: Attributes
    """In the end, its time included."""
    born_ns: TimeNs | None
    """When that file was made: the number of an inode is given again."""
    torn_ns: TimeNs
    """The modification time until all is there: told wrong."""
    runs: list[Run]


def seal(fd: int, plan: Plan) -> None:
    """Write the plan behind its content, and make both durable. OSError."""
    body = msgspec.msgpack.encode(plan)
    if len(body) > _PLAN_LIMIT:
        raise AssertionError("more runs than a plan may have")
    at = max(plan.size, os.fstat(fd).st_size)
    trailer = xxh3_128_digest(body) + len(body).to_bytes(8, "little") + _MAGIC
    rest = memoryview(body + trailer)
    while rest.nbytes:
        count = os.pwrite(fd, rest, at)
        rest, at = rest[count:], at + count
    os.fsync(fd)


def read_plan(fd: int) -> Plan | None:
    """None where there is none that is whole."""
    end = os.fstat(fd).st_size
    trailer = os.pread(fd, _TRAILER, end - _TRAILER) if end >= _TRAILER else b""
    length = int.from_bytes(trailer[16:24], "little")
    if trailer[24:] != _MAGIC or not 0 < length <= min(_PLAN_LIMIT, end - _TRAILER):
        return None
    body = os.pread(fd, length, end - _TRAILER - length)
    if xxh3_128_digest(body) != trailer[:16]:
        return None
    try:
        plan = msgspec.msgpack.decode(body, type=Plan)
    except (msgspec.MsgspecError, ValueError):
        return None
    return plan if is_path(plan.path) and 0 < len(plan.path) <= PATH_LIMIT else None


def apply(plan: Plan, content: int, directory: int, name: bytes, placer: Placer) -> None:
    """Carry out `plan`, whose content is in the file `content`, on `name` in `directory`. OSError."""
    fd = os.open(name, _OPEN, dir_fd=directory)
    try:
        for offset, length, hole in plan.runs:
            if hole:
                punch_hole(fd, offset, length)
            else:
                copy_range(content, fd, offset, length)
        os.ftruncate(fd, plan.size)
        os.utime(fd, ns=(plan.torn_ns, plan.torn_ns))
        os.fsync(fd)
    finally:
        os.close(fd)
    placer.touch(directory, split(plan.path)[0], name, plan.attributes)


def copy_range(source: int, target: int, offset: int, length: int, to: int | None = None) -> None:
    """Copy bytes to where they are in the other file, or to `to`. OSError; also when `source` ends before."""
    to = offset if to is None else to
    while length:
        try:
            count = os.copy_file_range(source, target, min(length, 1 << 30), offset, to)
        except OSError:
            count = os.pwrite(target, os.pread(source, min(length, _COPY), offset), to)
        if count == 0:
            raise OSError(errno.EIO, "the file is shorter than it was", None)
        offset, to, length = offset + count, to + count, length - count


def recover(state: int, tree: Tree, placer: Placer) -> list[bytes]:
    """Carry out what a killed session left in our directory `state`. The paths that could not be made whole: their
    plans stay for the next time, and they have a wrong time, so that a comparison sends them again."""
    failed: list[bytes] = []
    try:
        redo = os.open(DIRECTORY, _OPEN_DIRECTORY, dir_fd=state)
    except FileNotFoundError:
        return failed
    try:
        for name in _names(redo):
            fd = os.open(name, _OPEN, dir_fd=redo)
            try:
                plan = read_plan(fd)
                if plan is not None:
                    _again(plan, fd, tree, placer)
                os.unlink(name, dir_fd=redo)
            except OSError as e:
                failed.append(plan.path if plan is not None else b"")
                log.warning("cannot finish %s, which a killed session was writing: %s", failed[-1][:300], e.strerror)
            finally:
                os.close(fd)
    finally:
        os.close(redo)
    return failed


def is_clear(state: int) -> bool:
    """Whether no plan is left that was not carried out."""
    try:
        redo = os.open(DIRECTORY, _OPEN_DIRECTORY, dir_fd=state)
    except FileNotFoundError:
        return True
    try:
        return not _names(redo)
    finally:
        os.close(redo)


def _names(directory: int) -> list[bytes]:
    return sorted(os.listdir(b"/proc/self/fd/%d" % directory))


def _again(plan: Plan, content: int, tree: Tree, placer: Placer) -> None:
    directory, name = split(plan.path)
    try:
        above = tree.open_directory(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if _is_meant(plan, above, name):
            apply(plan, content, above, name, placer)
    except FileNotFoundError:
        return
    finally:
        os.close(above)


def _is_meant(plan: Plan, directory: int, name: bytes) -> bool:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode) or (found.st_ino, found.st_nlink) != (plan.inode, 1):
        return False
    fd = os.open(name, _OPEN, dir_fd=directory)
    try:
        return birth_and_mount(fd)[0] == plan.born_ns
    finally:
        os.close(fd)


@contextlib.contextmanager
def directory(state: int) -> Iterator[int]:
    """A descriptor of the directory where plans lie, made when it is not there."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(DIRECTORY, 0o700, dir_fd=state)
        os.fsync(state)
    fd = os.open(DIRECTORY, _OPEN_DIRECTORY, dir_fd=state)
    try:
        yield fd
    finally:
        os.close(fd)
