"""Which paths are names of one file: what a source knows of its hard links."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from storagemirror.fs.scan import Leaders


@dataclass(slots=True)
class LinkGroups(Leaders):
    """As `Leaders`, and remembers the further names. Holds nothing of files with one name."""

    others: dict[int, dict[bytes, None]] = field(default_factory=dict)
    """In order, and each once: a file may have 65,000 names."""
    inodes: dict[bytes, int] = field(default_factory=dict)
    """The file that each name is of."""
    seen: set[int] = field(default_factory=set)
    """Files that were looked at since this was last cleared."""

    def leader(self, inode: int, path: bytes) -> bytes:
        """Empty when `path` is the first."""
        before = self.inodes.get(path)
        if before is not None and before != inode:
            self.forget(before, path)
        self.inodes[path] = inode
        self.seen.add(inode)
        first = self.first.setdefault(inode, path)
        if first == path:
            return b""
        self.others.setdefault(inode, {})[path] = None
        return first

    def paths(self, inode: int) -> list[bytes]:
        """All names that were seen, the leader first; they may be gone by now."""
        first = self.first.get(inode)
        return [] if first is None else [first, *self.others.get(inode, ())]

    def forget(self, inode: int, path: bytes) -> None:
        """`path` is no name of this file any more."""
        if self.inodes.get(path) == inode:
            del self.inodes[path]
        others = self.others.get(inode, {})
        if path in others:
            del others[path]
        elif self.first.get(inode) == path:
            if others:
                self.first[inode] = next(iter(others))
                del others[self.first[inode]]
            else:
                del self.first[inode]
        if not others:
            self.others.pop(inode, None)

    def lose(self, path: bytes) -> list[bytes]:
        """`path` is gone, or is another file by now: the other names of the file that it was a name of. What was done
        to the file by the name that is gone, shows there."""
        inode = self.inodes.get(path)
        if inode is None:
            return []
        self.forget(inode, path)
        return self.paths(inode)

    def within(self, tops: set[bytes]) -> list[bytes]:
        """The names that are one of `tops`, or below one. Takes a walk over all names when there are any."""
        if not tops or not self.inodes:
            return []
        return [name for name in self.inodes if any(top in tops for top in _with_parents(name))]


def _with_parents(path: bytes) -> Iterator[bytes]:
    while path:
        yield path
        path = path.rpartition(b"/")[0]
