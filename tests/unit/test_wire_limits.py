"""Every length that docs/protocol.md names, at its limit and beyond."""

from __future__ import annotations

import os

import msgspec
import pytest
from xxhash import xxh3_128_digest

from storagemirror.contract import Role
from storagemirror.entry import DEPTH_LIMIT, NAME_MAX, PATH_LIMIT, Entry, is_name, is_path
from storagemirror.errors import ProtocolError
from storagemirror.sync.channel import Channel
from storagemirror.sync.inbox import DIGEST_CREDIT, Inbox
from storagemirror.wire import messages as m
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
        held._take(digests(number, 1))
    with pytest.raises(ProtocolError, match="credit"):
        held._take(digests(DIGEST_CREDIT, 1))


def test_listings_are_taken_up_to_a_gibibyte() -> None:
    held = inbox()
    held._wanted[b"d"] = []
    entry = Entry(b"n", 0o100644, leader=b"l" * 65_000)  # one object: nothing is really held here
    for _ in range((1 << 30) // (65_081 * 1000)):
        held._take(m.Listing(b"d", None, [entry] * 1000, last=False))
    with pytest.raises(ProtocolError, match="bytes of listings"):
        held._take(m.Listing(b"d", None, [entry] * 1000, last=False))


def test_listings_that_were_taken_up_make_room_for_others() -> None:
    held = inbox()
    entry = Entry(b"n", 0o100644, leader=b"l" * 65_000)
    for _ in range(40):
        held._wanted[b"d"] = []
        held._take(m.Listing(b"d", b"", [entry] * 1000))
        assert held.listing(wait=True) is not None


def test_failures_are_taken_up_to_a_quarter_of_a_gibibyte_and_reading_makes_room() -> None:
    held = inbox()
    failed = m.Failed(b"", m.FailureReason.OTHER, "x" * (1 << 16))
    for _ in range(4_096):
        held._take(failed)
    assert len(held.reports()) == 4_096
    for _ in range(4_096):
        held._take(failed)
    with pytest.raises(ProtocolError, match="failures"):
        held._take(failed)


def test_wanted_directories_are_taken_up_to_a_quarter_of_a_gibibyte() -> None:
    held = inbox()
    wanted = m.ManifestWant([b"p" * (60_000 - 80)] * 30)
    for _ in range((256 << 20) // (60_000 * 30 + 80)):
        held._take(wanted)
    with pytest.raises(ProtocolError, match="wanted directories"):
        held._take(wanted)
