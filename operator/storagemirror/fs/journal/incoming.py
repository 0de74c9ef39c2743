"""A point on its way in: written to the journal as it comes, tried on the volume, and committed or dropped.

records appended; what is new made aside, links and blocks taken   (a kill leaves: no commit, all of it is dropped)
names looked at, plan appended, room set aside                      (as above)
fdatasync of the last segment (those before are), fsync of journal/
commit record → fdatasync                                           (from here on the point will be applied)
mark `applying-<point>-1`, or `held-<point>` → fsync of journal/
acknowledged
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from storagemirror.entry import Kind
from storagemirror.errors import ProtocolError
from storagemirror.fs.journal import segments, steps, work
from storagemirror.fs.journal.making import Preparer
from storagemirror.fs.journal.plan import Planner, entries_below
from storagemirror.fs.journal.refusal import NotTaken, Why
from storagemirror.fs.journal.segments import PLAN, Commit, Reader, Writer
from storagemirror.fs.journal.volume import Volume
from storagemirror.fs.journal.work import Work
from storagemirror.fs.place import raise_if_full
from storagemirror.fs.selection import Selection
from storagemirror.point import End, Names, Object, PointDigest, RecordKind, Zeros, check_names, encode

_OFFSET = 8
_NAME_ROOM = 128
"""Bytes of a directory and an index that a name may take, beside itself, twice over."""
_OBJECT_ROOM = 512
_DIRECTORY_ROOM = 8192
_LEAST_ROOM = 256 << 10

Judge = Callable[[Iterator[bytes], Iterator[bytes]], None]
"""Hears the path of each entry that a point deletes, and of those that are new; raises to have it not taken."""


@contextlib.contextmanager
def _full() -> Iterator[None]:
    """An error that means so becomes `VolumeFull`."""
    try:
        yield
    except OSError as e:
        raise_if_full(e)
        raise


class Incoming:
    """One point. For one thread. `VolumeFull` when there is no room, `NotTaken`, ProtocolError (what comes is no
    point), OSError: `drop` it then."""

    def __init__(
        self,
        volume: Volume,
        journal: int,
        epoch: int,
        number: int,
        before: bytes,
        *,
        selection: Selection | None = None,
        copies: bool = False,
        segment_bytes: int = segments.SEGMENT,
    ) -> None:
        """`journal`: descriptor of `journal/`. `copies`: what is written over takes new blocks on this file system."""
        self.number = number
        self.before = before
        self._volume = volume
        self._journal = journal
        self._digest = PointDigest(before)
        self._work = Work(journal)
        self._preparer = Preparer(volume, self._work, copies=copies)
        self._planner = Planner(volume.tree, self._work, selection)
        self._object: Object | None = None
        self._last_name: bytes | None = None
        """Of a directory whose names have begun; None: they have not, or are complete."""
        self._room = _LEAST_ROOM
        self._open = True
        try:
            self._writer = Writer(journal, epoch, number, before, segment_bytes=segment_bytes)
        except OSError:
            self._work.close()
            raise

    # -- records

    def object(self, payload: bytes, told: Object) -> None:
        """The next one."""
        self._end_names()
        self._object = told
        position = self._add(RecordKind.OBJECT, payload)
        with _full():
            self._preparer.object(told)
        self._planner.object(told, position)
        self._room += _OBJECT_ROOM + sum(len(name) + len(value) for name, value in told.attributes.xattrs.items())
        self._room += _DIRECTORY_ROOM * (told.was is None and told.kind == Kind.DIRECTORY)

    def names(self, payload: bytes, told: Names) -> None:
        """Of the directory told last."""
        directory = self._object
        if directory is None or directory.kind != Kind.DIRECTORY:
            raise ProtocolError("expected names of a directory after that directory")
        first = self._last_name is None
        self._last_name = check_names(told, self._last_name or b"", root=directory.was == b"")
        self._planner.names(directory.id, self._add(RecordKind.NAMES, payload), first=first)
        self._room += sum(len(name.name) + _NAME_ROOM for name in told.names if not name.kept)
        if told.last:
            self._last_name = None

    def content(self, offset: int, content: memoryview) -> None:
        """Of the file told last."""
        self._need_file()
        self._add(RecordKind.CONTENT, offset.to_bytes(_OFFSET, "little"), content)
        with _full():
            self._preparer.content(offset, content.nbytes)

    def zeros(self, offset: int, length: int) -> None:
        """Of the file told last."""
        self._need_file()
        self._add(RecordKind.ZEROS, encode(Zeros(offset, length)))

    def _need_file(self) -> None:
        if self._object is None or self._object.kind != Kind.FILE:
            raise ProtocolError("expected content after the file that it is of")

    def _end_names(self) -> None:
        if self._last_name is not None:
            raise ProtocolError("expected the last names of a directory before the next object")

    def _add(self, kind: RecordKind, *parts: bytes | memoryview) -> int:
        self._digest.add(kind, *parts)
        with _full():
            return self._writer.add(kind, *parts)

    # -- the end

    def commit(self, end: End, judge: Judge, *, hold: bool = False) -> Commit:
        """All has come: have it durable, whole. After this it will be applied, whatever happens; `hold`: once that is
        said, and what lies aside stays until then."""
        self._end_names()
        self._preparer.end()
        told = (end.number, end.records, end.digest, end.before)
        if told != (self.number, self._digest.records, self._digest.digest(), self.before):
            raise NotTaken(Why.DAMAGED, "the records that came are not those that the source told of")
        with _full():
            return self._commit(end, judge, hold=hold)

    def _commit(self, end: End, judge: Judge, *, hold: bool) -> Commit:
        self._writer.sync()
        reader = Reader(self._journal, self.number)
        try:
            pages = self._planner.plan(reader, self._preparer.held, self._preparer.later)
            positions = [self._writer.add(PLAN, msgspec.msgpack.encode(page)) for page in pages]
        finally:
            reader.close()
        gone = self._gone()
        judge(gone, self._planner.new_paths())
        for _ in gone:
            pass  # all of it is looked at, whatever the judge looked at
        room = self._room + self._preparer.room
        work.set_aside(self._journal, room)
        self._writer.sync()
        commit = self._writer.commit(end, positions[0], room)
        (steps.hold if hold else steps.begin)(self._journal, self.number)
        self._let_go()
        return commit

    def _gone(self) -> Iterator[bytes]:
        stays = self._planner.stays
        for path, is_directory in self._planner.gone:
            if is_directory:
                yield from entries_below(self._volume.tree, path, stays, self._planner.selection)
            else:
                yield path

    def drop(self) -> None:
        """Nothing of it is kept. OSError."""
        self._let_go()
        segments.remove(self._journal, self.number)
        work.clear(self._journal)

    def _let_go(self) -> None:
        if self._open:
            self._open = False
            self._preparer.close()
            self._writer.close()
            self._work.close()
