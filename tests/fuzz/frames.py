"""Frames made of chance: whole ones of every type, recorded ones with something changed, and conversations of them.

Generic over `wire.connection.MESSAGES` and `wire.moves`: whatever frame is added there is made and changed here too.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import lz4.block
import msgspec
import zstandard
from msgspec import inspect as t
from xxhash import xxh3_128_digest

from storagemirror.contract import Role
from storagemirror.wire.connection import MESSAGES
from storagemirror.wire.connection import RECORDS as POINT_RECORDS
from storagemirror.wire.content import ContentDigest, Record
from storagemirror.wire.envelope import ENVELOPES
from storagemirror.wire.frame import HEADER, LIMITS
from storagemirror.wire.messages import FrameType
from storagemirror.wire.moves import MOVES, State
from tests.fuzz.values import Values, encoded

TYPES: dict[FrameType, t.Type] = {kind: t.type_info(message) for kind, message in MESSAGES.items()} | {
    kind: t.type_info(record) for kind, (_, record) in POINT_RECORDS.items()
}
RECORDS = t.type_info(list[Record])
_LAST = {FrameType.BYE, FrameType.ABORT, FrameType.HOLD, FrameType.REFUSE}


ANSWERED = -1
"""As `Frame.after`: once the other side has said something since the frame before."""


PER_KIND = 1 << 20
"""`Frame.after` is so many times a frame type, plus how many of these the other side has sent before; without a type,
how many of any."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame, and after what the other side had said it was sent."""

    kind: int
    payload: bytes
    after: int = 0

    @property
    def wire(self) -> bytes:
        """As it travels. A payload beyond the limit is claimed as it is: the reader has to refuse it."""
        return HEADER.pack(self.kind & 0xFF, len(self.payload)) + self.payload


class Frames:
    """Makes and changes frames; remembers the checksum of the large file that is under way."""

    def __init__(self, rnd: random.Random, values: Values) -> None:
        self.rnd = rnd
        self.values = values
        self._digest = ContentDigest()

    def make(self, kind: FrameType, after: int = 0) -> Frame:
        """A frame of `kind`."""
        if kind is FrameType.PACK:
            return Frame(kind, self._pack(self._records()), after)
        if kind is FrameType.DATA:
            return Frame(kind, self._data(), after)
        if kind in ENVELOPES:
            return self.wrapped(self.make(self.rnd.choice(list(TYPES))), kind)[0]
        if kind not in TYPES:
            return Frame(kind, self.rnd.randbytes(self.rnd.choice((0, 1, 20, 1000))), after)
        if kind in (FrameType.BEGIN, FrameType.DELTA):
            self._digest = ContentDigest()
        made = self.values.make(TYPES[kind])
        if kind is FrameType.END and isinstance(made, list) and len(made) > 1 and self.rnd.random() < 0.8:
            made[1] = self._digest.digest()
        payload = encoded(made)
        if len(payload) > LIMITS[kind] and self.rnd.random() < 0.95:
            payload = encoded(Values(self.rnd, self.values.paths, 0).make(TYPES[kind]))[: LIMITS[kind]]
        return Frame(kind, payload, after)

    def change(self, frame: Frame) -> list[Frame]:
        """What stands in place of a recorded frame: it changed, twice, not at all, cut, or with another before it."""
        rnd = self.rnd
        roll = rnd.random()
        if roll < 0.55:
            return [self._mutated(frame)]
        if roll < 0.62:
            return self.wrapped(frame if rnd.random() < 0.5 else self._mutated(frame), rnd.choice(sorted(ENVELOPES)))
        if roll < 0.70:
            return [frame] * rnd.choice((2, 2, 3, 20))
        if roll < 0.78:
            return []
        if roll < 0.93:
            kind = rnd.choice(list(FrameType))
            return [self.make(kind, frame.after), frame]
        if roll < 0.97:
            payload = bytearray(frame.payload)
            for _ in range(min(len(payload), rnd.choice((1, 1, 2, 8)))):
                payload[rnd.randrange(len(payload))] = rnd.randrange(256)
            return [Frame(frame.kind, bytes(payload), frame.after)]
        return [Frame(frame.kind, frame.payload[: rnd.randrange(len(frame.payload) + 1)], frame.after)]

    def _mutated(self, frame: Frame) -> Frame:
        kind = FrameType(frame.kind)
        if kind not in TYPES and kind not in (FrameType.PACK, FrameType.DATA):
            return self.make(kind, frame.after)
        if kind is FrameType.DATA:
            return Frame(kind, self._data(), frame.after)
        if kind is FrameType.PACK:
            length = int.from_bytes(frame.payload[16:20], "little")
            records = msgspec.msgpack.decode(frame.payload[20 : 20 + length], strict=False)
            changed = records
            for _ in range(self.rnd.choice((1, 1, 2, 5))):
                changed = self.values.mutate(changed, RECORDS)
            contents = frame.payload[20 + length :] if self.rnd.random() < 0.3 else None
            return Frame(kind, self._pack(changed, contents), frame.after)
        value: Any = msgspec.msgpack.decode(frame.payload)
        for _ in range(self.rnd.choice((1, 1, 1, 2, 4))):
            value = self.values.mutate(value, TYPES[kind])
        return Frame(kind, encoded(value), frame.after)

    def wrapped(self, frame: Frame, kind: FrameType) -> list[Frame]:
        """`frame` compressed, or in pieces; now and then with a length, a type or a codec that it is not."""
        rnd = self.rnd
        inner = FrameType(frame.kind) if rnd.random() < 0.9 else rnd.choice(list(FrameType))
        length = len(frame.payload) if rnd.random() < 0.9 else rnd.choice((0, 1, 1 << 20, (1 << 32) - 1))
        if kind is FrameType.FRAGMENT:
            size = max(1, len(frame.payload) // rnd.choice((1, 2, 5)))
            pieces = [frame.payload[at : at + size] for at in range(0, len(frame.payload), size)] or [b""]
            head = bytes([inner]) + length.to_bytes(4, "little")
            return [Frame(kind, head + piece, frame.after) for piece in pieces]
        codec = rnd.choice((1, 2))
        content = (
            lz4.block.compress(frame.payload, store_size=False) if codec == 1 else zstandard.compress(frame.payload)
        )
        if rnd.random() < 0.1:
            content = bytes(byte ^ (rnd.random() < 0.02) for byte in content[:2000])
        told = codec if rnd.random() < 0.95 else rnd.choice((0, 3, 255))
        return [Frame(kind, bytes([inner, told]) + length.to_bytes(4, "little") + content, frame.after)]

    def _records(self) -> list[Any]:
        records = self.values.make(RECORDS)
        if not isinstance(records, list):
            return []
        if self.rnd.random() < 0.9:  # else nearly all would be refused for being outside of any directory
            fresh = self.rnd.random() < 0.3
            records.insert(0, [1, self.values.path(), fresh])
        return records

    def _pack(self, records: Any, contents: bytes | None = None) -> bytes:
        rnd = self.rnd
        if contents is None and isinstance(records, list):
            size = 0
            for record in records:
                if isinstance(record, list) and len(record) == 4 and record[0] == 2 and isinstance(record[3], int):
                    if record[3] > 5000:
                        record[3] = rnd.choice((0, 1, 100, 5000))
                    size += max(0, record[3])
            contents = bytes(size) if rnd.random() < 0.95 else bytes(size + rnd.choice((1, 100)))
        body = encoded(records)
        told = len(body) if rnd.random() < 0.98 else rnd.choice((0, len(body) + 1, (1 << 32) - 1))
        rest = told.to_bytes(4, "little") + body + (contents or b"")
        checksum = xxh3_128_digest(rest) if rnd.random() < 0.98 else rnd.randbytes(16)
        return checksum + rest

    def _data(self) -> bytes:
        rnd = self.rnd
        offset = rnd.choice((0, 0, 1, 4096, 1 << 20, 1 << 40, (1 << 63) - 200, 1 << 63, (1 << 64) - 1))
        content = rnd.randbytes(rnd.choice((0, 1, 100, 5000))) if rnd.random() < 0.9 else bytes(100_000)
        self._digest.add(offset, content)
        return offset.to_bytes(8, "little") + content


def conversation(role: Role, frames: Frames, length: int) -> list[Frame]:
    """So many frames of `role`: nine in ten are legal where they stand, by the table of moves."""
    rnd = frames.rnd
    state = State.IDLE
    said: list[Frame] = []
    after = 0
    for number in range(length):
        moves = MOVES[role].get(state, {})
        legal = [kind for kind in moves if kind not in _LAST]
        kind = rnd.choice(legal if legal and rnd.random() < 0.98 else list(FrameType))
        said.append(frames.make(kind, after))
        state = moves.get(kind, state)
        after = number if role is Role.TARGET else 0
        if state is State.ENDING:
            state, after = State.IDLE, ANSWERED
        if role is Role.TARGET and state is State.IDLE and rnd.random() < 0.5:
            state = State.COMPARING  # asked meanwhile
    return said
