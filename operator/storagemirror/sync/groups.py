"""Which paths are names of one file: what a source knows of its hard links."""

from __future__ import annotations

from dataclasses import dataclass, field

from storagemirror.fs.scan import Leaders


@dataclass(slots=True)
class LinkGroups(Leaders):
    """As `Leaders`, and remembers the further names. Holds nothing of files with one name."""

    others: dict[int, dict[bytes, None]] = field(default_factory=dict)
    """In order, and each once: a file may have 65,000 names."""

    def leader(self, inode: int, path: bytes) -> bytes:
        """Empty when `path` is the first."""
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
