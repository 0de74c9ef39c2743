"""How much of a point was told more than once: the target's journal keeps all of it until the point is applied.

While points are put off, each pass tells what was overwritten since the one before. Without a bound the journal of the
point that is open would grow for as long as the application overwrites faster than a point can be made.
"""

from __future__ import annotations

from array import array

from storagemirror.fs.blocks import BLOCK
from storagemirror.point import Names, Object, ObjectId
from storagemirror.sync.pointmaker.line import Teller
from storagemirror.sync.pointmaker.turn import Moment

ALWAYS_BYTES = 64 << 20
"""So much may be told again in any point."""
_RECORD_BYTES = 256
"""What a record takes beside content, names and targets of links, about."""
_NAME_BYTES = 32


class Repeats:
    """A `Teller` that tells to another, and counts. Raises as that one."""

    def __init__(self, wire: Teller) -> None:
        self._wire = wire
        self.once = 0
        """Bytes of records that the point would need, were each thing told once; about."""
        self.again = 0
        """Bytes of records that later ones replaced; about."""
        self._blocks: dict[ObjectId, array[int]] = {}
        """Of each object that was told: bytes that were told of each block of its content."""
        self._named: set[ObjectId] = set()
        self._told: Object | None = None
        self._names_again = False

    @property
    def too_many(self) -> bool:
        """More was told in vain than the point needs: to begin anew takes less room than to go on."""
        return self.again > self.once + ALWAYS_BYTES

    def object(self, told: Object) -> None:
        """See `PointTeller`."""
        self._wire.object(told)
        size = _RECORD_BYTES + len(told.content)
        if told.id in self._blocks:
            self.again += size
        else:
            self._blocks[told.id] = array("I")
            self.once += size
        self._told, self._names_again = told, told.id in self._named

    def names(self, told: Names) -> None:
        """See `PointTeller`. Of the object that was told last."""
        self._wire.names(told)
        size = _RECORD_BYTES + sum(len(name.name) + _NAME_BYTES for name in told.names)
        if self._names_again:
            self.again += size
        else:
            self.once += size
        if self._told is not None:
            self._named.add(self._told.id)

    def content(self, offset: int, content: memoryview) -> None:
        """See `PointTeller`. Of the object that was told last."""
        self._wire.content(offset, content)
        if self._told is not None:
            self._count(self._told, offset, len(content))

    def zeros(self, offset: int, length: int) -> None:
        """See `PointTeller`. Takes next to no room."""
        self._wire.zeros(offset, length)
        self.again += _RECORD_BYTES

    def end(self, at_ns: int, *, changed_ns: int = 0, entries: int = 0, moment: Moment | None = None) -> bytes:
        """See `PointTeller`."""
        return self._wire.end(at_ns, changed_ns=changed_ns, entries=entries, moment=moment)

    def drop(self) -> None:
        """See `PointTeller`."""
        self._wire.drop()

    def _count(self, told: Object, offset: int, length: int) -> None:
        blocks = self._blocks[told.id]
        end = offset + length
        last = -(-end // BLOCK)
        if len(blocks) < last:
            blocks.extend([0] * (last - len(blocks)))
        for block in range(offset // BLOCK, last):
            begin = block * BLOCK
            part = min(end, begin + BLOCK) - max(offset, begin)
            room = max(0, min(BLOCK, told.size - begin))
            new = min(part, max(0, room - blocks[block]))
            blocks[block] = min(blocks[block] + part, BLOCK)
            self.once += new
            self.again += part - new
