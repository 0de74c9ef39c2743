"""tracefs: mounted by us and seen by nobody, and in it one instance (a ring buffer with events of its own).

tracefs is one and the same for the whole machine, whoever mounts it; an instance is a directory in it, and outlives
its maker. So its name begins with ours and carries the pod's UID, and whoever starts removes those that nobody holds
open: the kernel refuses (EBUSY) to remove one that somebody does. (Linux, Documentation/trace/ftrace.rst, "Instances".)
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from contextlib import suppress

from storagemirror.errors import BadInput
from storagemirror.fs.trace.unavailable import TraceUnavailable

PREFIX = "storagemirror-"
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,99}")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# The same numbers on every architecture (Linux 5.2, include/uapi/asm-generic/unistd.h and linux/mount.h).
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC = 1
_CMD_CREATE = 6
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


def _mount() -> int:
    """Mounted nowhere: it goes when its last descriptor is closed. OSError."""
    context = _call(_FSOPEN, b"tracefs", _CLOEXEC)
    try:
        _call(_FSCONFIG, context, _CMD_CREATE, None, None, 0)
        mount = _call(_FSMOUNT, context, _CLOEXEC, 0)
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

    def __init__(self, tracefs: int, uid: str) -> None:
        """Under the name `storagemirror-<uid>`; those of our name that nobody holds are removed first.

        `TraceUnavailable` where we may not make it, or another process holds one of that very name. `BadInput` for a
        `uid` that is no file name.
        """
        if not _UID.fullmatch(uid):
            raise BadInput(f"expected a pod's UID as the name of a trace instance, got {uid!r}")
        self.name = PREFIX + uid
        self._parent = os.open("instances", _DIRECTORY, dir_fd=tracefs)
        try:
            self.removed = self._sweep()
            self._directory, self._pin = self._make()
        except OSError as e:
            os.close(self._parent)
            raise _refused(e, f"make the trace instance {self.name}") from e
        except TraceUnavailable:
            os.close(self._parent)
            raise

    def _sweep(self) -> tuple[str, ...]:
        """Removes what processes that are gone have left; the names."""
        removed = []
        for name in os.listdir(self._parent):
            if name.startswith(PREFIX):
                try:
                    os.rmdir(name, dir_fd=self._parent)
                except OSError as e:  # EBUSY: of somebody who lives; ENOENT: another sweeper was quicker
                    if e.errno not in (errno.EBUSY, errno.ENOENT):
                        raise
                else:
                    removed.append(name)
        return tuple(removed)

    def _make(self) -> tuple[int, int]:
        """Its directory, and a file in it: only an open file keeps another's sweep off."""
        for _ in range(100):
            try:
                os.mkdir(self.name, 0o700, dir_fd=self._parent)
            except FileExistsError:
                raise TraceUnavailable(
                    f"another process holds the trace instance {self.name}", reason="NoTracefs"
                ) from None
            with suppress(FileNotFoundError):  # swept by another that starts at this moment
                directory = os.open(self.name, _DIRECTORY, dir_fd=self._parent)
                try:
                    return directory, os.open("tracing_on", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
                except OSError:
                    os.close(directory)
                    raise
        raise TraceUnavailable(f"the trace instance {self.name} is removed each time it is made", reason="NoTracefs")

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
        with open(self.open(path), encoding="ascii", errors="replace") as file:
            return file.read()

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

    def close(self) -> None:
        """Remove it. What others hold open in it stays until the next sweep."""
        if self._directory < 0:
            return
        os.close(self._pin)
        os.close(self._directory)
        self._directory = -1
        with suppress(OSError):
            os.rmdir(self.name, dir_fd=self._parent)
        os.close(self._parent)
