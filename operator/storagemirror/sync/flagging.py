"""Inode flags and project ids, on the source: looked at where a file is open anyway, or may have changed; told last.

Comparing the flags of every file would take opening every file. A change of flags moves an entry's ctime, which nobody
can set; so of what the target has only that is looked at whose ctime is not before the start of the last full mirror
that told all flags. What that cannot see: a clock that was set back in between, and flags that somebody changed on the
target.

What keeps an entry from being changed (immutable, append-only, a project that is inherited) is told at the very end.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.entry import join
from storagemirror.fs.inodeflags import LOCKS, FlagReader, open_any
from storagemirror.wire import messages as m

_IN_FRAME = 1_000
_BYTES_IN_FRAME = 512 * 1024
_PENDING = 10_000
_LOCKED = 100_000
_SLOWEST_CLOCK_NS = 20_000_000
"""Files get their times from a clock that may be two ticks behind (10 ms each, at most)."""


@dataclass(slots=True)
class Flagging:
    """Of one session. `flush` is the sender's: what is told of must have been sent before."""

    send: Callable[[m.Message], None]
    flush: Callable[[], None]
    through_ns: int
    """Flags of what was not changed since are known to the target."""
    everything: bool
    """The target may have flags where the source has none: that is told too."""
    _reader: FlagReader = field(default_factory=FlagReader)
    _pending: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    _locked: dict[bytes, tuple[int, int]] = field(default_factory=dict)

    @property
    def since_ns(self) -> int:
        """Entries whose ctime is not before this are to be looked at."""
        return self.through_ns - _SLOWEST_CLOCK_NS

    @property
    def reader(self) -> FlagReader | None:
        """For whoever need not tell of entries without flags and project; None: those are to be told too."""
        return None if self.everything else self._reader

    def seen(self, path: bytes, fd: int) -> None:
        """A file or directory is open, and sent; OSError."""
        flags, project = self._reader.read(fd)
        if not flags and not project and not self.everything:
            return
        if flags & LOCKS:
            self._locked[path] = flags, project
            self._pending.pop(path, None)
            if len(self._locked) >= _LOCKED:
                self.tell()
            return
        self._locked.pop(path, None)
        self._pending[path] = flags, project
        if len(self._pending) >= _PENDING:
            self._tell(self._pending)

    def look(self, directory: int, path: bytes, name: bytes) -> None:
        """An entry of an open directory that may have changed; nothing where it has gone, or has no flags. OSError."""
        try:
            fd = open_any(directory, name)
        except (FileNotFoundError, PermissionError):
            return
        except OSError:
            return  # neither a file nor a directory
        try:
            self.seen(join(path, name), fd)
        finally:
            os.close(fd)

    def tell(self) -> None:
        """All that was seen: nothing else is done to these entries."""
        self._tell(self._pending)
        self._tell(self._locked)

    def told_through(self, started_ns: int) -> None:
        """A full mirror that began then has told of everything."""
        self.send(m.FlagsTold(started_ns))
        self.through_ns = started_ns

    def _tell(self, pending: dict[bytes, tuple[int, int]]) -> None:
        if not pending:
            return
        self.everything = True  # from now on the target has some
        self.flush()
        entries: list[m.InodeFlags] = []
        size = 0
        for path, (flags, project) in pending.items():
            entries.append(m.InodeFlags(path, flags, project))
            size += len(path) + 16
            if len(entries) >= _IN_FRAME or size >= _BYTES_IN_FRAME:
                self.send(m.Flags(entries))
                entries, size = [], 0
        if entries:
            self.send(m.Flags(entries))
        pending.clear()
