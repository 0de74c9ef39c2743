"""One side of a connection, without any I/O: bytes in, events out; messages in, bytes out.

    connection = Connection(Role.TARGET)
    count = ...receive_into(connection.writable())
    connection.written(count)
    while (event := connection.next_event()) is not None: ...
    ...send(connection.send(Welcome(...)))

Whose fault an error is: `ProtocolError` is the peer's; `IllegalMove` (an AssertionError) is our own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import msgspec

from storagemirror.contract import Role
from storagemirror.entry import is_name, is_path
from storagemirror.errors import ProtocolError
from storagemirror.point import DIGEST, Names, Object, RecordKind, encode
from storagemirror.wire import messages as m
from storagemirror.wire.content import Contents, Data, Pack, Record, Told, data_prefix, pack_payload
from storagemirror.wire.envelope import ENVELOPES, Codec, Opener
from storagemirror.wire.frame import FrameReader, header
from storagemirror.wire.messages import FrameType
from storagemirror.wire.moves import MOVES, TRIGGERS, State


class IllegalMove(AssertionError):
    """We were about to send what the protocol does not allow here."""


Event = m.Message | Pack | Data | Told

RECORDS: dict[FrameType, tuple[RecordKind, type[Object | Names]]] = {
    FrameType.OBJECT: (RecordKind.OBJECT, Object),
    FrameType.NAMES: (RecordKind.NAMES, Names),
}
"""Of points: an event keeps the bytes as they came."""

_DIGEST = 16

MESSAGES: dict[FrameType, type[m.Message]] = {
    FrameType.HELLO: m.Hello,
    FrameType.WELCOME: m.Welcome,
    FrameType.REFUSE: m.Refuse,
    FrameType.HOLD: m.Hold,
    FrameType.PING: m.Ping,
    FrameType.BYE: m.Bye,
    FrameType.ABORT: m.Abort,
    FrameType.MIRROR: m.Mirror,
    FrameType.DIGESTS: m.Digests,
    FrameType.CREDIT: m.Credit,
    FrameType.WANT: m.Want,
    FrameType.LISTING: m.Listing,
    FrameType.LOOK: m.Look,
    FrameType.LOOKED: m.Looked,
    FrameType.MIRROR_END: m.MirrorEnd,
    FrameType.MIRRORED: m.Mirrored,
    FrameType.SUM: m.Sum,
    FrameType.SUMMED: m.Summed,
    FrameType.TALLY: m.Tally,
    FrameType.TALLIED: m.Tallied,
    FrameType.BEGIN: m.Begin,
    FrameType.END: m.End,
    FrameType.DROP: m.Drop,
    FrameType.LINK: m.Link,
    FrameType.RENAME: m.Rename,
    FrameType.DOOMED: m.Doomed,
    FrameType.CLEARED: m.Cleared,
    FrameType.DELETE: m.Delete,
    FrameType.MARK: m.Mark,
    FrameType.MARKED: m.Marked,
    FrameType.FAILED: m.Failed,
    FrameType.NOT_KEPT: m.NotKept,
    FrameType.MANIFEST: m.Manifest,
    FrameType.MANIFEST_DIGESTS: m.ManifestDigests,
    FrameType.MANIFEST_WANT: m.ManifestWant,
    FrameType.MANIFEST_PART: m.ManifestPart,
    FrameType.MANIFEST_END: m.ManifestEnd,
    FrameType.KEPT: m.Kept,
    FrameType.FLAGS: m.Flags,
    FrameType.FLAGS_TOLD: m.FlagsTold,
    FrameType.BLOCKS: m.Blocks,
    FrameType.BLOCK_SUMS: m.BlockSums,
    FrameType.DELTA: m.Delta,
    FrameType.HOLE: m.Hole,
    FrameType.LET_GO: m.LetGo,
    FrameType.MOVES: m.Moves,
    FrameType.MOVED: m.Moved,
    FrameType.COPY: m.Copy,
    FrameType.EXAMINE: m.Examine,
    FrameType.EXAMINED: m.Examined,
    FrameType.POINT: m.Point,
    FrameType.POINT_END: m.PointEnd,
    FrameType.POINT_DURABLE: m.PointDurable,
    FrameType.POINT_APPLIED: m.PointApplied,
    FrameType.POINT_REFUSED: m.PointRefused,
    FrameType.DISTURBED: m.Disturbed,
    FrameType.POINT_RELEASE: m.PointRelease,
}

_TYPE_OF = {message: kind for kind, message in MESSAGES.items()}
_encode = msgspec.msgpack.Encoder().encode


@functools.cache
def _decode(kind: FrameType) -> Callable[[memoryview], m.Message]:
    """Made when it is first needed: most connections see few kinds."""
    return msgspec.msgpack.Decoder(MESSAGES[kind]).decode


class Connection:
    """The protocol as `role` speaks it."""

    def __init__(self, role: Role, ahead: int = 0) -> None:
        """What a Pack or Data event shows holds until `writable` is called after `ahead` more events."""
        self.role = role
        self.state = {Role.SOURCE: State.START, Role.TARGET: State.START}
        self._reader = FrameReader(ahead)
        self._opener = Opener()
        self.event_bytes = 0
        """Of the payload of the latest event, uncompressed."""

    def send(self, message: m.Message) -> bytes:
        """The frame of `message`."""
        kind = _TYPE_OF[type(message)]
        self._move(self.role, kind)
        payload = _encode(message)
        return header(kind, len(payload)) + payload

    def send_pack(self, records: list[Record], contents: Contents | list[bytes]) -> tuple[bytes, bytes | memoryview]:
        """The frame of a pack, in two parts; `contents` are those of its `File` records, in order."""
        self._move(self.role, FrameType.PACK)
        checksum, body = pack_payload(records, contents)
        return header(FrameType.PACK, len(checksum) + len(body)) + checksum, body

    def send_data(self, offset: int, length: int) -> bytes:
        """What precedes `length` bytes of content in a Data frame; the content itself follows as it is."""
        self._move(self.role, FrameType.DATA)
        prefix = data_prefix(offset)
        return header(FrameType.DATA, len(prefix) + length) + prefix

    def send_record(self, record: Object | Names) -> tuple[bytes, bytes]:
        """The frame of a record of a point, in two parts; the second is what its digest is over."""
        kind = FrameType.OBJECT if isinstance(record, Object) else FrameType.NAMES
        self._move(self.role, kind)
        payload = encode(record)
        return header(kind, len(payload)), payload

    def may_send(self, kind: FrameType) -> bool:
        """Whether we may send a frame of `kind` now."""
        return kind in MOVES[self.role].get(self.state[self.role], {})

    @property
    def over(self) -> bool:
        """Whether our last frame was sent."""
        return self.state[self.role] is State.DONE

    def writable(self) -> memoryview:
        """Where received bytes go."""
        return self._reader.writable()

    def written(self, count: int) -> None:
        """So many bytes were received; 0 means the peer has closed the connection."""
        self._reader.written(count)

    def next_event(self) -> Event | None:
        """What the peer said next; None when more bytes are needed. `ProtocolError` when it may not say that.

        What a Pack or Data event shows holds until `writable` is called again (see `ahead`).
        """
        frame = self._next_frame()
        if frame is None:
            return None
        kind, payload = frame
        self.event_bytes = payload.nbytes
        self._move(self.role.peer, kind)
        if kind is FrameType.PACK:
            return Pack(payload)
        if kind is FrameType.DATA:
            return Data(payload)
        if kind in RECORDS:
            return Told(RECORDS[kind][0], bytes(payload))
        try:
            message: m.Message = _decode(kind)(payload)
        except (msgspec.MsgspecError, RecursionError, ValueError) as e:
            raise ProtocolError(f"a {kind.name} frame cannot be read: {e}") from e
        _check(message)
        return message

    def _next_frame(self) -> tuple[FrameType, memoryview] | None:
        """The next frame that the table of moves knows: out of whatever it came in."""
        while (frame := self._reader.next_frame()) is not None:
            kind, payload = frame
            if kind in ENVELOPES and self.state[self.role.peer] in (State.START, State.GREETED):
                raise ProtocolError(f"{kind.name} was not agreed upon yet")
            opened = self._opener.open(kind, payload)
            if opened is not None:
                return opened
        return None

    @property
    def between_frames(self) -> bool:
        """Whether the peer's bytes end with a whole frame."""
        return self._reader.between_frames and not self._opener.unfinished

    @property
    def codec(self) -> Codec | None:
        """With what the peer compressed its latest compressed frame; None before the first."""
        return self._opener.codec

    def _move(self, who: Role, kind: FrameType) -> None:
        state = self.state[who]
        after = MOVES[who].get(state, {}).get(kind)
        if after is None:
            text = f"a {who.value.lower()} may not send {kind.name} while {state.value}"
            if who is self.role:
                raise IllegalMove(text)
            raise ProtocolError(text)
        trigger = TRIGGERS.get((who, kind))
        if trigger is not None:
            other = self.state[who.peer]
            if who is not self.role and other not in (trigger[0], State.DONE):
                raise ProtocolError(f"a {who.value.lower()} may not send {kind.name} while its peer is {other.value}")
            if other is trigger[0]:
                self.state[who.peer] = trigger[1]
        self.state[who] = after


def _check(message: m.Message) -> None:
    """That every path is within the volume and every name is one. The root may be compared, not replaced."""
    paths: list[bytes] = []
    root_too = True
    match message:
        case m.Mirror():
            paths = list(message.scopes)
        case m.Want() | m.ManifestWant():
            paths = message.directories
        case m.ManifestDigests():
            paths = [told.path for told in message.directories]
            if any(len(told.attributes) != _DIGEST or len(told.digest) != _DIGEST for told in message.directories):
                raise ProtocolError(f"expected digests of {_DIGEST} bytes")
        case m.Look() | m.Doomed() | m.Delete():
            paths = message.paths
            root_too = isinstance(message, m.Look)
        case m.Sum():
            paths = message.paths
            root_too = False
            if len(paths) > m.SUM_PATHS:
                raise ProtocolError(f"expected at most {m.SUM_PATHS} paths in a Sum, got {len(paths)}")
        case m.Welcome():
            paths = [message.partial]
            _check_digest(message.point_digest, may_be_none=True)
        case m.Point():
            _check_digest(message.before, may_be_none=True)
            return
        case m.PointEnd():
            _check_digest(message.end.before, may_be_none=True)
            _check_digest(message.end.digest)
            return
        case m.PointDurable():
            _check_digest(message.digest)
            return
        case m.PointRefused():
            paths = [message.path]
        case m.Examine():
            paths = message.paths
            if len(paths) > m.EXAMINE_PATHS:
                raise ProtocolError(f"expected at most {m.EXAMINE_PATHS} paths in an Examine, got {len(paths)}")
        case m.Examined():
            if any(seen is not None and len(seen.content) not in (0, _DIGEST) for seen in message.seen):
                raise ProtocolError(f"expected digests of {_DIGEST} bytes")
            return
        case m.Summed() | m.Tallied():
            digests = message.sums if isinstance(message, m.Summed) else [message.digest]
            if any(digest is not None and len(digest) != _DIGEST for digest in digests):
                raise ProtocolError(f"expected sums of {_DIGEST} bytes")
            return
        case m.Rename():
            paths = [path for pair in message.renames for path in pair]
            root_too = False
        case m.Moves():
            paths = [path for move in message.moves for path in (move.old, move.new)]
            root_too = False
            if any(len(move.digest) != _DIGEST for move in message.moves):
                raise ProtocolError(f"expected digests of {_DIGEST} bytes")
        case m.Link():
            paths = [message.path, message.leader]
            root_too = False
        case m.Begin() | m.Blocks() | m.Delta():
            paths = [message.path]
            root_too = False
        case m.Flags():
            paths = [entry.path for entry in message.entries]
        case m.Digests():
            paths = [directory.path for directory in message.directories]
        case m.Listing() | m.ManifestPart():
            paths = [message.path]
            for entry in message.entries:
                if not is_name(entry.name):
                    raise ProtocolError(f"not a name of an entry: {entry.name[:300]!r}")
        case _:
            return
    for path in paths:
        if not is_path(path) or not (path or root_too):
            raise ProtocolError(f"not a path within the volume: {path[:300]!r}")


def _check_digest(digest: bytes, *, may_be_none: bool = False) -> None:
    """Of a point."""
    if len(digest) != DIGEST and not (may_be_none and not digest):
        raise ProtocolError(f"expected a point's digest of {DIGEST} bytes, got {len(digest)}")
