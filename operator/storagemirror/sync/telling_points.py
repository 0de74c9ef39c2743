"""The source's words of a point: records as they are sent, and the digest over them."""

from __future__ import annotations

from storagemirror.entry import Size, TimeNs
from storagemirror.point import End, Names, Object, PointDigest, RecordKind, Zeros, encode
from storagemirror.sync.channel import Channel
from storagemirror.sync.pointmaker.turn import Moment
from storagemirror.wire import messages as m
from storagemirror.wire.content import data_prefix


class PointTeller:
    """Tells one point. What belongs to an object follows it (`storagemirror.point`)."""

    def __init__(self, channel: Channel, number: int, before: bytes) -> None:
        """`before`: digest of the base. `Disconnected`, from here and all below."""
        self._channel = channel
        self._number = number
        self._before = before
        self._digest = PointDigest(before)
        channel.send(m.Point(number, before))

    def object(self, told: Object) -> None:
        """What follows belongs to it."""
        self._digest.add(RecordKind.OBJECT, self._channel.send_record(told))

    def names(self, told: Names) -> None:
        """Of the directory told last."""
        self._digest.add(RecordKind.NAMES, self._channel.send_record(told))

    def content(self, offset: int, content: memoryview) -> None:
        """Of the file told last; 1 byte to `CONTENT_LIMIT`."""
        self._channel.send_data(offset, content)
        self._digest.add(RecordKind.CONTENT, data_prefix(offset), content)

    def zeros(self, offset: int, length: int) -> None:
        """Of the file told last; 1 byte or more."""
        self._channel.send(m.Hole(offset, length))
        self._digest.add(RecordKind.ZEROS, encode(Zeros(offset, length)))

    def end(self, at_ns: TimeNs, *, changed_ns: TimeNs = 0, entries: Size = 0, moment: Moment | None = None) -> bytes:
        """That was the point: the state at `at_ns` of the source's clock. Its digest, which is `before` of the next."""
        digest = self._digest.digest()
        group, group_ns = (moment.group, moment.at_ns) if moment is not None else (0, 0)
        end = End(self._number, self._digest.records, digest, self._before, at_ns, changed_ns, entries, group, group_ns)
        self._channel.send(m.PointEnd(end))
        return digest

    def drop(self) -> None:
        """Forget this point."""
        self._channel.send(m.Drop())
