"""Every length that docs/protocol.md names, at its limit and beyond."""

from __future__ import annotations

import os

import msgspec
import pytest
from xxhash import xxh3_128_digest

from storagemirror.contract import Role
from storagemirror.entry import DEPTH_LIMIT, NAME_MAX, PATH_LIMIT, Entry, Identity, is_name, is_path
from storagemirror.errors import ProtocolError
from storagemirror.sync.channel import Channel
from storagemirror.sync.inbox import DIGEST_CREDIT, Inbox
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Connection
from storagemirror.wire.content import Pack
from storagemirror.wire.frame import HEADER, LARGEST_FRAME, LIMITS, FrameReader
from storagemirror.wire.messages import FrameType
from tests.fuzz.script import Script


def resident() -> int:
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def put(reader: FrameReader, data: bytes) -> None:
    while data:
        view = reader.writable()
        count = min(len(view), len(data))
        view[:count] = data[:count]
        reader.written(count)
        data = data[count:]
        if len(data) and reader.next_frame() is not None:
            raise AssertionError("a frame in the middle of one")


@pytest.mark.parametrize("kind", list(FrameType))
def test_a_frame_as_long_as_it_may_be_arrives_whole(kind: FrameType) -> None:
    reader = FrameReader()
    put(reader, HEADER.pack(kind, LIMITS[kind]) + bytes(LIMITS[kind]))
    frame = reader.next_frame()
    assert frame is not None
    assert (frame[0], frame[1].nbytes) == (kind, LIMITS[kind])


@pytest.mark.parametrize("kind", list(FrameType))
def test_one_byte_more_is_refused_before_it_has_come(kind: FrameType) -> None:
    reader = FrameReader()
    put(reader, HEADER.pack(kind, LIMITS[kind] + 1))
    with pytest.raises(ProtocolError, match=f"at most {LIMITS[kind]} bytes"):
        reader.next_frame()
    assert len(reader.writable()) < LARGEST_FRAME


@pytest.mark.parametrize("number", sorted(set(range(256)) - {int(kind) for kind in FrameType}))
def test_a_type_that_is_none_is_refused(number: int) -> None:
    reader = FrameReader()
    put(reader, HEADER.pack(number, 0))
    with pytest.raises(ProtocolError, match="frame type"):
        reader.next_frame()


def test_names_and_paths_are_taken_up_to_their_limits_and_no_further() -> None:
    assert is_name(b"n" * NAME_MAX)
    assert not is_name(b"n" * (NAME_MAX + 1))
    longest = (b"n" * NAME_MAX + b"/") * (PATH_LIMIT // (NAME_MAX + 1) - 1) + b"n" * NAME_MAX
    assert is_path(longest)
    assert len(longest) == PATH_LIMIT - 1
    last = longest.rpartition(b"/")[0]
    assert is_path(last + b"/" + b"n" * 200 + b"/" + b"n" * (PATH_LIMIT - len(last) - 202))
    assert not is_path(last + b"/" + b"n" * 200 + b"/" + b"n" * (PATH_LIMIT - len(last) - 201))
    assert is_path(b"/".join([b"d"] * DEPTH_LIMIT))
    assert not is_path(b"/".join([b"d"] * (DEPTH_LIMIT + 1)))


@pytest.mark.parametrize(
    ("path", "may"),
    [
        (b"a", True), (b"a/b", True), (b"...", True), (b"..a/.b", True), (b"a/.storagemirror", True), (b"", True),
        (b".storagemirrors", True), (b"a\n", True), (b"\xff/\xfe", True),
        (b"..", False), (b".", False), (b"a/..", False), (b"a/../b", False), (b"./a", False), (b"/", False),
        (b"/a", False), (b"a/", False), (b"a//b", False), (b"a\0b", False), (b".storagemirror", False),
        (b".storagemirror/x", False), (b"a/" + b"n" * 256 + b"/b", False),
    ],
)  # fmt: skip
def test_a_path_is_relative_and_clean(path: bytes, may: bool) -> None:
    assert is_path(path) is may


def test_a_pack_of_the_smallest_records_costs_a_bounded_amount_of_memory() -> None:
    """As many objects as one frame can ask for."""
    one = msgspec.msgpack.encode([7, b"n"])
    count = (LIMITS[FrameType.PACK] - 40) // len(one)
    records = b"\xdd" + (count + 1).to_bytes(4, "big") + msgspec.msgpack.encode([1, b"d"]) + one * count
    body = len(records).to_bytes(4, "little") + records
    payload = xxh3_128_digest(body) + body
    assert len(payload) <= LIMITS[FrameType.PACK]
    before = resident()
    pack = Pack(memoryview(payload))
    assert resident() - before < 200 << 20
    assert len(pack.records) == count + 1


# -- what a source holds of its target's answers


def inbox() -> Inbox:
    return Inbox(Channel(Role.SOURCE, Script([])))


def digests(first: int, count: int, *, last: bool = False) -> m.Digests:
    return m.Digests([m.DirectoryDigest(b"%09d" % n, b"d" * 16, 0) for n in range(first, first + count)], last)


def test_digests_are_taken_as_far_as_there_is_credit() -> None:
    held = inbox()
    held.expect_mirror(digests=True)
    for number in range(DIGEST_CREDIT):
        held._take(digests(number, 1), 40)
    with pytest.raises(ProtocolError, match="credit"):
        held._take(digests(DIGEST_CREDIT, 1), 40)


MIB = 1 << 20
ENTRY = Entry(b"n", 0o100644)
"""One object, however often it is listed, and sizes that are only said: nothing is really held in these."""


def test_listings_are_taken_up_to_a_gibibyte() -> None:
    held = inbox()
    held._wanted[b"d"] = []
    for _ in range(1023):
        held._take(m.Listing(b"d", None, [ENTRY], last=False), MIB)
    with pytest.raises(ProtocolError, match="bytes of listings"):
        held._take(m.Listing(b"d", None, [ENTRY], last=False), MIB)


def test_listings_that_were_taken_up_make_room_for_others() -> None:
    held = inbox()
    for _ in range(2000):
        held._wanted[b"d"] = []
        held._take(m.Listing(b"d", b"", [ENTRY]), MIB)
        assert held.listing(wait=True) is not None


def test_failures_are_taken_up_to_a_quarter_of_a_gibibyte_and_reading_makes_room() -> None:
    held = inbox()
    failed = m.Failed(b"", m.FailureReason.OTHER, "")
    for _ in range(256):
        held._take(failed, MIB)
    assert len(held.reports()) == 256
    for _ in range(256):
        held._take(failed, MIB)
    with pytest.raises(ProtocolError, match="failures"):
        held._take(failed, MIB)


def test_wanted_directories_are_taken_up_to_a_quarter_of_a_gibibyte() -> None:
    held = inbox()
    for _ in range(255):
        held._take(m.ManifestWant([b"p"]), MIB)
    held.recalled()
    held._take(m.ManifestWant([b"p"]), MIB)
    with pytest.raises(ProtocolError, match="wanted directories"):
        held._take(m.ManifestWant([b"p"]), MIB)


def test_what_an_event_had_on_the_wire_is_known_for_the_limits() -> None:
    source, target = Connection(Role.SOURCE), Connection(Role.TARGET)
    data = source.send(m.Hello(1, Role.SOURCE, "p", "v", 1, 1, Identity(1)))
    view = target.writable()
    view[: len(data)] = data
    target.written(len(data))
    assert isinstance(target.next_event(), m.Hello)
    assert target.event_bytes == len(data) - HEADER.size
