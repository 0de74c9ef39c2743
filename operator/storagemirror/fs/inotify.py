"""inotify(7), typed.

Directories are watched through an open descriptor (`/proc/self/fd/N`), never by path: whoever opened the descriptor
has made sure that it lies in the volume, and the kernel follows it to that very inode.

What inotify does not tell: writes through a shared mapping and libaio writes (both are told at the last close of the
file, as IN_CLOSE_WRITE), a file changed under another of its hard-linked names in a directory that is not watched,
and, on a network file system, anything done on another machine.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import select
import struct
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntFlag

from storagemirror.errors import BadInput, Passing, StorageMirrorError

_HEADER = struct.Struct("=iIII")
"""`struct inotify_event` without its name: wd, mask, cookie, len (linux/inotify.h)."""

_BUFFER = 256 * 1024


class Mask(IntFlag):
    """Bits of linux/inotify.h."""

    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800
    UNMOUNT = 0x2000
    Q_OVERFLOW = 0x4000
    IGNORED = 0x8000
    ONLYDIR = 0x1000000
    EXCL_UNLINK = 0x4000000
    ISDIR = 0x40000000


class WatchLimit(Passing):
    """The node allows no more watches, or no more inotify instances."""

    reason = "WatchLimit"


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `mask` is an int of `Mask` bits: an enum object for each of a million events would cost too much.

    `watch` is -1 for an overflow; `name` is empty for events of the watched directory itself.
    """

    watch: int
    mask: int
    cookie: int
    name: bytes


def parse(data: bytes) -> Iterator[Event]:
    """The events in what one read(2) gave; `BadInput` where it ends in the middle of one."""
    at, end = 0, len(data)
    while at < end:
        if end - at < _HEADER.size:
            raise BadInput(f"inotify: expected an event of at least {_HEADER.size} bytes, got {end - at}")
        watch, mask, cookie, length = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        if length > end - at:
            raise BadInput(f"inotify: an event says its name has {length} bytes, {end - at} are left")
        yield Event(watch, mask, cookie, data[at : at + length].rstrip(b"\0"))
        at += length


def parse_names(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """As `parse`: watch, mask and name alone, and those of files only where the event before was about another name. It
    takes a quarter of the time."""
    at, end, size, unpack = 0, len(data), _HEADER.size, _HEADER.unpack_from
    always = int(Mask.ISDIR | Mask.Q_OVERFLOW | Mask.IGNORED)
    before, padded = 0, b""
    while at < end:
        watch, mask, _, length = unpack(data, at)
        name = data[at + size : at + size + length]
        at += size + length
        if watch == before and name == padded and not mask & always:
            continue
        before, padded = watch, name
        yield watch, mask, name.rstrip(b"\0")
    if at != end:
        raise BadInput(f"inotify: expected {end} bytes of whole events, got one that ends at {at}")


class Inotify:
    """One inotify instance; close it, or use it in a `with`."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._add = libc.inotify_add_watch
        self._add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        self._rm = libc.inotify_rm_watch
        self._rm.argtypes = (ctypes.c_int, ctypes.c_int)
        self._fd: int = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _failed("inotify_init1")

    def fileno(self) -> int:
        """The descriptor, to wait on."""
        return self._fd

    def add(self, directory: int, mask: int) -> int:
        """Watch the directory that descriptor `directory` is open on; returns its watch descriptor.

        A directory that is watched already keeps its watch descriptor. Raises `WatchLimit`, or OSError as the kernel
        says it.
        """
        wd: int = self._add(self._fd, b"/proc/self/fd/%d" % directory, mask)
        if wd < 0:
            raise _failed("inotify_add_watch")
        return wd

    def remove(self, watch: int) -> None:
        """Stop watching; a watch that is gone already is fine."""
        if self._rm(self._fd, watch) < 0 and ctypes.get_errno() != errno.EINVAL:
            raise _failed("inotify_rm_watch")

    def read(self) -> list[Event]:
        """All that is queued at the call, and maybe more; never waits.

        Not "until nothing is left": a busy volume fills the queue as fast as it is read.
        """
        return [event for data in self.read_raw() for event in parse(data)]

    def read_raw(self) -> Iterator[bytes]:
        """As `read`, in pieces for `parse_names`."""
        queued = array.array("i", [0])
        fcntl.ioctl(self._fd, termios.FIONREAD, queued)
        left = queued[0]
        while left > 0:
            data = os.read(self._fd, min(_BUFFER, left))  # room that is not needed costs more than the read
            left -= len(data)
            yield data

    def wait(self, timeout: float, wake: int) -> bool:
        """Wait up to `timeout` seconds for an event or for input on descriptor `wake`; True where an event is."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(wake, select.POLLIN)
        return any(fd == self._fd for fd, _ in poll.poll(timeout * 1000))

    def close(self) -> None:
        """Let go of all watches."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _failed(call: str) -> StorageMirrorError | OSError:
    """The error of the libc call that has just failed."""
    number = ctypes.get_errno()
    if number == errno.ENOSPC:
        return WatchLimit(
            f"{call}: the node allows no more inotify watches ({_setting('max_user_watches')} for each user)",
            hint="raise fs.inotify.max_user_watches on the node (sysctl); until then the tree is compared as a whole",
        )
    if number == errno.EMFILE:
        return WatchLimit(
            f"{call}: the node allows no more inotify instances ({_setting('max_user_instances')} for each user)",
            hint="raise fs.inotify.max_user_instances on the node (sysctl); until then the tree is compared as a whole",
        )
    return OSError(number, f"{call}: {os.strerror(number)}")


def _setting(name: str) -> str:
    """fs.inotify.`name` of this node, or `?`."""
    try:
        with open(f"/proc/sys/fs/inotify/{name}") as f:
            return f.read().strip()
    except OSError:
        return "?"
