"""A committed point is applied, from the step on at which its mark stands."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from storagemirror.fs.journal import naming, steps, work
from storagemirror.fs.journal.making import Maker
from storagemirror.fs.journal.plan import Directory, Locked, Page
from storagemirror.fs.journal.segments import COMMIT, PLAN, Commit, Reader
from storagemirror.fs.journal.steps import Mark, Step
from storagemirror.fs.journal.volume import Volume
from storagemirror.fs.journal.work import Work
from storagemirror.point import RecordKind, Zeros, read_object

_zeros = msgspec.msgpack.Decoder(Zeros).decode
_page = msgspec.msgpack.Decoder(Page).decode


class Unreadable(Exception):
    """The journal of a point that was committed cannot be read any more."""


class Application:
    """Of one point. OSError; `Unreadable`."""

    def __init__(self, volume: Volume, journal: int, mark: Mark, commit: Commit, sync: Callable[[], None]) -> None:
        """`sync` makes the whole file system durable; an error of it means that something may be lost."""
        self._volume = volume
        self._journal = journal
        self._mark = mark
        self._commit = commit
        self._sync = sync
        self._directories: list[Directory] = []
        self._locked: list[Locked] = []

    def run(self) -> None:
        """When it returns the volume is at the point, and all of it is on the disk; the mark still stands."""
        reader = Reader(self._journal, self._mark.point)
        place = Work(self._journal)
        try:
            self._read_plan(reader)
            if self._mark.step is Step.WRITE:
                work.let_go(self._journal)
                self._write(reader, place)
                self._go_on(self._after_write())
            if self._mark.step is Step.HOLD:
                naming.hold(self._volume, place, self._directories)
                self._go_on(Step.PLACE)
            if self._mark.step is Step.PLACE:
                namer = naming.Namer(self._volume, place, reader)
                for told in self._directories:
                    namer.place(told)
                self._go_on(Step.FINISH)
            work.clear(self._journal)
            naming.finish(self._volume, reader, self._directories, self._locked)
            self._sync()
            self._volume.locks.forget_all()
        finally:
            place.close()
            reader.close()

    def _after_write(self) -> Step:
        if any(told.moves for told in self._directories):
            return Step.HOLD
        return Step.PLACE if any(told.names_at >= 0 for told in self._directories) else Step.FINISH

    def _go_on(self, step: Step) -> None:
        self._sync()
        self._mark = steps.advance(self._journal, self._mark, step)

    def _read_plan(self, reader: Reader) -> None:
        record = reader.at(self._commit.plan_at)
        while record is not None and record.kind == PLAN:
            page = _page(record.payload)
            self._directories += page.directories
            self._locked += page.locked
            record = reader.at(reader.after(record))
        if record is None or record.kind != COMMIT:
            raise Unreadable

    def _write(self, reader: Reader, place: Work) -> None:
        maker = Maker(self._volume, place)
        kind = 0
        try:
            for record in reader.records():
                if record.kind == RecordKind.OBJECT:
                    maker.object(read_object(record.payload))
                elif record.kind == RecordKind.CONTENT:
                    maker.content(int.from_bytes(record.payload[:8], "little"), memoryview(record.payload)[8:])
                elif record.kind == RecordKind.ZEROS:
                    zeros = _zeros(record.payload)
                    maker.zeros(zeros.offset, zeros.length)
                kind = record.kind
            if kind != COMMIT:
                raise Unreadable
            maker.finish()
        finally:
            maker.close()
