"""Who sets a trace instance up and sees that it stays so: this process, or a tracer beside it (`handed`)."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Protocol

from storagemirror.fs.trace.device import Device, several_subvolumes
from storagemirror.fs.trace.events import Chosen
from storagemirror.fs.trace.files import Files
from storagemirror.fs.trace.settings import Settings
from storagemirror.fs.trace.tracefs import Instance
from storagemirror.fs.trace.unavailable import TraceUnavailable


class Keeper(Protocol):
    """Keeps one instance. For one thread at a time."""

    @property
    def device(self) -> Device:
        """What is traced."""
        ...

    @property
    def files(self) -> Files:
        """The instance's, for reading."""
        ...

    @property
    def events(self) -> list[Chosen]:
        """What is recorded."""
        ...

    @property
    def pages_each(self) -> int:
        """At most so many pages hold the records of one processor."""
        ...

    @property
    def removed(self) -> tuple[str, ...]:
        """Names of stale instances that were removed before it was made."""
        ...

    @property
    def gone(self) -> bool:
        """Whether nobody looks after the instance any more."""
        ...

    def check(self, *, frozen: bool = False) -> list[str]:
        """Why what happened since the last call may not have been recorded, in words, after it was put right; empty
        when all is well. `frozen`: applications wait. OSError, `TraceUnavailable`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class OwnKeeper:
    """Of an instance of this process. Closing it removes that."""

    def __init__(self, root: int, device: Device, instance: Instance, memory: int) -> None:
        """Sets it up and turns it on, for the file system that `root` is open on. `memory`: bytes of ring buffer, over
        all processors. The instance stays the caller's when this raises: OSError, `BadInput`, `TraceUnavailable`."""
        self.device = device
        self.files = instance
        self.removed = instance.removed
        self.gone = False
        with ExitStack() as undo:
            self._root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            undo.callback(os.close, self._root)
            self.settings = Settings(instance, device, memory)
            self.settings.arm()
            self._undo = undo.pop_all()
        self.events, self.pages_each = self.settings.events, self.settings.pages_each

    def check(self, *, frozen: bool = False) -> list[str]:
        """See `Keeper`."""
        found = self.settings.restore()
        if self.device.fs_type == "btrfs":
            try:
                found.append(several_subvolumes(self._root))
            except TraceUnavailable as e:
                found.append(e.message)
        return [word for word in found if word]

    def close(self) -> None:
        """See `Keeper`."""
        self.remove()

    def remove(self) -> bool:
        """Close it; whether the instance is gone from the kernel."""
        self._undo.close()
        return self.files.close()
