"""A copy that is kept by hints alone: what the product does, without the rest of it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from storagemirror.fs.objectid import object_id
from storagemirror.fs.syscalls import syncfs
from storagemirror.fs.trace import Hints, Placed, Seen, Trace, candidates, moved, placed
from tests.support.writers import opened


class Copy:
    """Of all files of a directory, by inode number; only what is a candidate is ever read."""

    def __init__(self, directory: Path, root: int, trace: Trace) -> None:
        self._directory, self._root, self._trace = directory, root, trace
        self._standing = Hints()
        self.seen: dict[int, Seen] = {}
        self.placed: dict[int, Placed | None] = {}
        self.content: dict[int, bytearray] = {}
        self.read: Counter[int] = Counter()
        """Bytes that were read of each file since it was first seen."""

    def follow(self, *, frozen: bool) -> None:
        """One pass."""
        drained = self._trace.drain(frozen=frozen)
        assert not drained.lost, drained.why
        hints = self._standing.joined(drained)
        if not frozen:
            syncfs(self._root)
        there = set()
        for base, _, names in os.walk(self._directory):
            for name in names:
                try:
                    with opened(Path(base) / name, os.O_RDONLY) as fd:
                        there.add(self._file(fd, hints))
                except FileNotFoundError:
                    assert not frozen
        for ino in self.seen.keys() - there:
            del self.seen[ino], self.content[ino], self.read[ino]
            self.placed.pop(ino, None)
        self._standing = Hints() if frozen else hints.standing()

    def _file(self, fd: int, hints: Hints) -> int:
        facts = os.fstat(fd)
        ino, now = facts.st_ino, Seen(object_id(fd), facts.st_size, facts.st_ctime_ns)
        structure, elsewhere = self._trace.names_structure, None
        if not structure:
            then, here = self.placed.get(ino), placed(fd)
            elsewhere = moved(then, here) if then is not None and here is not None else None
            self.placed[ino] = here
        ranges = candidates(hints, self.seen.get(ino), now, names_structure=structure, elsewhere=elsewhere)
        known = ino in self.seen
        if ranges is None:
            self.content[ino] = bytearray(now.size)
            ranges = ((0, now.size),)
        content = self.content[ino]
        if len(content) < now.size:
            content.extend(bytes(now.size - len(content)))
        del content[now.size :]
        for start, end in ranges:
            data = os.pread(fd, end - start, start)
            content[start : start + len(data)] = data
            self.read[ino] += len(data) if known else 0
        self.seen[ino] = now
        return ino
