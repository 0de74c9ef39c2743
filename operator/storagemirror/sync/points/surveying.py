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
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from storagemirror.clock import Clock
from storagemirror.entry import LOST_AND_FOUND, STATE_DIRECTORY, NotKeptKind, View, join, split
from storagemirror.fs.objectid import generation_at
from storagemirror.fs.scan import Report
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.points.capturing import Hints, Ranges, merged
from storagemirror.sync.points.catalogue import NEVER, Catalogue, Known

_OURS = frozenset({STATE_DIRECTORY, LOST_AND_FOUND})
_LINKS = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
_ROUNDS = 4
"""A directory that is never where it is said to be is left after so many looks."""


@dataclass(slots=True)
class Due:
    """An object that is to be read and told."""

    ctime_ns: int
    """As it was at the look; `NEVER`: another change could have the same."""
    ranges: Ranges | None = None
    """Where its content may have changed; None: anywhere."""


@dataclass(slots=True)
class _Place:
    """What is to be looked at in one directory."""

    names: set[bytes] = field(default_factory=set)
    deep: bool = False
    """All names, and all below."""
    rounds: int = 0


class Survey:
    """Looks at the volume of one catalogue. For one thread."""

    def __init__(self, catalogue: Catalogue, volume: SourceVolume, view: View, report: Report, clock: Clock) -> None:
        self._catalogue = catalogue
        self._volume = volume
        self._view = view
        self._report = report
        self._clock = clock
        self._queue: dict[Known, _Place] = {}
        self.due: dict[Known, Due] = {}
        """What was found to have changed and has not been told since; whoever tells it takes it out."""
        self.pace: Callable[[], None] = lambda: None
        """Called before each directory, and every few hundred entries; may raise to end the look: what is not done
        comes again with the next one."""
        self.looked = 0
        """Entries looked at so far."""

    def look(self, hints: Hints) -> None:
        """At what is hinted. Raises what `pace` raises; OSError when the disk fails; `VolumeError`."""
        if hints.lost:
            self._distrust_pages()
        for path in hints.trees:
            self._want(path, deep=True)
        if b"" not in hints.trees:
            for path in hints.names:
                self._want(path)
        for inode, ranges in hints.pages.items():
            self._add_pages(inode, ranges, hints)
        for inode in hints.whole:
            if (known := self._catalogue.by_inode.get(inode)) is not None:
                self._become_due(known, NEVER, None)
        self._work()

    def look_everywhere(self) -> None:
        """At every object's ctime."""
        self._queue[self._catalogue.root] = _Place(deep=True)
        self._work()

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
            above, deep = self._catalogue.at(parent), False
        place = self._place(above)
        place.names.add(name)
        if deep and (known := self._catalogue.at(path)) is not None and known.children is not None:
            self._place(known).deep = True

    def _place(self, directory: Known) -> _Place:
        return self._queue.setdefault(directory, _Place())

    def _add_pages(self, inode: int, ranges: Ranges, hints: Hints) -> None:
        """Of what is not known here a name tells. Pages alone make nothing due: the ctime does, of one of its names."""
        known = self._catalogue.by_inode.get(inode)
        if known is None or known.parent is None or not stat.S_ISREG(known.mode):
            return
        due = self.due.get(known)
        if due is not None and due.ranges is None:
            return
        self.due[known] = Due(NEVER, merged([*(due.ranges or [] if due else []), *ranges]))
        self._place(known.parent).names.add(known.name)

    def _distrust_pages(self) -> None:
        for known, due in self.due.items():
            self.due[known] = Due(due.ctime_ns, None)

    # -- looking

    def _work(self) -> None:
        order = deque(self._queue)
        while order or self._queue:
            if not order:
                order.extend(self._queue)
            directory = order.popleft()
            place = self._queue.get(directory)
            if place is None:
                continue
            self.pace()
            if self._directory(directory, place) or place.rounds >= _ROUNDS:
                if self._queue.get(directory) is place:
                    del self._queue[directory]
            else:
                place.rounds += 1
                order.append(directory)

    def _directory(self, directory: Known, place: _Place) -> bool:
        """Look at one directory; False when it is not where it was thought to be, and comes again."""
        path = self._catalogue.path(directory)
        if path is None:
            return True  # it has gone, or whoever has it now is still to be looked at and then looks at all of it
        try:
            fd = self._volume.tree.open_directory(path)
        except OSError:
            return self._stale(directory)
        try:
            found = os.fstat(fd)
            if found.st_ino != directory.inode:
                return self._stale(directory)
            ctime = self._trusted(found)
            # Those of a directory that is listed now come in the same go.
            names, place.names = place.names, set()
            if place.deep or found.st_ctime_ns != directory.ctime_ns:
                if found.st_ctime_ns != directory.ctime_ns:
                    self._become_due(directory, ctime, None)
                names |= self._list(directory, fd, everything=place.deep or directory.ctime_ns == NEVER)
                directory.ctime_ns = ctime
            for number, name in enumerate(names):
                if number & 255 == 255:
                    self.pace()
                self._name(directory, fd, path, name, deep=place.deep)
        finally:
            os.close(fd)
        return True

    def _stale(self, directory: Known) -> bool:
        """It is not at its path any more: what is above it is looked at first."""
        above = directory.parent
        if above is None:
            return True
        place = self._place(above)
        place.names.add(directory.name)
        return False

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
            self._catalogue.remove(directory, name)
        return wanted

    def _name(self, directory: Known, fd: int, path: bytes, name: bytes, *, deep: bool) -> None:
        """What is at a name now."""
        self.looked += 1
        if directory is self._catalogue.root and name in _OURS:
            return
        try:
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            known = self._object(found, fd, name) if self._takes(path, name, found) else None
        except FileNotFoundError:
            known = None
        if known is None:
            self._catalogue.remove(directory, name)
            return
        if self._catalogue.names_of(directory).get(name) is not known:
            self._catalogue.place(directory, name, known)
            if known.children is None:
                self._become_due(known, self._trusted(found), None)
        if known.children is not None:
            if deep or known.ctime_ns != found.st_ctime_ns:
                self._place(known).deep |= deep
        elif known.ctime_ns != found.st_ctime_ns:
            due = self.due.get(known)
            self._become_due(known, self._trusted(found), due.ranges if due is not None else None)
        elif (due := self.due.get(known)) is not None and due.ctime_ns == NEVER and due.ranges is not None:
            due.ctime_ns = self._trusted(found)  # pages were named, and nothing else has changed

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

    def _become_due(self, known: Known, ctime_ns: int, ranges: Ranges | None) -> None:
        self.due[known] = Due(ctime_ns, ranges)

    def _trusted(self, found: os.stat_result) -> int:
        """The ctime, or `NEVER` where another change could have the same."""
        grain = self._volume.grain_ns
        if grain and found.st_ctime_ns > self._clock.now_ns() - grain:
            return NEVER
        return found.st_ctime_ns
