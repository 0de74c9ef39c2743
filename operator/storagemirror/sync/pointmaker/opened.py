"""The point that is being told: from its first object to its end."""

from __future__ import annotations

from storagemirror.entry import NotKeptKind
from storagemirror.errors import Changed
from storagemirror.fs.scan import Report
from storagemirror.point import Name, Names, Object
from storagemirror.sync.pointmaker.catalogue import NEVER, Catalogue, Known
from storagemirror.sync.pointmaker.keeping import KeepingTeller
from storagemirror.sync.pointmaker.telling import Read, Reader
from storagemirror.sync.pointmaker.turn import Moment

_IN_NAMES = 10_000
_BYTES_IN_NAMES = 1 << 20
_NAME_BYTES = 32
"""What a name takes beside its own bytes, at most."""


class Opened:
    """One point. All that talks raises `Disconnected`."""

    def __init__(self, number: int, teller: KeepingTeller, catalogue: Catalogue, report: Report) -> None:
        self.number = number
        self.teller = teller
        self._catalogue = catalogue
        self._report = report
        self._told: dict[Known, Object] = {}
        self.bytes = 0
        """Of content that was told."""
        self.changed_ns = 0
        """The latest ctime of what is in it."""

    @property
    def empty(self) -> bool:
        """Whether nothing was told in it yet."""
        return not self._told

    def touch(self, known: Known) -> None:
        """Something is about to be told of it: what the target has of it then is remembered."""
        self._catalogue.since.told.setdefault(known, known.sums)

    def told(self, read: Read) -> None:
        """All of that was told."""
        self._told[read.known] = read.told
        read.known.size, read.known.sums = read.told.size, read.sums
        read.known.placed, read.known.narrow = read.placed, read.narrow
        self.changed_ns = max(self.changed_ns, read.changed_ns)
        self.bytes += read.content

    def take(self, read: Read) -> None:
        """It was read while the volume was frozen, and is told with the end."""
        self.touch(read.known)
        self.told(read)

    def cannot_read(self, known: Known, error: OSError) -> None:
        """It is reported, and left as it was at the base, or left out."""
        self._report(NotKeptKind.UNREADABLE, self._catalogue.path(known) or b"")

    def lacks(self, reads: list[Read]) -> str:
        """What keeps the point from being finished when `reads` are taken, too; empty: nothing does."""
        told = {*self._told, *(read.known for read in reads)}
        since = self._catalogue.since
        listed = {*since.listed, *(known for known in since.new if known.children is not None and known in told)}
        for directory in listed:
            for known in self._catalogue.names_of(directory).values():
                if known not in told and known not in since.new and self._catalogue.has_moved(known):
                    return "an object that was moved has not been read yet"
            if self._is_there(directory) and directory not in told:
                return "a directory whose names changed has not been read yet"
        return ""

    def finish(self, reader: Reader, at_ns: int, moment: Moment | None = None) -> bytes:
        """Tell the names, and what is not as it was told, and end the point; its digest. `Changed` when something that
        must be told was never read (`lacks`): nothing is ended then."""
        catalogue = self._catalogue
        self._leave_out()
        if missing := self.lacks([]):
            raise Changed(missing)
        listed = {*catalogue.since.listed, *(known for known in catalogue.since.new if known.children is not None)}
        for known, told in self._told.items():
            if known.children is None and self._is_there(known):
                final = reader.final(known, told)
                if final != told:
                    self.teller.object(final)
        for directory in {*listed, *(known for known in self._told if known.children is not None)}:
            if not self._is_there(directory):
                continue
            told_before = self._told.get(directory)
            if told_before is None:
                raise Changed("a directory whose names changed has not been read yet")
            self.teller.object(reader.final(directory, told_before))
            if directory in listed:
                self._names(catalogue.names(directory))
        return self.teller.end(at_ns, changed_ns=self.changed_ns, entries=len(catalogue) - 1, moment=moment)

    def _is_there(self, known: Known) -> bool:
        return known.parent is not None or known is self._catalogue.root

    def _leave_out(self) -> None:
        """What is new and could not be read has no name in this point; it is found again later."""
        for known in [known for known in self._catalogue.since.new if known not in self._told]:
            for directory in self._catalogue.forget(known):
                directory.ctime_ns = NEVER
            self._catalogue.since.new.discard(known)

    def _names(self, names: list[Name]) -> None:
        part: list[Name] = []
        size = 0
        for name in names:
            part.append(name)
            size += len(name.name) + _NAME_BYTES
            if len(part) >= _IN_NAMES or size >= _BYTES_IN_NAMES:
                self.teller.names(Names(part, last=False))
                part, size = [], 0
        self.teller.names(Names(part))
