"""What has changed on a source since a moment, by name: remembered while a proof of equality needs it."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from storagemirror.sync.changes import Drained, inside

MOST_NAMES = 100_000
"""More are not kept: then everything may have changed."""


@dataclass(slots=True)
class Named:
    """False where nothing was named."""

    paths: set[bytes] = field(default_factory=set)
    trees: set[bytes] = field(default_factory=set)
    everything: bool = False

    def __bool__(self) -> bool:
        return self.everything or bool(self.paths or self.trees)

    def note(self, changes: Drained) -> None:
        """What a watch has told."""
        self._add(changes.paths, changes.trees)
        for pair in changes.renames:
            self._add(frozenset(pair), frozenset())

    def add(self, path: bytes) -> None:
        """What was found to change while it was read."""
        self._add(frozenset({path}), frozenset())

    def has(self, path: bytes) -> bool:
        """Whether `path`, or a directory with all that is in it, was named."""
        return self.everything or path in self.paths or inside(path, self.trees)

    def _add(self, paths: AbstractSet[bytes], trees: AbstractSet[bytes]) -> None:
        if self.everything:
            return
        self.paths |= paths
        self.trees |= trees
        if b"" in self.trees or len(self.paths) + len(self.trees) > MOST_NAMES:
            self.everything = True
            self.paths.clear()
            self.trees.clear()
