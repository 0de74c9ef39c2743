"""Bytes in, events out: what one side sends the other understands, and nothing but ProtocolError escapes."""

from __future__ import annotations

import random
import stat
import struct
import tracemalloc

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storagemirror.contract import Role
from storagemirror.entry import Attributes, Entry, Identity, NotKeptKind, View
from storagemirror.errors import ProtocolError
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Connection, Event, IllegalMove
from storagemirror.wire.content import (
    Child,
    ContentDigest,
    Contents,
    Data,
    Enter,
    File,
    Leave,
    Node,
    Pack,
    Record,
    Symlink,
    Touch,
    pack_payload,
)
from storagemirror.wire.frame import HEADER, LARGEST_FRAME, LIMITS, FrameReader
from storagemirror.wire.messages import FrameType
from storagemirror.wire.moves import State

FILE = Attributes(stat.S_IFREG | 0o644, 1, 2, 3, {b"user.a": b"b"})
DIRECTORY = Attributes(stat.S_IFDIR | 0o755, 1, 2, 3)
LINK = Attributes(stat.S_IFLNK | 0o777, 1, 2, 3)
FIFO = Attributes(stat.S_IFIFO | 0o600, 1, 2, 3)
HELLO = m.Hello(1, Role.SOURCE, "uid", "data", 1, 1, Identity(2, "ab" * 16, 5), ("a",), "0")
WELCOME = m.Welcome(1, 1, View(), True, 5)
PACK: list[Record] = [
    Enter(b"a/b", True),
    File(b"f", FILE, 3),
    Symlink(b"l", LINK, b"to"),
    Node(b"n", FIFO),
    Touch(b"t", FILE),
    Child(b"d"),
    File(b"g", FILE, 2),
    Leave(DIRECTORY),
]


def feed(connection: Connection, data: bytes, step: int | None = None, *, welcoming: bool = False) -> list[Event]:
    """All events in `data`, given in pieces of `step` bytes."""
    events: list[Event] = []
    at = 0
    while at < len(data):
        view = connection.writable()
        assert view.nbytes > 0
        count = min(view.nbytes, len(data) - at, step or len(data))
        view[:count] = data[at : at + count]
        connection.written(count)
        at += count
        while (event := connection.next_event()) is not None:
            if isinstance(event, Pack):
                assert [bytes(content) for _, content in event]
            events.append(event)
            if welcoming and isinstance(event, m.Hello):
                connection.send(WELCOME)
    return events


def shaken() -> tuple[Connection, Connection]:
    """A source and a target after the handshake."""
    source, target = Connection(Role.SOURCE), Connection(Role.TARGET)
    assert feed(target, source.send(HELLO)) == [HELLO]
    assert feed(source, target.send(WELCOME)) == [WELCOME]
    return source, target


def conversation() -> bytes:
    """What a source says in a whole session."""
    source, target = Connection(Role.SOURCE), Connection(Role.TARGET)
    said = source.send(HELLO)
    feed(source, target.send(WELCOME) if feed(target, said) else b"")
    message: m.Message
    for message in (m.Ping(), m.Mirror(View()), m.Want([b"a", b""]), m.Credit(3)):
        said += source.send(message)
    said += b"".join(source.send_pack(PACK, [b"abc", b"de"]))
    said += source.send(m.Begin(b"big", FILE, 10)) + source.send_data(0, 4) + b"data" + source.send_data(6, 4) + b"more"
    said += source.send(m.End(10, b"d" * 16, 7))
    for message in (m.Link(b"x", b"y"), m.Doomed([b"z"], True), m.Delete([b"z"]), m.Mark(1, 2), m.MirrorEnd(5, True)):
        said += source.send(message)
    return said + source.send(m.Bye())


def test_what_is_sent_is_what_arrives_however_it_is_cut() -> None:
    said = conversation()
    whole = feed(Connection(Role.TARGET), said, welcoming=True)
    kinds = [type(event).__name__ for event in whole]
    for step in (1, 2, 7, 4096):
        assert [type(event).__name__ for event in feed(Connection(Role.TARGET), said, step, welcoming=True)] == kinds
    assert kinds[0] == "Hello"
    assert kinds[-1] == "Bye"
    assert len(kinds) == 16


def test_a_pack_carries_records_and_contents() -> None:
    source, target = shaken()
    view = target.writable()
    data = b"".join(source.send_pack(PACK, [b"abc", b"de"]))
    view[: len(data)] = data
    target.written(len(data))
    pack = target.next_event()
    assert isinstance(pack, Pack)
    assert pack.records == PACK
    assert [bytes(content) for record, content in pack if isinstance(record, File)] == [b"abc", b"de"]


def test_a_piece_of_a_file_carries_its_offset() -> None:
    source, target = shaken()
    data = source.send(m.Begin(b"big", FILE, 10)) + source.send_data(1 << 40, 3) + b"xyz"
    begin, piece = feed(target, data)
    assert begin == m.Begin(b"big", FILE, 10)
    assert isinstance(piece, Data)
    assert (piece.offset, bytes(piece.content)) == (1 << 40, b"xyz")


def test_the_checksum_of_a_large_file_depends_on_where_its_pieces_are() -> None:
    def digest(*pieces: tuple[int, bytes]) -> bytes:
        made = ContentDigest()
        for piece in pieces:
            made.add(*piece)
        return made.digest()

    assert digest((0, b"ab")) == digest((0, b"ab"))
    assert len({digest((0, b"ab")), digest((1, b"ab")), digest((0, b"a"), (1, b"b")), digest()}) == 4


# -- moves


def test_our_own_illegal_move_is_not_sent() -> None:
    source = Connection(Role.SOURCE)
    with pytest.raises(IllegalMove):
        source.send(m.Bye())
    with pytest.raises(IllegalMove):
        source.send(WELCOME)
    assert source.state[Role.SOURCE] is State.START


@pytest.mark.parametrize(
    "said", [m.Ping(), m.Mirror(View()), m.Delete([b"x"]), m.Bye()], ids=lambda message: type(message).__name__
)
def test_nothing_comes_before_hello(said: m.Message) -> None:
    liar, _ = shaken()
    with pytest.raises(ProtocolError):
        feed(Connection(Role.TARGET), liar.send(said))


def test_nothing_comes_after_the_last_frame() -> None:
    source, target = shaken()
    feed(target, source.send(m.Bye()))
    other, _ = shaken()
    with pytest.raises(ProtocolError):
        feed(target, other.send(m.Ping()))


def test_within_a_large_file_only_its_pieces_come() -> None:
    source, target = shaken()
    feed(target, source.send(m.Begin(b"big", FILE, 10)))
    other, _ = shaken()
    with pytest.raises(ProtocolError, match="may not send DELETE while file"):
        feed(target, other.send(m.Delete([b"x"])))


# -- hostile bytes


@pytest.mark.parametrize(
    "path", [b"..", b"a/../b", b"/etc", b"a//b", b"a/", b".", b"a/./b", b"\0", b".storagemirror/pair.json", b"x" * 256]
)
def test_a_path_out_of_the_volume_is_refused_wherever_it_stands(path: bytes) -> None:
    messages = [
        m.Delete([path]),
        m.Rename([(b"a", path)]),
        m.Rename([(path, b"a")]),
        m.Link(path, b"a"),
        m.Link(b"a", path),
        m.Begin(path, FILE, 1),
        m.Look([path]),
        m.Sum(1, [b"a", path]),
        m.Mirror(View(), (path,)),
    ]
    for message in messages:
        source, target = shaken()
        with pytest.raises(ProtocolError):
            feed(target, source.send(message))
    source, target = shaken()
    with pytest.raises(ProtocolError):
        feed(target, b"".join(source.send_pack([Enter(path)], [])))


@pytest.mark.parametrize(
    "message", [m.Delete([b""]), m.Rename([(b"", b"a")]), m.Link(b"", b"a"), m.Begin(b"", FILE, 1), m.Sum(1, [b""])]
)
def test_the_root_itself_is_not_deleted_renamed_or_replaced(message: m.Message) -> None:
    source, target = shaken()
    with pytest.raises(ProtocolError):
        feed(target, source.send(message))


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"\0", b"x" * 256])
def test_a_name_that_is_none_is_refused(name: bytes) -> None:
    records: list[Record] = [
        File(name, FILE, 0),
        Symlink(name, LINK, b"x"),
        Node(name, FIFO),
        Touch(name, FILE),
        Child(name),
    ]
    for record in records:
        source, target = shaken()
        with pytest.raises(ProtocolError):
            feed(target, b"".join(source.send_pack([Enter(b""), record], [])))
    source, target = shaken()
    feed(target, source.send(m.Mirror(View())))
    with pytest.raises(ProtocolError):
        feed(source, target.send(m.Listing(b"", b"", [Entry(name, stat.S_IFREG)])))


@pytest.mark.parametrize(
    "records",
    [
        [File(b"f", FILE, 0)],
        [Enter(b""), File(b"f", DIRECTORY, 0)],
        [Enter(b""), File(b"f", FILE, 5)],
        [Enter(b""), Symlink(b"f", FILE, b"x")],
        [Enter(b""), Symlink(b"f", LINK, b"")],
        [Enter(b""), Node(b"f", FILE)],
        [Enter(b""), Node(b"f", FIFO, 1 << 20, 0)],
        [Enter(b""), Leave(FILE)],
        [Enter(b""), Touch(b"f", DIRECTORY)],
        [Enter(b""), Leave(DIRECTORY), File(b"f", FILE, 0)],
    ],
)
def test_a_pack_that_makes_no_sense_is_refused(records: list[Record]) -> None:
    source, target = shaken()
    with pytest.raises(ProtocolError):
        feed(target, b"".join(source.send_pack(records, [])))


def test_a_damaged_pack_is_noticed() -> None:
    source, target = shaken()
    data = bytearray(b"".join(source.send_pack(PACK, [b"abc", b"de"])))
    data[-1] ^= 1
    with pytest.raises(ProtocolError, match="checksum"):
        feed(target, bytes(data))


@pytest.mark.parametrize("kind", list(FrameType))
def test_a_length_beyond_the_limit_is_refused_before_anything_is_allocated(kind: FrameType) -> None:
    tracemalloc.start()
    reader = FrameReader()
    view = reader.writable()
    header = HEADER.pack(kind, LIMITS[kind] + 1)
    view[: len(header)] = header
    reader.written(len(header))
    with pytest.raises(ProtocolError, match="at most"):
        reader.next_frame()
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()


def test_the_reader_never_holds_more_than_the_largest_frame() -> None:
    reader = FrameReader()
    header = HEADER.pack(FrameType.PACK, LIMITS[FrameType.PACK])
    rest = header + bytes(LIMITS[FrameType.PACK])
    at = 0
    while reader.next_frame() is None:
        view = reader.writable()
        count = min(view.nbytes, 10_000, len(rest) - at)
        view[:count] = rest[at : at + count]
        reader.written(count)
        at += count
        assert len(view.obj) <= LARGEST_FRAME  # type: ignore[arg-type]


def test_a_length_that_a_payload_claims_costs_nothing() -> None:
    for claim in (b"\x91\xdd\xff\xff\xff\xff", b"\x91\xc6\xff\xff\xff\xff", b"\x91\xdf\xff\xff\xff\xff"):
        source, target = shaken()
        tracemalloc.start()
        with pytest.raises(ProtocolError):
            feed(target, HEADER.pack(FrameType.DELETE, len(claim)) + claim)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()
        assert source.state[Role.TARGET] is State.IDLE


def test_deep_nesting_is_refused() -> None:
    _, target = shaken()
    payload = b"\x91" * 50_000 + b"\xc0"
    with pytest.raises(ProtocolError):
        feed(target, HEADER.pack(FrameType.DELETE, len(payload)) + payload)


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(list(Role)))
def test_arbitrary_bytes_raise_nothing_but_protocol_errors(data: bytes, role: Role) -> None:
    try:
        feed(Connection(role), data)
    except ProtocolError:
        return


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(FrameType)), st.binary(max_size=200), st.booleans())
def test_arbitrary_payloads_raise_nothing_but_protocol_errors(kind: FrameType, payload: bytes, comparing: bool) -> None:
    source, target = shaken()
    if comparing:
        feed(target, source.send(m.Mirror(View())))
    for connection in (source, target):
        try:
            feed(connection, HEADER.pack(kind, len(payload)) + payload)
        except ProtocolError:
            continue


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 12))
def test_mutated_conversations_raise_nothing_but_protocol_errors(seed: int, changes: int) -> None:
    rnd = random.Random(seed)
    data = bytearray(conversation())
    for _ in range(changes):
        at = rnd.randrange(len(data))
        match rnd.randrange(4):
            case 0:
                data[at] = rnd.randrange(256)
            case 1:
                del data[at : at + rnd.randrange(20)]
            case 2:
                data[at:at] = rnd.randbytes(rnd.randrange(20))
            case _:
                data[at : at + 4] = struct.pack("<I", rnd.randrange(2**32))
    try:
        feed(Connection(Role.TARGET), bytes(data), rnd.choice([None, 1, 13]), welcoming=True)
    except ProtocolError:
        return


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=20) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(FrameType)), st.lists(values, max_size=6))
def test_well_formed_messagepack_of_any_shape_raises_nothing_but_protocol_errors(
    kind: FrameType, shape: list[object]
) -> None:
    payload = msgspec.msgpack.encode(shape)
    for connection in shaken():
        try:
            feed(connection, HEADER.pack(kind, len(payload)) + payload)
        except ProtocolError:
            continue


def test_every_message_survives_the_wire() -> None:
    source, target = shaken()
    feed(target, source.send(m.Mirror(View())))
    for message in (
        m.Digests([m.DirectoryDigest(b"a", b"d" * 16, 3)], True),
        m.Listing(b"a", None, [Entry(b"n", stat.S_IFREG, 1, 2, 3, -4, b"c", b"l", b"x")], False),
        m.Looked([None, Entry(b"n", stat.S_IFDIR)], [b"", b"x" * 16]),
        m.Cleared(5),
        m.Marked(1, 2, m.FailureReason.FULL, "full"),
        m.Failed(b"\xff", m.FailureReason.IO, "disk"),
        m.NotKept(NotKeptKind.ACL, b"p"),
    ):
        assert feed(source, target.send(message)) == [message]
    feed(target, source.send(m.MirrorEnd(1, True)))
    mirrored = m.Mirrored(1, 2, None, "")
    assert feed(source, target.send(mirrored)) == [mirrored]


def test_an_answer_to_a_question_that_was_not_asked_yet_is_refused() -> None:
    """Found by the fuzzer: a source that took it could not go on, by a mistake of its own."""
    source, target = shaken()
    feed(target, source.send(m.Mirror(View())))
    early = target.send(m.Mirrored(0, 0))
    with pytest.raises(ProtocolError, match="may not send MIRRORED while its peer is comparing"):
        feed(source, early)


# -- sums


def test_a_longer_list_of_sums_than_was_agreed_is_refused() -> None:
    source, target = shaken()
    feed(target, source.send(m.Sum(1, [b"%d" % i for i in range(m.SUM_PATHS)])))
    with pytest.raises(ProtocolError, match="at most 1000 paths"):
        feed(target, source.send(m.Sum(2, [b"%d" % i for i in range(m.SUM_PATHS + 1)])))


@pytest.mark.parametrize("message", [m.Summed(1, [b"short"]), m.Summed(1, [None, b"x" * 17]), m.Tallied(1, 2, b"")])
def test_a_sum_has_sixteen_bytes(message: m.Message) -> None:
    source, target = shaken()
    with pytest.raises(ProtocolError, match="16 bytes"):
        feed(source, target.send(message))


def test_a_source_asks_for_no_sums_while_a_mirror_runs_and_may_be_answered_then() -> None:
    source, target = shaken()
    feed(target, source.send(m.Sum(1, [b"a"])) + source.send(m.Mirror(View())))
    assert not source.may_send(FrameType.SUM)
    assert feed(source, target.send(m.Summed(1, [None]))) == [m.Summed(1, [None])]


@given(
    number=st.integers(0, 1 << 40),
    sums=st.lists(st.none() | st.binary(min_size=16, max_size=16), max_size=50),
    skipped=st.lists(st.integers(0, 1000), max_size=50),
    begin=st.booleans(),
)
def test_sums_and_tallies_arrive_as_they_were_sent(
    number: int, sums: list[bytes | None], skipped: list[int], begin: bool
) -> None:
    source, target = shaken()
    asked, tally = m.Sum(number, [b"a/b"] * len(sums), begin), m.Tally(number, skipped, begin)
    assert feed(target, source.send(asked) + source.send(tally)) == [asked, tally]
    told, total = m.Summed(number, sums), m.Tallied(number, 5, b"d" * 16)
    assert feed(source, target.send(told) + target.send(total)) == [told, total]


def test_a_peer_that_tells_no_clock_is_understood() -> None:
    """As one of an older release: its Ping and its Hello are shorter."""
    source, target = shaken()
    old = HEADER.pack(FrameType.PING, 1) + msgspec.msgpack.encode([])
    assert feed(target, old) == [m.Ping()]
    assert feed(target, source.send(m.Ping(1 << 62))) == [m.Ping(1 << 62)]


def test_a_pack_read_to_where_it_is_sent_from_is_the_pack_of_its_contents() -> None:
    contents = Contents(100)
    for round_ in range(2):
        for content in (b"abc", b"de"):
            contents.room()[: len(content)] = content
            contents.take(len(content))
        said, same = Connection(Role.SOURCE), Connection(Role.SOURCE)
        for each in (said, same):
            each.state = {Role.SOURCE: State.IDLE, Role.TARGET: State.IDLE}
        assert b"".join(said.send_pack(PACK, contents)) == b"".join(same.send_pack(PACK, [b"abc", b"de"])), round_
        contents.clear()


def test_more_records_than_there_is_room_for_before_the_contents_travel_as_well() -> None:
    records: list[Record] = [Enter(b"d" * 200 + b"/%d" % number) for number in range(8_000)]
    contents = Contents(10)
    contents.room()[:1] = b"x"
    contents.take(1)
    checksum, body = pack_payload([*records, File(b"last", FILE, 1)], contents)
    assert [(record, bytes(content)) for record, content in Pack(memoryview(checksum + bytes(body)))][-1] == (
        File(b"last", FILE, 1),
        b"x",
    )
