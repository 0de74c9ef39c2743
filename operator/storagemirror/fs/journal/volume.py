"""What the steps of a point write, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.fs.journal.others import Nobody, Others
from storagemirror.fs.locks import Locks
from storagemirror.fs.place import Placer
from storagemirror.fs.scan import Report
from storagemirror.fs.tree import Tree


@dataclass(frozen=True, slots=True)
class Volume:
    """A target, claimed."""

    tree: Tree
    placer: Placer
    locks: Locks
    report: Report
    others: Callable[[], Others] = field(default=Nobody)
    """Who tells somebody else's changes from those of a point."""

    def unlocking(self, path: bytes, do: Callable[[], None]) -> None:
        """Do it; once more without what locks `path`, or the directory it is in, where that is in the way. OSError."""
        try:
            do()
        except OSError as e:
            if not self.locks.yields(e, path):
                raise
            do()
