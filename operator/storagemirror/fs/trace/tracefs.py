"""tracefs: mounted by us and seen by nobody, and in it one instance (a ring buffer with events of its own).

tracefs is one and the same for the whole machine, whoever mounts it; an instance is a directory in it, and outlives
its maker. So its name begins with ours and carries the pod's UID, and whoever starts removes those that nobody holds
open: the kernel refuses (EBUSY) to remove one that somebody does. (Linux, Documentation/trace/ftrace.rst, "Instances".)

A descriptor of a file in it that was opened for reading is no more than that only if the mount is read-only: whoever
has one may open the same file again through /proc/self/fd, for writing too, and root needs no capability for it. So
what is handed to another process is opened in a mount of its own (`mount_read_only`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import time
from contextlib import suppress
from typing import NamedTuple

from storagemirror.errors import BadInput
from storagemirror.fs.trace.files import read_text
from storagemirror.fs.trace.unavailable import TraceUnavailable

PREFIX = "storagemirror-"
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# The same numbers on every architecture (Linux 5.2, include/uapi/asm-generic/unistd.h and linux/mount.h).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_CMD_CREATE = 6
_ONLY_READ = 1 | 2 | 4 | 8
"""MOUNT_ATTR_RDONLY, NOSUID, NODEV, NOEXEC."""
_HELD_SECONDS = 0.05
"""Between two looks whether an instance of our name is still held."""
_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_LOCKDOWN = "/sys/kernel/security/lockdown"

_libc = ctypes.CDLL(None, use_errno=True)


def open_tracefs() -> int:
    """A descriptor of the root of tracefs; close it. `TraceUnavailable`."""
    try:
        return _mount()
    except OSError as e:
        for place in _PLACES:
            with suppress(OSError):
                return _usable(os.open(place, _DIRECTORY))
        raise _refused(e, "mount tracefs") from e


def mount_read_only() -> int:
    """As `open_tracefs`, and neither through it nor through what is opened in it can anything be written or changed,
    whoever has the descriptor. `TraceUnavailable`."""
    try:
        return _mount(_ONLY_READ)
    except OSError as e:
        raise _refused(e, "mount tracefs read-only") from e


class Swept(NamedTuple):
    """Names of instances of ours: those that nobody held open, which are removed, and those that somebody does."""

    removed: tuple[str, ...]
    held: tuple[str, ...]


def sweep() -> Swept:
    """Remove all instances of ours that nobody holds open. `TraceUnavailable`."""
    tracefs = open_tracefs()
    try:
        instances = os.open("instances", _DIRECTORY, dir_fd=tracefs)
        try:
            return _sweep(instances)
        finally:
            os.close(instances)
    except OSError as e:
        raise _refused(e, "remove stale trace instances") from e
    finally:
        os.close(tracefs)


def _sweep(instances: int) -> Swept:
    """Remove what processes that are gone have left in this directory. OSError."""
    removed, held = [], []
    for name in os.listdir(instances):
        if name.startswith(PREFIX):
            try:
                os.rmdir(name, dir_fd=instances)
            except OSError as e:  # EBUSY: of somebody who lives; ENOENT: another sweeper was quicker
                if e.errno not in (errno.EBUSY, errno.ENOENT):
                    raise
                if e.errno == errno.EBUSY:
                    held.append(name)
            else:
                removed.append(name)
    return Swept(tuple(removed), tuple(held))


def _mount(attributes: int = 0) -> int:
    """Mounted nowhere: it goes when its last descriptor is closed. OSError."""
    context = _call(_FSOPEN, b"tracefs", _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        mount = _call(_FSMOUNT, context, _CLOEXEC, attributes)
    finally:
        os.close(context)
    try:
        return _usable(os.open(".", _DIRECTORY, dir_fd=mount))
    finally:
        os.close(mount)


def _usable(root: int) -> int:
    try:
        os.close(os.open("instances", _DIRECTORY, dir_fd=root))
        os.close(os.open("events/header_page", os.O_RDONLY | os.O_CLOEXEC, dir_fd=root))
    except OSError:
        os.close(root)
        raise
    return root


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(number, *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _refused(e: OSError, what: str) -> TraceUnavailable:
    if e.errno == errno.ENODEV:
        return TraceUnavailable("this kernel has no tracefs (CONFIG_TRACING)", reason="NoTracefs")
    if e.errno in (errno.EPERM, errno.EACCES):
        if "[confidentiality]" in _read(_LOCKDOWN):
            return TraceUnavailable(
                "the kernel is locked down (confidentiality), which closes tracefs", reason="KernelLockdown"
            )
        return TraceUnavailable(
            f"not allowed to {what}: it takes root, CAP_SYS_ADMIN, and no AppArmor profile that forbids mounting",
            reason="NoTracePrivilege",
        )
    return TraceUnavailable(f"cannot {what}: {e.strerror}", reason="NoTracefs")


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:
        return ""


class Instance:
    """A ring buffer of our own, held open. Paths are relative to the instance's directory. OSError as the kernel says.

    Closing it removes it.
    """

    def __init__(self, tracefs: int, uid: str, wait_seconds: float = 0.0) -> None:
        """Under the name `storagemirror-<uid>`; those of our name that nobody holds are removed first. One of that very
        name is waited for so long: who held it may be about to end.

        `TraceUnavailable` where we may not make it, or another process holds one of that very name. `BadInput` for a
        `uid` that is no file name.
        """
        if not _UID.fullmatch(uid):
            raise BadInput(f"expected a pod's UID as the name of a trace instance, got {uid!r}")
        self.name = PREFIX + uid
        self._parent = os.open("instances", _DIRECTORY, dir_fd=tracefs)
        try:
            self.removed = _sweep(self._parent).removed
            self._directory, self._pin = self._make(wait_seconds)
        except OSError as e:
            os.close(self._parent)
            raise _refused(e, f"make the trace instance {self.name}") from e
        except TraceUnavailable:
            os.close(self._parent)
            raise

    def _make(self, wait_seconds: float) -> tuple[int, int]:
        """Its directory, and a file in it: only an open file keeps another's sweep off."""
        until = time.monotonic() + wait_seconds
        for _ in range(100):
            self._make_directory(until)
            with suppress(FileNotFoundError):  # swept by another that starts at this moment
                directory = os.open(self.name, _DIRECTORY, dir_fd=self._parent)
                try:
                    return directory, os.open("tracing_on", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
                except OSError:
                    os.close(directory)
                    raise
        raise TraceUnavailable(f"the trace instance {self.name} is removed each time it is made", reason="NoTracefs")

    def _make_directory(self, until: float) -> None:
        while True:
            try:
                return os.mkdir(self.name, 0o700, dir_fd=self._parent)
            except FileExistsError:
                if time.monotonic() >= until:
                    raise TraceUnavailable(
                        f"another process holds the trace instance {self.name}", reason="NoTracefs"
                    ) from None
            time.sleep(_HELD_SECONDS)
            _sweep(self._parent)

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file of the instance."""
        return os.open(path, flags | os.O_CLOEXEC, dir_fd=self._directory)

    def list(self, path: str) -> list[str]:
        """Names in a directory of the instance."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def read(self, path: str) -> str:
        """A text file of the instance."""
        return read_text(self, path)

    def write(self, path: str, text: str) -> None:
        """Write a setting of the instance. EINVAL: the kernel does not take it."""
        fd = self.open(path, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        try:
            os.stat(path, dir_fd=self._directory)
        except OSError:
            return False
        return True

    def open_read_only(self, root: int, path: str, flags: int = 0) -> int:
        """As `open`, for reading, in the mount of tracefs of which `root` is the root."""
        return os.open(f"instances/{self.name}/{path}", os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=root)

    def close(self) -> bool:
        """Remove it; whether it is gone. What others hold open in it stays until a later sweep."""
        if self._directory < 0:
            return True
        os.close(self._pin)
        os.close(self._directory)
        self._directory = -1
        try:
            os.rmdir(self.name, dir_fd=self._parent)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        finally:
            os.close(self._parent)
        return True
