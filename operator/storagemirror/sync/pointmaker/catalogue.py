"""What the source knows of its volume: each object, its names, and what the point that is being told says of it.

Two states are kept at once. The *present* one is brought up to the volume by looks at it, and may be a mixture of
moments until the volume is frozen. The *base* is the point before, which the target has: of what changed since, the
catalogue remembers how it was there (`Since`), so that an object's path at the base can be told (`was`).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from storagemirror.entry import DEPTH_LIMIT
from storagemirror.fs.trace import Placed
from storagemirror.point import Name, ObjectId

NEVER = -1
"""As the ctime of what must be looked at again."""


class Known:
    """One object of the source. `parent` and `name` are one of its places, `more` the others; the root has none, and
    neither has what was not found under any name (yet)."""

    __slots__ = (
        *("children", "ctime_ns", "generation", "inode", "mode", "more", "name", "narrow", "parent", "placed", "size"),
        "sums",
    )

    def __init__(self, inode: int, generation: int, mode: int) -> None:
        self.inode = inode
        self.generation = generation
        self.mode = mode
        """The type bits count; permissions are those of the last look."""
        self.parent: Known | None = None
        self.name = b""
        self.more: list[tuple[Known, bytes]] = []
        self.ctime_ns = NEVER
        """What was told of its content and attributes is what it was when it had this ctime."""
        self.size = 0
        """As told."""
        self.sums: bytes | None = None
        """Of its blocks (`storagemirror.fs.blocks`), as told; None: what the target has is not known by sums."""
        self.placed: Placed | None = None
        """Where its blocks lay when it was read; None: not looked at."""
        self.narrow = False
        """Some of what was told of it was found by its pages alone."""
        self.children: dict[bytes, Known] | None = {} if stat.S_ISDIR(mode) else None

    @property
    def id(self) -> ObjectId:
        """As a point tells it."""
        return ObjectId(self.inode, self.generation)

    @property
    def links(self) -> int:
        """How many names it has that we know of."""
        return 1 if self.children is not None else max(1, (self.parent is not None) + len(self.more))


@dataclass(slots=True)
class Since:
    """What changed since a base, and how it was there."""

    new: set[Known] = field(default_factory=set)
    moved: dict[Known, tuple[Known, bytes]] = field(default_factory=dict)
    """Where it was, of what has left that place."""
    listed: dict[Known, dict[bytes, Known]] = field(default_factory=dict)
    """Of a directory whose names changed: its names at the base."""
    told: dict[Known, bytes | None] = field(default_factory=dict)
    """Of what content may have been told: its sums at the base."""

    def after(self, older: Since) -> Since:
        """As seen from the base of `older`, which ended where this one began."""
        moved = {known: place for known, place in self.moved.items() if known not in older.new}
        listed = {known: names for known, names in self.listed.items() if known not in older.new}
        return Since(self.new | older.new, {**moved, **older.moved}, {**listed, **older.listed}, self.told | older.told)


class Catalogue:
    """All objects of one source."""

    def __init__(self, inode: int, generation: int, mode: int) -> None:
        """Of the root."""
        self.root = Known(inode, generation, mode)
        self.by_inode: dict[int, Known] = {inode: self.root}
        self.loose: set[Known] = set()
        """What has no name now: gone, unless a directory that is still to be looked at has it."""
        self.since = Since()

    def __len__(self) -> int:
        return len(self.by_inode)

    # -- the present

    def at(self, path: bytes) -> Known | None:
        """What is known at `path`."""
        found: Known | None = self.root
        if path:
            for name in path.split(b"/"):
                if found is None or found.children is None:
                    return None
                found = found.children.get(name)
        return found

    def path(self, known: Known) -> bytes | None:
        """One path of it; None where it has none."""
        return self._path(known, {})

    def below(self, known: Known) -> Iterator[Known]:
        """It, and all that is in it; hard links as often as they are met."""
        stack = [known]
        while stack:
            at = stack.pop()
            yield at
            if at.children:
                stack.extend(at.children.values())

    def add(self, inode: int, generation: int, mode: int) -> Known:
        """A new object, with no name yet. One that had this inode's number before is gone."""
        before = self.by_inode.get(inode)
        if before is not None:
            self._unname(before)
            self.loose.discard(before)
        known = self.by_inode[inode] = Known(inode, generation, mode)
        self.since.new.add(known)
        self.loose.add(known)
        return known

    def place(self, directory: Known, name: bytes, known: Known) -> None:
        """It is at this name; what was known there is so no longer. A directory is nowhere else then."""
        names = self.names_of(directory)
        before = names.get(name)
        if before is known:
            return
        if before is not None:
            self.remove(directory, name)
        if known.children is not None and known.parent is not None:
            self.remove(known.parent, known.name)
        self._keep_names(directory)
        names[name] = known
        if known.parent is None:
            known.parent, known.name = directory, name
        else:
            known.more.append((directory, name))
        self.loose.discard(known)

    def remove(self, directory: Known, name: bytes) -> None:
        """Nothing is at this name."""
        names = self.names_of(directory)
        if name not in names:
            return
        self._keep_names(directory)
        known = names.pop(name)
        if (known.parent, known.name) == (directory, name):
            if known not in self.since.new and known not in self.since.moved:
                self.since.moved[known] = (directory, name)
            known.parent, known.name = known.more.pop() if known.more else (None, b"")
        else:
            known.more.remove((directory, name))
        if known.parent is None:
            self.loose.add(known)

    def sweep(self) -> list[Known]:
        """What has no name is gone, with all that is in it. Only when every directory was looked at. Returns what has
        lost a name with that, and has others."""
        stack = list(self.loose)
        spared: list[Known] = []
        self.loose.clear()
        while stack:
            known = stack.pop()
            if known.parent is not None:
                continue
            if self.by_inode.get(known.inode) is known:
                del self.by_inode[known.inode]
            for name, inner in list((known.children or {}).items()):
                self.remove(known, name)
                if inner.parent is not None:
                    spared.append(inner)
            stack.extend(self.loose)
            self.loose.clear()
        return spared

    def forget(self, known: Known) -> list[Known]:
        """As if it were not there; the directories that it has names in."""
        directories = [directory for directory, _ in known.more] + ([known.parent] if known.parent is not None else [])
        self._unname(known)
        self.sweep()
        return directories

    @staticmethod
    def names_of(directory: Known) -> dict[bytes, Known]:
        """The names in a directory."""
        if directory.children is None:
            raise AssertionError("a directory")
        return directory.children

    def _unname(self, known: Known) -> None:
        for directory, name in [*known.more, *([(known.parent, known.name)] if known.parent else [])]:
            self.remove(directory, name)
        for name in list(known.children or ()):
            self.remove(known, name)

    def _keep_names(self, directory: Known) -> None:
        if directory not in self.since.listed:
            self.since.listed[directory] = dict(self.names_of(directory))

    # -- the base

    def was(self, known: Known) -> bytes | None:
        """A path at which it was at the base; None: it is new."""
        return None if known in self.since.new else self._path(known, self.since.moved)

    def has_moved(self, known: Known) -> bool:
        """Of one that is not new: whether it has a name that it did not have at the base."""
        places = [*known.more, *([(known.parent, known.name)] if known.parent is not None else [])]
        return any(
            directory in self.since.listed and self.since.listed[directory].get(name) is not known
            for directory, name in places
        )

    def names(self, directory: Known) -> list[Name]:
        """All of a directory's names, as a point tells them."""
        before = self.since.listed.get(directory)
        fresh = directory in self.since.new
        return [
            Name(name, known.id, kept=not fresh and (before is None or before.get(name) is known))
            for name, known in sorted(self.names_of(directory).items())
        ]

    @property
    def changed(self) -> bool:
        """Whether names or objects are others than at the base."""
        return bool(self.since.new or self.since.listed or self.since.told)

    def rebase(self) -> Since:
        """The present is the base from now on; what led to it."""
        since, self.since = self.since, Since()
        return since

    def go_back(self, older: Since) -> None:
        """The target has not got the last base, but the one before; `older` is what led from there to here."""
        self.since = self.since.after(older)

    def untell(self) -> list[Known]:
        """Nothing that was told since the base has come; what that is about."""
        told, self.since.told = self.since.told, {}
        for known, sums in told.items():
            known.sums = sums
        return [*told, *self.since.new]

    def _path(self, known: Known, moved: dict[Known, tuple[Known, bytes]]) -> bytes | None:
        names: list[bytes] = []
        at: Known = known
        while at is not self.root:
            parent, name = moved.get(at, (at.parent, at.name))
            # What is known live may be of different moments: then it can look as if something were within itself.
            if parent is None or len(names) >= DEPTH_LIMIT:
                return None
            names.append(name)
            at = parent
        names.reverse()
        return b"/".join(names)
