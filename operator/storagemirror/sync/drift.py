"""Telling what was changed on the target behind our back from what was changed on the source.

A full comparison finds what differs, not which side changed. The source's change times say it: an object whose ctime is
older than the beginning of a full comparison that was made durable was on the target, as it still is here. If it
differs now, the target was changed. Nobody can set a ctime; the clock that gives it can be set, so whoever judges must
know that it was not.

What the source has changed since, on the other hand, should have been sent: by name, as it changed. A file of which
that was some time ago and that differs all the same is *late*: whoever knows what was named can tell what was missed.
"""

from __future__ import annotations

import os
import stat
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
    late_before_ns: int = 0
    """What the source changed after this may still be on its way."""
    late: list[bytes] = field(default_factory=list)
    """Files that differ and were changed on the source between; the first `REMEMBERED`."""

    def consider(self, directory: SourceDirectory, decision: Decision, path: bytes) -> None:
        """Something differs at `path`, a name in `directory`, and is about to be made equal."""
        try:
            changed = self._changed_ns(directory, decision)
        except OSError:
            return  # it goes just now
        if changed is None:
            return
        if changed >= self.settled_ns - MARGIN_NS:
            if self._is_file(decision) and changed < self.late_before_ns and len(self.late) < REMEMBERED:
                self.late.append(path)
            return
        self.count += 1
        if len(self.paths) < REMEMBERED:
            self.paths.append(path)

    @staticmethod
    def _is_file(decision: Decision) -> bool:
        return decision.source is not None and stat.S_ISREG(decision.source.mode)

    def _changed_ns(self, directory: SourceDirectory, decision: Decision) -> int | None:
        """When the source changed there last, at the latest; None: that says nothing."""
        if decision.source is None:
            return os.fstat(directory.fd).st_ctime_ns if self.deletions else None
        found = directory.lstat(decision.name).st_ctime_ns
        # A name that is new here may lead to what is old.
        return found if decision.target is not None else max(found, os.fstat(directory.fd).st_ctime_ns)
