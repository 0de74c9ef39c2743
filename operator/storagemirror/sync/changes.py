"""What may have changed on the source, by name: what a watch hands to a session.

Every name is a *hint to look*, never a fact: the reader examines the source as it is now. So a name too many costs
a look, and only a name too few costs the copy.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from storagemirror.sync.requests import Changes

WHOLE_TREE = frozenset({b""})
"""`trees` of a change that could be anywhere."""


@dataclass(frozen=True, slots=True)
class Drained(Changes):
    """`Changes` and the time they reach to.

    Both names of each rename also stand in `paths` or `trees`, so ignoring a rename is always right.
    """

    through_ns: int = 0
    """Wall-clock time of the source in nanoseconds since the Unix epoch: whatever was done before is named here or
    was named earlier."""

    @property
    def whole(self) -> bool:
        """True where the whole tree must be compared."""
        return b"" in self.trees


def covering(trees: set[bytes]) -> set[bytes]:
    """`trees` without those that lie in another of them."""
    kept: set[bytes] = set()
    for tree in sorted(trees):
        # A parent sorts before what lies in it, but `a-b` sorts between `a` and `a/b`: look at each ancestor.
        if not inside(tree, kept):
            kept.add(tree)
    return kept


def inside(path: bytes, trees: AbstractSet[bytes]) -> bool:
    """Does `path` lie in one of `trees`, or is it the root of one?"""
    if not trees:
        return False
    if path in trees or b"" in trees:
        return True
    at = path.rfind(b"/")
    while at > 0:
        if path[:at] in trees:
            return True
        at = path.rfind(b"/", 0, at)
    return False


def tidy(paths: set[bytes], trees: set[bytes], renames: list[tuple[bytes, bytes]], through_ns: int) -> Drained:
    """A `Drained` in which nothing is named twice; renames are left out where the whole tree is compared."""
    least = covering(trees)
    if b"" in least:
        return Drained(trees=WHOLE_TREE, through_ns=through_ns)
    alone = frozenset(p for p in paths if not inside(p, least))
    return Drained(paths=alone, trees=frozenset(least), renames=tuple(renames), through_ns=through_ns)
