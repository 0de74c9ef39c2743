"""Bringing the catalogue up to what the volume is, and finding out which objects changed.

One rule decides: an object is as it was told when its ctime is the one that it was told with. Hints only say whose
ctime to look at. A ctime counts for the content that is read *after a `syncfs` that came after the look*: a page that
was dirty before the look may be written again without another ctime, until it has been written out once.

Where a volume is not frozen, what is found may be of different moments. Then paths may lead nowhere, or to another
object than was thought: what is above is listed again, and the rest is left to the next look. While the volume is
frozen, one look with all hints makes the present exact.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.clock import Clock
from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, NotKeptKind, View, join, split
from storagemirror.fs.objectid import generation_at
from storagemirror.fs.scan import Report
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.pointmaker.capturing import Hints, Ranges, joined
from storagemirror.sync.pointmaker.catalogue import NEVER, Catalogue, Known

_OURS = frozenset({STATE_DIRECTORY, LOST_AND_FOUND})
_ROUNDS = 4
"""A directory that is never where it is said to be is left after so many looks."""


@dataclass(slots=True)
class Due:
    """An object that is to be read and told."""

    ctime_ns: int
    """As it was at the look; `NEVER`: another change could have the same."""
    ranges: Ranges | None = None
    """Where its content may have changed; None: anywhere."""
    changed_ns: int = 0
    """Its ctime, whatever that is worth; 0: not looked at yet."""
    size: int = 0
    """Of a file."""
    unnamed: bool = False
    """Only its ctime says that it has changed: what is named of it later is all that did."""
    named: Ranges | None = None
    """What was named of it by its pages since it was told, also where `ranges` is None; None: not known."""


@dataclass(slots=True)
class _Place:
    """What is to be looked at in one directory."""

    names: set[bytes] = field(default_factory=set)
    hinted: set[bytes] = field(default_factory=set)
    """Names of which something is said to have happened to what is there."""
    deep: bool = False
    """All names, and all below."""
    rounds: int = 0


@dataclass(frozen=True, slots=True)
class _At:
    directory: Known
    fd: int
    path: bytes
    place: _Place


class Survey:
    """Looks at the volume of one catalogue. For one thread."""

    def __init__(
        self,
        catalogue: Catalogue,
        volume: SourceVolume,
        view: View,
        report: Report,
        clock: Clock,
        *,
        names_pages: Callable[[], bool] = lambda: False,
    ) -> None:
        """`names_pages`: see `Capture`; may change between looks. Where they are not named, a file whose name is hinted
        is read whatever its ctime says: a direct write moves the ctime when it begins, and is told when it has ended.
        """
        self._names_pages = names_pages
        self._trees: set[bytes] = set()
        self._catalogue = catalogue
        self._volume = volume
        self._view = view
        self._report = report
        self._clock = clock
        self._queue: dict[Known, _Place] = {}
        self.due: dict[Known, Due] = {}
        """What was found to have changed and has not been told since; whoever tells it takes it out (`told`)."""
        self.unsettled: set[Known] = set()
        """What was told and cannot be trusted: looked at again once the volume is frozen."""
        self.doubtful: set[Known] = set()
        """What was told, and may have been otherwise in places that nobody names: all of it is compared next."""
        self._all_whole = False
        """Hints were lost, and what changed since has not been found yet."""
        self.settle_ns = 0
        """What changed less than this before it was looked at is not trusted."""
        self.pace: Callable[[], None] = lambda: None
        """Called before each directory, and every few hundred entries; may raise to end the look: what is not done
        comes again with the next one."""
        self.looked = 0
        """Entries looked at so far."""

    def look(self, hints: Hints) -> None:
        """At what is hinted. Raises what `pace` raises; OSError when the disk fails; `VolumeError`."""
        self._trees = hints.trees
        self._all_whole = self._all_whole or hints.lost
        if self._all_whole:
            for due in self.due.values():
                due.ranges, due.named, due.unnamed = None, None, False
        for inode, ranges in hints.pages.items():
            self._add_hinted(inode, ranges)
        for inode in hints.whole:
            self._add_hinted(inode, None)
        for path in hints.names:
            self._want(path)
        for path in hints.trees:
            self._want(path, deep=True)
        if hints.lost:
            self._place(self._catalogue.root).deep = True
        if self._work():
            self._all_whole = False

    def look_frozen(self, hints: Hints, *, everywhere: bool) -> None:
        """As `look`, at all that may have changed in the end: the volume is frozen. What is found is exact."""
        self.settle_ns = self._volume.grain_ns
        for known in self.unsettled:
            self.again(known)
        if everywhere:
            self._place(self._catalogue.root).deep = True
        self.look(hints)
        for known in self._catalogue.sweep():
            self._lost_a_name(known)
        self._work()

    def forget_gone(self) -> None:
        """What has no name any more is nobody's business."""
        root = self._catalogue.root
        for known in [known for known in self.due if known.parent is None and known is not root]:
            del self.due[known]
        self.unsettled = {known for known in self.unsettled if known.parent is not None or known is root}
        self.doubtful = {known for known in self.doubtful if known.parent is not None or known is root}

    def look_everywhere(self) -> None:
        """At every object's ctime."""
        self._place(self._catalogue.root).deep = True
        self._work()

    def make_due(self, known: Known) -> None:
        """It is to be told, although it has not changed since the last look."""
        due = self.due.setdefault(known, Due(known.ctime_ns, None, known.ctime_ns, known.size))
        due.ranges, due.named, due.unnamed = None, None, False
        known.ctime_ns = NEVER

    def distrust(self) -> None:
        """What is due may have changed in the very moment when it was looked at."""
        for due in self.due.values():
            due.ctime_ns = NEVER

    def told(self, known: Known, ctime_ns: int) -> None:
        """It was read and told as it was with this ctime; `NEVER`: it may have been otherwise."""
        self.due.pop(known, None)
        known.ctime_ns = ctime_ns
        if ctime_ns == NEVER:
            self.unsettled.add(known)
            if not self._names_pages():
                self.doubtful.add(known)
        else:
            self.unsettled.discard(known)
            self.doubtful.discard(known)

    # -- what to look at

    def _want(self, path: bytes, *, deep: bool = False) -> None:
        """`path` may have changed: its name in the directory above, and what it is."""
        if not path:
            self._place(self._catalogue.root).deep |= deep
            return
        parent, name = split(path)
        above = self._catalogue.at(parent)
        while above is None or above.children is None:
            parent, name = split(parent)
            above = self._catalogue.at(parent)
        self._place(above).hinted.add(name)
        if deep and (known := self._catalogue.at(path)) is not None and known.children is not None:
            self._place(known).deep = True

    def again(self, known: Known) -> None:
        """Look at it under one of its names."""
        if known.parent is None:
            return
        if known.children is not None:
            self._place(known)
        self._place(known.parent).names.add(known.name)

    def _place(self, directory: Known) -> _Place:
        """It is looked at next."""
        place = self._queue.pop(directory, None)
        if place is None:
            place = _Place()
        self._queue[directory] = place
        return place

    def _add_hinted(self, inode: int, ranges: Ranges | None) -> None:
        """Of what is not known here a name tells."""
        known = self._catalogue.by_inode.get(inode)
        if known is not None and stat.S_ISREG(known.mode):
            self.add_pages(known, ranges)

    def add_pages(self, known: Known, ranges: Ranges | None) -> None:
        """These bytes of it may have changed (None: any), whatever its ctime says."""
        named = None if self._all_whole else ranges
        if self._all_whole or known in self.doubtful:
            ranges = None
        due = self.due.get(known)
        if due is None:
            self.due[known] = Due(NEVER, ranges, named=named)
        else:
            due.ranges = ranges if due.unnamed else joined(due.ranges, ranges)
            due.named = named if due.unnamed else joined(due.named, named)
            due.ctime_ns, due.unnamed = NEVER, False
        self.again(known)

    # -- looking

    def _work(self) -> bool:
        """The last directory first: what is said of one above helps with those below. Whether all was found."""
        complete = True
        while self._queue:
            directory, place = self._queue.popitem()
            try:
                self.pace()
                done = self._directory(directory, place)
            except BaseException:
                self._queue[directory] = place
                raise
            if not done and place.rounds >= _ROUNDS:
                complete = False
            elif not done:
                place.rounds += 1
                self._queue[directory] = place
                above = directory.parent
                if above is not None:  # it is not where it was: what is there now?
                    self._place(above).names.add(directory.name)
        return complete

    def _directory(self, directory: Known, place: _Place) -> bool:
        """Look at one directory; False when it is not where it was thought to be."""
        path = self._catalogue.path(directory)
        if path is None:
            return True  # gone; or whoever has it now is still to be looked at
        try:
            fd = self._volume.tree.open_directory(path)
        except OSError:
            return False
        try:
            found = os.fstat(fd)
            if found.st_ino != directory.inode:
                return False
            changed = found.st_ctime_ns != directory.ctime_ns
            if changed:
                self.due[directory] = self._due_now(found, None)
            names = place.names | place.hinted
            if changed or place.deep:
                names |= self._list(directory, fd, everything=place.deep or directory.ctime_ns == NEVER)
            for number, name in enumerate(names):
                if number & 255 == 255:
                    self.pace()
                self._name(_At(directory, fd, path, place), name)
        finally:
            os.close(fd)
        return True

    def _list(self, directory: Known, fd: int, *, everything: bool) -> set[bytes]:
        """The names that are to be looked at: new ones, those of other objects than before, or all. What is not there
        any more is removed."""
        children = self._catalogue.names_of(directory)
        is_root = directory is self._catalogue.root
        wanted: set[bytes] = set()
        there: set[bytes] = set()
        with os.scandir(b"/proc/self/fd/%d" % fd) as entries:
            for entry in entries:
                name = entry.name
                if is_root and name in _OURS:
                    continue
                there.add(name)
                before = children.get(name)
                if everything or before is None or before.inode != entry.inode():
                    wanted.add(name)
        for name in children.keys() - there:
            self._remove(directory, name)
        return wanted

    def _name(self, at: _At, name: bytes) -> None:
        """What is at a name now."""
        self.looked += 1
        if at.directory is self._catalogue.root and name in _OURS:
            return
        try:
            found = os.stat(name, dir_fd=at.fd, follow_symlinks=False)
            known = self._object(found, at.fd, name) if self._takes(at.path, name, found) else None
        except FileNotFoundError:
            known = None
        if known is None:
            self._remove(at.directory, name)
            return
        before = self._catalogue.names_of(at.directory).get(name)
        placed = before is not known
        if placed:
            self._catalogue.place(at.directory, name, known)
            self._lost_a_name(before)
        changed = known.ctime_ns != found.st_ctime_ns
        if known.children is not None:
            if placed and known not in self.due:
                self.due[known] = self._due_now(found, None)
            if at.place.deep or changed or placed:
                self._place(known).deep |= at.place.deep or (placed and join(at.path, name) in self._trees)
            return
        hinted = name in at.place.hinted and not self._names_pages()
        due = self.due.get(known)
        if changed or placed or hinted:
            # Where pages are named, and nothing speaks of more than these, they are all that changed.
            now = self._due_now(found, due.ranges if due is not None else None)
            if due is not None:
                now.unnamed, now.named = due.unnamed, due.named
            else:
                now.unnamed = not (placed or self._all_whole or known in self.doubtful)
            self.due[known] = now
        elif due is not None and due.ctime_ns == NEVER:
            due.ctime_ns, due.changed_ns = self._trusted(found), found.st_ctime_ns

    def _remove(self, directory: Known, name: bytes) -> None:
        """Nothing is at this name."""
        before = self._catalogue.names_of(directory).get(name)
        self._catalogue.remove(directory, name)
        self._lost_a_name(before)

    def _lost_a_name(self, known: Known | None) -> None:
        """That moved its ctime, and nothing hints at a name that it still has."""
        if known is not None and known.children is None:
            self.again(known)

    def _object(self, found: os.stat_result, fd: int, name: bytes) -> Known:
        known = self._catalogue.by_inode.get(found.st_ino)
        kind = stat.S_IFMT(found.st_mode)
        if known is not None and stat.S_IFMT(known.mode) == kind and known.ctime_ns == found.st_ctime_ns:
            return known
        generation = generation_at(fd, name)
        if known is None or known.generation != generation or stat.S_IFMT(known.mode) != kind:
            known = self._catalogue.add(found.st_ino, generation, found.st_mode)
        return known

    def _takes(self, path: bytes, name: bytes, found: os.stat_result) -> bool:
        """Whether an entry is mirrored at all."""
        selection = self._volume.selection
        if selection is not None and selection.excludes(path, name, is_directory=stat.S_ISDIR(found.st_mode)):
            return False
        if found.st_dev != self._volume.tree.device:
            self._report(NotKeptKind.OTHER_FILE_SYSTEM, join(path, name))
            return False
        if not self._view.devices and (stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode)):
            self._report(NotKeptKind.DEVICE, join(path, name))
            return False
        return True

    def _due_now(self, found: os.stat_result, ranges: Ranges | None) -> Due:
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        return Due(self._trusted(found), ranges, found.st_ctime_ns, size)

    def _trusted(self, found: os.stat_result) -> int:
        """The ctime, or `NEVER` where another change could have the same."""
        if self.settle_ns and found.st_ctime_ns > self._clock.now_ns() - self.settle_ns:
            return NEVER
        return found.st_ctime_ns
