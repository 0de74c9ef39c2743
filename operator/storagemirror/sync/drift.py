"""Telling what was changed on the target behind our back from what was changed on the source.

A full comparison finds what differs, not which side changed. The source's change times say it: an object whose ctime is
older than the beginning of a full comparison that was made durable was on the target, as it still is here. If it
differs now, the target was changed. Nobody can set a ctime; the clock that gives it can be set, so whoever judges must
know that it was not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from storagemirror.fs.source import SourceDirectory
from storagemirror.sync.decide import Decision

REMEMBERED = 1_000
MARGIN_NS = 1_000_000_000
"""Of file systems that keep whole seconds, and of the kernel's coarse clock."""


@dataclass(slots=True)
class Drift:
    """Of one full comparison."""

    settled_ns: int
    """When the last full comparison began whose end is durable on the target; nanoseconds, the source's clock."""
    deletions: bool = True
    """Whether what only the target has is always deleted; else it may be there on purpose."""
    paths: list[bytes] = field(default_factory=list)
    """Of what differs although the source has not changed; the first `REMEMBERED`."""
    count: int = 0

    def consider(self, directory: SourceDirectory, decision: Decision, path: bytes) -> None:
        """Something differs at `path`, a name in `directory`, and is about to be made equal."""
        try:
            changed = self._changed_ns(directory, decision)
        except OSError:
            return  # it goes just now
        if changed is None or changed >= self.settled_ns - MARGIN_NS:
            return
        self.count += 1
        if len(self.paths) < REMEMBERED:
            self.paths.append(path)

    def _changed_ns(self, directory: SourceDirectory, decision: Decision) -> int | None:
        """When the source changed there last, at the latest; None: that says nothing."""
        if decision.source is None:
            return os.fstat(directory.fd).st_ctime_ns if self.deletions else None
        found = directory.lstat(decision.name).st_ctime_ns
        # A name that is new here may lead to what is old.
        return found if decision.target is not None else max(found, os.fstat(directory.fd).st_ctime_ns)
