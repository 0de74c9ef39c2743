"""A trace that a tracer beside us has opened, and we may only read: for a process without CAP_SYS_ADMIN.

Whether somebody changed a setting is read from the settings' own files at each drain, so that it needs nobody's answer
while an application waits; the tracer is asked when something has to be put right, and on btrfs (only it may ask for
subvolumes). A tracer that is gone takes nothing of what was recorded with it; but nobody would put anything right any
more, so `gone` asks for another trace.
"""

from __future__ import annotations

import errno
import os
import select
import socket

from storagemirror.errors import ProtocolError
from storagemirror.fs.mounts import mount_of
from storagemirror.fs.trace import handover
from storagemirror.fs.trace.device import Device
from storagemirror.fs.trace.events import choose
from storagemirror.fs.trace.files import text_of
from storagemirror.fs.trace.settings import changed, format_of
from storagemirror.fs.trace.trace import INTERVAL, Trace, trace_of
from storagemirror.fs.trace.unavailable import TraceUnavailable

NOT_READY = "TracerNotReady"
"""Reason where no tracer answers: it may only be about to begin."""

_PATIENCE_SECONDS = 5.0
"""So long each answer is waited for; making an instance takes some tenths."""
_FROZEN_SECONDS = 0.2
"""The same while applications wait."""
_MOST_FILES = 20_000
"""Of an instance on the largest machines, some 8,000 processors."""


def receive_trace(root: int, directory: str, *, interval: float = INTERVAL) -> Trace:
    """The trace of the file system that `root` is open on, from the tracer that shares `directory` with us.

    `TraceUnavailable`: for the tracer's reason, or `TracerNotReady`; `DeviceNotFound` where it traces another one.
    """
    keeper = HandedKeeper(os.path.join(directory, handover.SOCKET_NAME))
    device, mount = keeper.device, mount_of(root)
    if mount is None or mount.major << 20 | mount.minor != device.number:
        keeper.close()
        seen = mount.device if mount is not None else "none"
        raise TraceUnavailable(
            f"the tracer sees device {device.number >> 20}:{device.number & 0xFFFFF}, the volume is on {seen}",
            reason="DeviceNotFound",
        )
    return trace_of(keeper, interval)


class HandedFiles:
    """See `Files`: just those that were handed to us."""

    def __init__(self) -> None:
        self._descriptors: dict[str, int] = {}

    def add(self, path: str, descriptor: int) -> None:
        """It is ours from here on. `ProtocolError` for one too many."""
        if path in self._descriptors or len(self._descriptors) >= _MOST_FILES:
            os.close(descriptor)
            raise ProtocolError(f"expected no further file of the trace, got {path[:80]!r}")
        self._descriptors[path] = descriptor

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """See `Files`. Gives what was handed over away, opened as it was, whatever `flags` say: each file once. A
        process may hold few descriptors, and there are two files a processor."""
        fd = self._at(path)
        del self._descriptors[path]
        return fd

    def list(self, path: str) -> list[str]:
        """See `Files`."""
        below = f"{path}/"
        return sorted({name[len(below) :].partition("/")[0] for name in self._descriptors if name.startswith(below)})

    def read(self, path: str) -> str:
        """See `Files`."""
        return text_of(self._at(path))

    def has(self, path: str) -> bool:
        """See `Files`."""
        return path in self._descriptors

    def close(self) -> None:
        """All of them."""
        for fd in self._descriptors.values():
            os.close(fd)
        self._descriptors = {}

    def _at(self, path: str) -> int:
        try:
            return self._descriptors[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, "the tracer handed over no such file", path) from None


class HandedKeeper:
    """See `Keeper`."""

    def __init__(self, path: str) -> None:
        """Asks the tracer that listens at `path` for an instance. `TraceUnavailable`."""
        self.files = HandedFiles()
        self.removed: tuple[str, ...] = ()
        self._expected: dict[str, str] = {}
        self._gone = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(_PATIENCE_SECONDS)
            self._socket.connect(path)
            handover.send(self._socket, "open")
            self.device, self.pages_each = self._receive()
            self.events = choose(self.device, lambda event: format_of(self.files, event))
        except (OSError, EOFError, ProtocolError, ValueError) as e:
            self.close()
            raise TraceUnavailable(f"the tracer does not answer: {e or 'it went'}", reason=NOT_READY) from e
        except TraceUnavailable:
            self.close()
            raise

    def _receive(self) -> tuple[Device, int]:
        while True:
            (word, *fields), descriptor = handover.receive(self._socket, ("file", "setting", "ready", "refused"))
            if word == "refused":
                raise TraceUnavailable(fields[1], reason=fields[0])
            if word == "ready":
                return Device(fields[0], fields[1], int(fields[2])), int(fields[3])
            self.files.add(fields[0], descriptor)
            if word == "setting":
                self._expected[fields[0]] = fields[1]

    @property
    def gone(self) -> bool:
        """See `Keeper`."""
        if not self._gone:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            self._gone = bool(poll.poll(0))  # it says nothing unasked: this is its end
        return self._gone

    def check(self, *, frozen: bool = False) -> list[str]:
        """See `Keeper`."""
        found = changed(self.files, self._expected)
        if found or self.device.fs_type == "btrfs":
            told = self._ask(_FROZEN_SECONDS if frozen else _PATIENCE_SECONDS)
            if told and told not in found:
                found.append(told)
        return found

    def _ask(self, seconds: float) -> str:
        if self.gone:
            return "the tracer is gone, and nobody looks after the trace"
        try:
            self._socket.settimeout(seconds)
            handover.send(self._socket, "check")
            return handover.receive(self._socket, ("checked",)).fields[1]
        except (OSError, EOFError, ProtocolError) as e:
            self._gone = True  # what it says later would be taken for the answer to another question
            return f"the tracer does not answer, and nobody looks after the trace: {e or 'it went'}"

    def close(self) -> None:
        """See `Keeper`. The files first: the tracer removes the instance when the connection ends."""
        self.files.close()
        self._socket.close()
        self._gone = True
