"""What the source agents of a pair say to each other, so that their volumes stand still at one moment.

One of them leads; the others dial it, and say `Hello` first. A round goes so, and may end in `Void` at any step up to
`Commit`:

    lead    Prepare             Freeze            Still            Commit, or Nothing in the place of Freeze
    member          Ready, ...         Frozen            Held

Then each member's own target takes its point, and holds it back. What becomes of it is the same everywhere:

    lead    (Ask)                           Release, or Drop
    member          Durable, Lacks or Anew

Each message is its length (u32, little-endian) and the MessagePack array of a struct whose first element is its name.
"""

from __future__ import annotations

import struct

import msgspec

from storagemirror.entry import TimeNs
from storagemirror.errors import ProtocolError
from storagemirror.point import Number

LIMIT = 64 << 10
"""Bytes of one message, at most."""
MEMBERS = 256
_LENGTH = struct.Struct("<I")


class _Said(msgspec.Struct, frozen=True, array_like=True):
    """Base of what travels. A field is only ever added at the end, with a default."""


class Hello(_Said, frozen=True, array_like=True, tag="hello"):
    """Member: who it is, and whom it takes for the group. Both ends must mean the same."""

    pair_uid: str
    epoch: Number
    volume: str
    instance: Number
    members: tuple[str, ...]
    """Names of volumes, the lead's first."""
    holds: bool = False
    """It waits for `Release` before its target applies a point. False: of an older release."""


class Alive(_Said, frozen=True, array_like=True, tag="alive"):
    """Either: nothing else was to be said for a second."""


class Prepare(_Said, frozen=True, array_like=True, tag="prepare"):
    """Lead: a round begins; make passes until little is left."""

    round: Number
    holds: bool = False
    """What becomes of its point is said by `Release` or `Drop`. False: some agent is of an older release, and each
    target applies its own as soon as it has it."""


class Ready(_Said, frozen=True, array_like=True, tag="ready"):
    """Member: little is left, and it can be frozen at once. `changed`: whether there is anything for a point."""

    round: Number
    changed: bool


class Unready(_Said, frozen=True, array_like=True, tag="unready"):
    """Member: waiting took long, and it makes one more pass. Too late once `Freeze` was said."""

    round: Number


class Freeze(_Said, frozen=True, array_like=True, tag="freeze"):
    """Lead: all are ready."""

    round: Number


class Frozen(_Said, frozen=True, array_like=True, tag="frozen"):
    """Member: its volume stands still, and stays so until it hears `Still`, or gives up."""

    round: Number


class Still(_Said, frozen=True, array_like=True, tag="still"):
    """Lead: all stand still now. Whoever hears it may read, and thaw."""

    round: Number
    moment_ns: TimeNs
    """When it was said, on the lead's clock."""


class Held(_Said, frozen=True, array_like=True, tag="held"):
    """Member: it has read and thawed, and had stood still from `Frozen` until then."""

    round: Number


class Commit(_Said, frozen=True, array_like=True, tag="commit"):
    """Lead: all held. What each has read is its point of this round."""

    round: Number


class Nothing(_Said, frozen=True, array_like=True, tag="nothing"):
    """Lead: nothing has changed on any volume; nobody freezes."""

    round: Number


class Cannot(_Said, frozen=True, array_like=True, tag="cannot"):
    """Member: no point of this round here. `late`: it has waited for the others as long as it may."""

    round: Number
    reason: str
    message: str
    late: bool = False


class Void(_Said, frozen=True, array_like=True, tag="void"):
    """Lead: no point of this round anywhere."""

    round: Number
    reason: str
    message: str


class Durable(_Said, frozen=True, array_like=True, tag="durable"):
    """Member: its target has its point of that round, durably, and holds it back."""

    round: Number


class Lacks(_Said, frozen=True, array_like=True, tag="lacks"):
    """Member: its target has not got its point of that round, and will not: what was in it comes with a later one."""

    round: Number
    reason: str
    message: str


class Anew(_Said, frozen=True, array_like=True, tag="anew"):
    """Member: it has mirrored its volume anew since, and knows nothing of its point of that round."""

    round: Number


class Ask(_Said, frozen=True, array_like=True, tag="ask"):
    """Lead: what has become of your point of that round? Not answered while it is on its way."""

    round: Number


class Release(_Said, frozen=True, array_like=True, tag="release"):
    """Lead: every target has its point of that round: apply it."""

    round: Number


class Drop(_Said, frozen=True, array_like=True, tag="drop"):
    """Lead: some target has not got its point of that round: no copy goes there."""

    round: Number
    reason: str
    message: str


_Round = Prepare | Ready | Unready | Freeze | Frozen | Still | Held | Commit | Nothing | Cannot | Void
_Fate = Durable | Lacks | Anew | Ask | Release | Drop
Message = Hello | Alive | _Round | _Fate

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


def encode(message: Message) -> bytes:
    """As it travels."""
    payload = _encode(message)
    return _LENGTH.pack(len(payload)) + payload


class Parser:
    """Messages out of bytes as they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """What is whole by now; `ProtocolError` when it cannot be."""
        self._bytes += data
        found: list[Message] = []
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            if length > LIMIT:
                raise ProtocolError(f"expected a message of at most {LIMIT} bytes, got {length}")
            if len(self._bytes) < _LENGTH.size + length:
                break
            payload = bytes(self._bytes[_LENGTH.size : _LENGTH.size + length])
            del self._bytes[: _LENGTH.size + length]
            found.append(_read(payload))
        return found


def _read(payload: bytes) -> Message:
    try:
        found: Message = _decode(payload)
        return found
    except msgspec.MsgspecError as e:
        raise ProtocolError(f"not a message of a group: {e}") from e
