"""Telling a point, and keeping what was told until the target has it.

A point that was read is of a moment that does not come again. Where the connection breaks before the target has it, it
is told once more from what was kept, without another freeze. What the passes told is kept in memory alone, as far as
there is room: a point of which it was not is read anew after a break.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from storagemirror.entry import Size, TimeNs
from storagemirror.point import Names, Object, PointDigest, RecordKind, Zeros, encode, read_names, read_object
from storagemirror.sync.pointmaker.line import Teller
from storagemirror.sync.pointmaker.queue import Queue, QueueFull, Tape
from storagemirror.sync.pointmaker.repeating import Repeats
from storagemirror.sync.pointmaker.turn import Moment
from storagemirror.wire.content import data_prefix

_OFFSET_BYTES = 8


@dataclass(frozen=True, slots=True)
class _Ending:
    """What the end of a point says."""

    at_ns: TimeNs
    changed_ns: TimeNs
    entries: Size
    moment: Moment | None

    def tell(self, teller: Teller) -> bytes:
        """The digest of the point. `Disconnected`."""
        return teller.end(self.at_ns, changed_ns=self.changed_ns, entries=self.entries, moment=self.moment)


@dataclass(frozen=True, slots=True)
class Kept:
    """A whole point."""

    tapes: tuple[Tape, ...]
    ending: _Ending

    def tell(self, teller: Teller) -> bytes:
        """All of it; its digest. `Disconnected`, `QueueLost`."""
        for tape in self.tapes:
            _retell(tape, teller)
        return self.ending.tell(teller)

    def clear(self) -> None:
        """It is not needed any more."""
        for tape in self.tapes:
            tape.clear()

    @property
    def size(self) -> int:
        """Bytes that it takes in the queue."""
        return sum(tape.size for tape in self.tapes)


class Aside:
    """Hears what is read while the volume is frozen, and puts it on a tape."""

    def __init__(self, teller: KeepingTeller, tape: Tape) -> None:
        self._teller = teller
        self.tape = tape

    def object(self, told: Object) -> None:
        """See `PointTeller`; `QueueFull`, from here and all below."""
        self.add(RecordKind.OBJECT, encode(told))

    def content(self, offset: int, content: memoryview) -> None:
        """See `PointTeller`. Copied."""
        self.add(RecordKind.CONTENT, data_prefix(offset), content)

    def zeros(self, offset: int, length: int) -> None:
        """See `PointTeller`."""
        self.add(RecordKind.ZEROS, encode(Zeros(offset, length)))

    def add(self, kind: RecordKind, *parts: bytes | memoryview) -> None:
        try:
            self.tape.add(kind, *parts)
        except QueueFull:
            if not self._teller.give_up():
                raise
            self.tape.add(kind, *parts)


class KeepingTeller:
    """Tells one point: at once what passes read; what was read while frozen, and all that follows, by `send`."""

    def __init__(self, wire: Teller, queue: Queue, before: bytes) -> None:
        """`before`: digest of the base."""
        self._wire = Repeats(wire)
        self._digest = PointDigest(before)
        self._told: Tape | None = queue.tape(on_disk=False)
        """What is on the wire; None: it was not kept."""
        self._later = queue.tape()
        self._holding = False
        self._ending: _Ending | None = None
        self.frozen = Aside(self, self._later)

    @property
    def repeats(self) -> Repeats:
        """How much was told more than once."""
        return self._wire

    def give_up(self) -> bool:
        """Make room: forget what is on the wire. Whether there was something."""
        told, self._told = self._told, None
        if told is not None:
            told.clear()
        return told is not None

    def thawed(self) -> None:
        """What was read while frozen is a part of the point."""
        self._holding = True
        for kind, payload in self._later:
            self._digest.add(kind, payload)

    # -- as a `Teller`

    def object(self, told: Object) -> None:
        """See `PointTeller`."""
        if not self._hold(RecordKind.OBJECT, payload := encode(told)):
            self._wire.object(told)
            self._keep(RecordKind.OBJECT, payload)

    def names(self, told: Names) -> None:
        """See `PointTeller`."""
        if not self._hold(RecordKind.NAMES, payload := encode(told)):
            self._wire.names(told)
            self._keep(RecordKind.NAMES, payload)

    def content(self, offset: int, content: memoryview) -> None:
        """See `PointTeller`."""
        if not self._hold(RecordKind.CONTENT, prefix := data_prefix(offset), content):
            self._wire.content(offset, content)
            self._keep(RecordKind.CONTENT, prefix, content)

    def zeros(self, offset: int, length: int) -> None:
        """See `PointTeller`."""
        if not self._hold(RecordKind.ZEROS, payload := encode(Zeros(offset, length))):
            self._wire.zeros(offset, length)
            self._keep(RecordKind.ZEROS, payload)

    def end(self, at_ns: TimeNs, *, changed_ns: TimeNs = 0, entries: Size = 0, moment: Moment | None = None) -> bytes:
        """See `PointTeller`; it is told by `send`."""
        self._ending = _Ending(at_ns, changed_ns, entries, moment)
        return self._digest.digest()

    def drop(self) -> None:
        """See `PointTeller`."""
        self.forget()
        self._wire.drop()

    # -- after the end

    def kept(self) -> Kept | None:
        """The point that was ended, if it was kept as a whole."""
        if self._told is None or self._ending is None:
            return None
        return Kept((self._told, self._later), self._ending)

    def send(self) -> bytes:
        """Tell what was held back, and the end; the digest. `Disconnected`, `QueueLost`."""
        ending = self._ending
        if ending is None:
            raise AssertionError("it was not ended")
        _retell(self._later, self._wire)
        if self._told is None:
            self._later.clear()
        return ending.tell(self._wire)

    def flush(self) -> None:
        """It cannot be ended yet: tell what was held back, and go on at once. `Disconnected`, `QueueLost`."""
        self.give_up()
        _retell(self._later, self._wire)
        self._later.clear()
        self._holding = False

    def forget(self) -> None:
        """Nothing comes of it: whatever was kept is not needed."""
        self.give_up()
        self._later.clear()

    def _hold(self, kind: RecordKind, *parts: bytes | memoryview) -> bool:
        """Whether it is told later: it was put aside then."""
        self._digest.add(kind, *parts)
        if not self._holding:
            return False
        try:
            self.frozen.add(kind, *parts)
        except QueueFull:
            self.flush()
            return False
        return True

    def _keep(self, kind: RecordKind, *parts: bytes | memoryview) -> None:
        if self._told is not None:
            try:
                self._told.add(kind, *parts)
            except QueueFull:
                self.give_up()


def _retell(tape: Tape, teller: Teller) -> None:
    """Records as they were told."""
    for kind, payload in tape:
        match kind:
            case RecordKind.OBJECT:
                teller.object(read_object(bytes(payload)))
            case RecordKind.NAMES:
                teller.names(read_names(bytes(payload)))
            case RecordKind.CONTENT:
                offset = int.from_bytes(payload[:_OFFSET_BYTES], "little")
                teller.content(offset, payload[_OFFSET_BYTES:])
            case RecordKind.ZEROS:
                zeros = msgspec.msgpack.decode(payload, type=Zeros)
                teller.zeros(zeros.offset, zeros.length)
