"""Where the directories of a point come from and go to: made out before the point is committed, and kept with it.

Only while the volume is still at the base do its paths say what is what; so all that is looked up by them is looked up
then, and whatever is wrong refuses the point. What is left to do afterwards cannot fail but for the disk.

In memory is what is told of directories, a few hundred bytes each, and the names of one directory at a time. Files are
known by what lies aside under their id.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, Kind, is_path, join
from storagemirror.fs.inodeflags import LOCKS
from storagemirror.fs.journal.refusal import NotTaken, Why
from storagemirror.fs.journal.segments import Reader
from storagemirror.fs.journal.work import Work
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.point import Name, Object, ObjectId, RecordKind, read_names

OURS = frozenset({STATE_DIRECTORY, LOST_AND_FOUND})
"""In the root of a volume: no point is about them."""

_APPEARED = 500_000
_TOLD = 1_000_000
_LEFT_LIMIT = 1 << 20
"""Bytes of names."""


class Directory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What becomes of one directory. A record of the journal holds a list of these."""

    id: ObjectId
    was: bytes | None
    """Its path at the base; None: new."""
    path: bytes
    """At the point."""
    moves: bool
    object_at: int
    """Position of the record with its attributes."""
    names_at: int
    """Of the first record of its names; -1: they stay."""
    left: tuple[bytes, ...] = ()
    """Names in it that rules leave out, and that stay although they are not told."""


class Locked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A file that gets flags in the end that would keep us from it."""

    path: bytes
    flags: int


class Page(msgspec.Struct, frozen=True, array_like=True):
    """The payload of a record: a part of the plan."""

    directories: list[Directory] = []
    """From above to below."""
    locked: list[Locked] = []


@dataclass(slots=True)
class Draft:
    """What was told of a directory so far."""

    id: ObjectId
    was: bytes | None
    moves: bool
    object_at: int
    names_at: int = -1
    inode: int = -1
    """On the target; -1: new."""
    parent: ObjectId | None = None
    name: bytes = b""
    """Where it is put, of one that is new or moves."""
    path: bytes | None = None
    """At the point; None: it is not there any more."""
    known: bool = False
    """The path is made out."""
    looking: bool = False
    left: list[bytes] = field(default_factory=list)
    """Names in it that rules leave out."""


@dataclass(slots=True)
class Planner:
    """Of one point that comes in. `NotTaken` where it does not fit the volume; OSError."""

    tree: Tree
    work: Work
    selection: Selection | None
    drafts: dict[ObjectId, Draft] = field(default_factory=dict)
    gone: list[tuple[bytes, bool]] = field(default_factory=list)
    """Paths of the base that lead nowhere any more, the topmost ones, and whether it is a directory."""
    appeared: list[tuple[ObjectId, bytes]] = field(default_factory=list)
    """Names of what is new: the directory, and the name in it; no more than a guard would remember."""
    stays: set[int] = field(default_factory=set)
    """Inodes of what gets another name, and so is not gone."""
    _later: Container[ObjectId] = ()
    _moved: dict[bytes, Draft] = field(default_factory=dict)
    _displaced: set[bytes] = field(default_factory=set)
    """Directories of the base that have to make way, or go."""
    _locks: dict[ObjectId, tuple[bytes | None, int]] = field(default_factory=dict)
    """Files that get locked: where each was, unless it gets a new name; and its flags."""
    _locked_at: dict[ObjectId, tuple[ObjectId, bytes]] = field(default_factory=dict)

    # -- while it comes in

    def object(self, told: Object, position: int) -> None:
        """In the order in which they come."""
        if len(self.drafts) + len(self._locks) > _TOLD:
            raise NotTaken(Why.OTHER, f"a point tells of {_TOLD} directories and locked files at most")
        if told.kind != Kind.DIRECTORY:
            if told.flags is not None and told.kind == Kind.FILE:
                self._note_locks(told, told.flags)
            return
        known = self.drafts.get(told.id)
        if known is None:
            self.drafts[told.id] = self._draft(told, position)
            return
        if known.was != told.was:
            raise NotTaken(Why.OTHER, "one directory is told to have been at two paths", told.was or b"")
        known.moves |= told.moves
        known.object_at = position

    def names(self, told: ObjectId, position: int, *, first: bool) -> None:
        """Of the directory told last."""
        if first:
            self.drafts[told].names_at = position

    def _note_locks(self, told: Object, flags: int) -> None:
        if flags & LOCKS:
            self._locks[told.id] = (None if told.moves else told.was, flags)
        else:
            self._locks.pop(told.id, None)

    def _draft(self, told: Object, position: int) -> Draft:
        draft = Draft(told.id, told.was, told.moves, position)
        if told.was is not None:
            found = self.tree.lstat(told.was)
            if found is None or not stat.S_ISDIR(found.st_mode):
                raise NotTaken(Why.CONFLICT, "no such directory is on the target", told.was)
            draft.inode = found.st_ino
        return draft

    # -- when all of it has come

    def plan(self, reader: Reader, held: set[int], later: Container[ObjectId] = ()) -> Iterator[Page]:
        """The plan, in pages. `held`: inodes of files that get another name; `later`: of these what does not lie aside
        yet."""
        self._later = later
        for draft in self.drafts.values():
            if draft.moves and draft.was is not None:
                if draft.was in self._moved:
                    raise NotTaken(Why.OTHER, "two directories are told to have been at one path", draft.was)
                self._moved[draft.was] = draft
        self.stays = held | {draft.inode for draft in self._moved.values()}
        for draft in self.drafts.values():
            if draft.names_at >= 0:
                self._look_at(draft, reader)
        for draft in self._moved.values():
            if draft.parent is None:
                raise NotTaken(Why.OTHER, "a directory is told to move, and not where to", draft.was or b"")
        self.gone = [(path, is_directory) for path, is_directory in self.gone if self._is_topmost(path)]
        placed = [directory for draft in self.drafts.values() if (directory := self._placed(draft)) is not None]
        placed.sort(key=lambda directory: (directory.path.count(b"/") + bool(directory.path), directory.path))
        yield from _pages(placed, self._locked())

    def _look_at(self, draft: Draft, reader: Reader) -> None:
        """The names of one directory, against what it holds now."""
        present = self._present(draft)
        named: set[bytes] = set()
        for name in names_of(reader, draft.names_at):
            named.add(name.name)
            if name.kept:
                if name.name not in present:
                    path = join(draft.was or b"", name.name)
                    raise NotTaken(Why.CONFLICT, "it is not on the target", path)
                del present[name.name]
            else:
                self._give(draft, name)
        for name_left, (inode, is_directory) in present.items():
            path = join(draft.was or b"", name_left)
            if self.selection is not None and self.selection.excludes(
                draft.was or b"", name_left, is_directory=is_directory
            ):
                if name_left in named:
                    raise NotTaken(Why.CONFLICT, "what the rules leave out is in the way", path)
                draft.left.append(name_left)
                continue
            if is_directory and inode not in self.stays:
                self._displaced.add(path)
            if inode not in self.stays and (name_left not in named or is_directory):
                self.gone.append((path, is_directory))

    def _present(self, draft: Draft) -> dict[bytes, tuple[int, bool]]:
        if draft.was is None:
            return {}
        fd = self.tree.open_directory(draft.was)
        try:
            with os.scandir(b"/proc/self/fd/%d" % fd) as found:
                present = {e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in found}
        finally:
            os.close(fd)
        if not draft.was:
            for name in OURS:
                present.pop(name, None)
        return present

    def _give(self, draft: Draft, name: Name) -> None:
        """A name that is not kept: its object is aside, or a directory that was told."""
        given = self.drafts.get(name.id)
        source = self.work.source_of(name.id.name()) if given is None else None
        new = given.was is None if given is not None else source is not None and source[0] == self.work.obj
        if new and len(self.appeared) < _APPEARED:
            self.appeared.append((draft.id, name.name))
        if given is None:
            if source is None and name.id not in self._later:
                raise NotTaken(Why.OTHER, "a name leads to what was not told of", name.name)
            if name.id in self._locks:
                self._locked_at[name.id] = (draft.id, name.name)
            return
        if given.parent is not None or (given.was is not None and not given.moves):
            raise NotTaken(Why.OTHER, "a directory is told to have two names", name.name)
        given.parent, given.name = draft.id, name.name

    def new_paths(self) -> Iterator[bytes]:
        """Of `appeared`; after `plan`."""
        for directory, name in self.appeared:
            above = self.drafts[directory].path
            if above is not None:
                yield join(above, name)

    # -- paths at the point

    def _placed(self, draft: Draft) -> Directory | None:
        path = self._path_of(draft)
        if path is None:
            return None
        if not is_path(path):
            raise NotTaken(Why.OTHER, "a directory would be too deep", path[:300])
        if sum(map(len, draft.left)) > _LEFT_LIMIT:
            raise NotTaken(Why.OTHER, "the rules leave out too many entries of one directory", path)
        return Directory(draft.id, draft.was, path, draft.moves, draft.object_at, draft.names_at, tuple(draft.left))

    def _path_of(self, draft: Draft) -> bytes | None:
        """Where it is at the point; None where no name leads to it."""
        chain: list[tuple[Draft, bytes | None]] = []
        at = draft
        while not at.known:
            if at.looking:
                raise NotTaken(Why.OTHER, "a directory is told to be within itself", at.was or at.name)
            at.looking = True
            above, rest = self._above(at)
            if above is None:
                at.known, at.looking = True, False
                at.path = rest
                break
            chain.append((at, rest))
            at = above
        path = at.path
        for below, rest in reversed(chain):
            path = None if path is None or rest is None else join(path, rest)
            below.path, below.known, below.looking = path, True, False
        return path

    def _above(self, draft: Draft) -> tuple[Draft | None, bytes | None]:
        """By which other directory its path is known, and its path from there; or none, and its path, None: nowhere."""
        if draft.parent is not None:
            return self.drafts[draft.parent], draft.name
        if draft.was is None:
            return None, None
        mover = self._mover_above(draft.was)
        if mover is None:
            return None, draft.was
        if mover is _NOWHERE or mover.was is None:
            return None, None
        return mover, draft.was[len(mover.was) + 1 :]

    def _mover_above(self, path: bytes) -> Draft | None:
        """The nearest directory above a path of the base that moves; None: there is none; `_NOWHERE`: one that goes is
        nearer."""
        while path:
            if path in self._moved:
                return self._moved[path]
            if path in self._displaced:
                return _NOWHERE
            path = path.rpartition(b"/")[0]
        return None

    def base_path(self, path: bytes) -> bytes | None:
        """Where a path of the base has got to; None: nowhere."""
        mover = self._mover_above(path)
        if mover is None:
            return path
        if mover is _NOWHERE or mover.was is None:
            return None
        above = self._path_of(mover)
        return None if above is None else above + path[len(mover.was) :]

    def _is_topmost(self, path: bytes) -> bool:
        """Whether nothing above it goes as well."""
        above = path.rpartition(b"/")[0]
        return self._mover_above(above) is not _NOWHERE

    def _locked(self) -> Iterator[Locked]:
        for id_, (was, flags) in self._locks.items():
            if id_ in self._locked_at:
                parent, name = self._locked_at[id_]
                above = self._path_of(self.drafts[parent])
                path = None if above is None else join(above, name)
            else:
                path = None if was is None else self.base_path(was)
            if path is not None:
                yield Locked(path, flags)


_NOWHERE = Draft(ObjectId(0, 0), None, False, -1)
"""In place of a directory that moves: what is asked for is below one that goes."""


def names_of(reader: Reader, position: int) -> Iterator[Name]:
    """The names of a directory, from the first of their records on. OSError where they cannot be read any more."""
    while True:
        record = reader.at(position)
        if record is None or record.kind != RecordKind.NAMES:
            raise OSError(errno.EIO, "the journal cannot be read any more")
        told = read_names(record.payload)
        yield from told.names
        if told.last:
            return
        position = reader.after(record)


def _pages(directories: Iterable[Directory], locked: Iterable[Locked], size: int = 1000) -> Iterator[Page]:
    """In pieces that fit a record: a path has up to 64 KiB."""
    room, at = 1 << 20, 0
    page: list[Directory] = []
    for directory in directories:
        page.append(directory)
        at += len(directory.path) + len(directory.was or b"") + sum(map(len, directory.left)) + 100
        if at > room or len(page) >= size:
            yield Page(page)
            page, at = [], 0
    yield Page(page)
    files: list[Locked] = []
    for lock in locked:
        files.append(lock)
        if len(files) >= 15:
            yield Page([], files)
            files = []
    if files:
        yield Page([], files)


def entries_below(tree: Tree, path: bytes, stays: set[int], selection: Selection | None) -> Iterator[bytes]:
    """Paths of `path` and of all below it that go with it: without what gets another name, and what is below that.
    `NotTaken` where rules leave something out of that, which must stay. OSError."""
    pending = [path]
    while pending:
        directory = pending.pop()
        yield directory
        fd = tree.open_directory(directory)
        try:
            with os.scandir(b"/proc/self/fd/%d" % fd) as found:
                entries = [(e.name, e.inode(), e.is_dir(follow_symlinks=False)) for e in found]
        finally:
            os.close(fd)
        for name, inode, is_directory in entries:
            if inode in stays:
                continue
            if selection is not None and selection.excludes(directory, name, is_directory=is_directory):
                message = "what the rules leave out is in a directory that has to go"
                raise NotTaken(Why.CONFLICT, message, join(directory, name))
            if is_directory:
                pending.append(join(directory, name))
            else:
                yield join(directory, name)
