"""Frames in frames: compressed, and in pieces. A hostile peer gets a named error, and no memory."""

from __future__ import annotations

import random
import struct
import tracemalloc

import lz4.block
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from storagemirror.contract import Role
from storagemirror.entry import Attributes, Identity, View
from storagemirror.errors import ProtocolError
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Connection
from storagemirror.wire.content import Data
from storagemirror.wire.envelope import COMPRESSIBLE, Codec, Opener, compressed, fragment
from storagemirror.wire.frame import DATA_CHUNK, HEADER, LIMITS, header
from storagemirror.wire.messages import FrameType

WORDS = b"the quick brown fox jumps over the lazy dog, " * 2000


def envelope(kind: int, codec: int, length: int, content: bytes) -> memoryview:
    return memoryview(struct.pack("<BBI", kind, codec, length) + content)


def squeezed(codec: Codec, data: bytes) -> bytes:
    if codec is Codec.LZ4:
        return lz4.block.compress(data, store_size=False)  # type: ignore[no-any-return]
    return zstandard.ZstdCompressor(level=3, write_content_size=True).compress(data)


@pytest.mark.parametrize("codec", list(Codec))
def test_what_was_compressed_comes_out_as_it_was(codec: Codec) -> None:
    prefix, content = compressed(FrameType.DATA, codec, len(WORDS), squeezed(codec, WORDS))
    opener = Opener()
    kind, payload = opener.open(FrameType.COMPRESSED, memoryview(prefix[HEADER.size :] + content)) or (None, b"")
    assert (kind, bytes(payload), opener.codec) == (FrameType.DATA, WORDS, codec)


@pytest.mark.parametrize("codec", list(Codec))
def test_a_bomb_is_refused_before_it_gets_room(codec: Codec) -> None:
    """A gigabyte of zeros in a few kilobytes, under a length that would be allowed."""
    bomb = squeezed(codec, bytes(1 << 30)) if codec is Codec.ZSTD else squeezed(codec, bytes(256 << 20))
    said = DATA_CHUNK
    if len(bomb) > said:
        bomb = bomb[: said - 1]
    tracemalloc.start()
    with pytest.raises(ProtocolError):
        Opener().open(FrameType.COMPRESSED, envelope(FrameType.DATA, codec, said, bomb))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_zstd_frame_that_does_not_tell_its_size_is_refused() -> None:
    """The library would decompress it into as much as it takes."""
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(64 << 20))
    with pytest.raises(ProtocolError, match="zstd frame of 1000000 bytes"):
        Opener().open(FrameType.COMPRESSED, envelope(FrameType.DATA, Codec.ZSTD, 1_000_000, bomb))


@pytest.mark.parametrize("kind", sorted(set(FrameType) - COMPRESSIBLE))
def test_frames_that_are_never_large_are_never_compressed(kind: FrameType) -> None:
    with pytest.raises(ProtocolError, match="may be compressed"):
        Opener().open(FrameType.COMPRESSED, envelope(kind, Codec.LZ4, len(WORDS), squeezed(Codec.LZ4, WORDS)))


@pytest.mark.parametrize("kind", sorted(COMPRESSIBLE))
def test_the_limit_of_a_frame_holds_for_what_it_is_uncompressed(kind: FrameType) -> None:
    data = bytes(LIMITS[kind] + 1)
    with pytest.raises(ProtocolError, match=f"at most {LIMITS[kind]} bytes"):
        Opener().open(FrameType.COMPRESSED, envelope(kind, Codec.LZ4, len(data), squeezed(Codec.LZ4, data)))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x22\x01\x00\x10\x00\x00",
        bytes(envelope(FrameType.DATA, 3, 1000, b"abc")),
        bytes(envelope(FrameType.DATA, Codec.LZ4, 1000, b"\xff" * 200)),
        bytes(envelope(FrameType.DATA, Codec.LZ4, 2000, squeezed(Codec.LZ4, bytes(1000)))),
        bytes(envelope(FrameType.DATA, Codec.LZ4, 999, squeezed(Codec.LZ4, bytes(1000)))),
        bytes(envelope(FrameType.DATA, Codec.ZSTD, 1000, squeezed(Codec.ZSTD, bytes(1000))[:-3])),
        bytes(envelope(FrameType.DATA, Codec.ZSTD, 1000, squeezed(Codec.ZSTD, bytes(1000)) + b"more")),
        bytes(envelope(FrameType.DATA, Codec.ZSTD, 10, b"longer than it says")),
        bytes(envelope(FrameType.DATA, Codec.ZSTD, 0xFFFFFFFF, b"x")),
    ],
)
def test_what_is_not_what_it_says_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        Opener().open(FrameType.COMPRESSED, memoryview(payload))


@given(st.binary(max_size=300), st.sampled_from([FrameType.COMPRESSED, FrameType.FRAGMENT]))
def test_any_bytes_raise_nothing_but_protocol_errors(payload: bytes, kind: FrameType) -> None:
    opener = Opener()
    for head in (b"", b"\x22\x01\xff\x00\x00\x00", b"\x22\x02\xff\x00\x00\x00", b"\x20\x10\x00\x00\x00"):
        try:
            opener.open(kind, memoryview(head + payload))
        except ProtocolError:
            continue


# -- in pieces


def pieces(kind: FrameType, payload: bytes, size: int) -> list[memoryview]:
    made = [fragment(kind, len(payload), payload[at : at + size]) for at in range(0, len(payload), size)]
    return [memoryview(piece)[HEADER.size :] for piece in made]


def test_a_frame_in_pieces_is_the_frame_with_pings_in_between() -> None:
    opener = Opener()
    *first, last = pieces(FrameType.PACK, WORDS, 1000)
    for piece in first:
        assert opener.open(FrameType.FRAGMENT, piece) is None
        assert opener.unfinished
        assert opener.open(FrameType.PING, memoryview(b"\x90")) == (FrameType.PING, memoryview(b"\x90"))
    assert opener.open(FrameType.FRAGMENT, last) == (FrameType.PACK, memoryview(WORDS))
    assert not opener.unfinished


def test_a_compressed_frame_may_come_in_pieces() -> None:
    prefix, content = compressed(FrameType.DATA, Codec.ZSTD, len(WORDS), squeezed(Codec.ZSTD, WORDS))
    opener = Opener()
    for piece in pieces(FrameType.COMPRESSED, prefix[HEADER.size :] + content, 50):
        opened = opener.open(FrameType.FRAGMENT, piece)
    assert opened == (FrameType.DATA, memoryview(WORDS))


def test_nothing_but_signs_of_life_comes_between_pieces() -> None:
    opener = Opener()
    opener.open(FrameType.FRAGMENT, pieces(FrameType.PACK, WORDS, 1000)[0])
    with pytest.raises(ProtocolError, match="the rest of a PACK"):
        opener.open(FrameType.MARK, memoryview(b"\x92\x01\x01"))


@pytest.mark.parametrize(
    "second",
    [
        fragment(FrameType.DATA, 1000, b"a"),
        fragment(FrameType.PACK, 1001, b"a"),
        fragment(FrameType.PACK, 1000, bytes(901)),
        header(FrameType.FRAGMENT, 5) + struct.pack("<BI", FrameType.PACK, 1000),
    ],
)
def test_pieces_must_fit_together(second: bytes) -> None:
    opener = Opener()
    opener.open(FrameType.FRAGMENT, memoryview(fragment(FrameType.PACK, 1000, bytes(100)))[HEADER.size :])
    with pytest.raises(ProtocolError):
        opener.open(FrameType.FRAGMENT, memoryview(second)[HEADER.size :])


@pytest.mark.parametrize("kind", [FrameType.FRAGMENT, FrameType.PING, FrameType.BYE, FrameType.ABORT])
def test_pieces_of_pieces_are_refused(kind: FrameType) -> None:
    with pytest.raises(ProtocolError, match="may come in pieces"):
        Opener().open(FrameType.FRAGMENT, memoryview(struct.pack("<BI", kind, 10) + b"a"))


def test_pieces_of_more_than_the_frame_may_have_are_refused_at_the_first() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        Opener().open(
            FrameType.FRAGMENT, memoryview(struct.pack("<BI", FrameType.PACK, LIMITS[FrameType.PACK] + 1) + b"a")
        )


# -- in a conversation


def let_in() -> tuple[Connection, Connection]:
    source, target = Connection(Role.SOURCE), Connection(Role.TARGET)
    hello = m.Hello(1, Role.SOURCE, "pair", "data", 1, 1, Identity(2))
    hear(target, source.send(hello))
    hear(source, target.send(m.Welcome(1, 1, View(), False)))
    return source, target


def hear(connection: Connection, data: bytes) -> list[object]:
    heard: list[object] = []
    at = 0
    while at < len(data):
        room = connection.writable()
        count = min(room.nbytes, len(data) - at)
        room[:count] = data[at : at + count]
        connection.written(count)
        at += count
        while (event := connection.next_event()) is not None:
            heard.append(event)
    return heard


def test_before_both_know_each_other_nothing_is_compressed() -> None:
    target = Connection(Role.TARGET)
    frame = b"".join(compressed(FrameType.DATA, Codec.LZ4, len(WORDS), squeezed(Codec.LZ4, WORDS)))
    with pytest.raises(ProtocolError, match="not agreed upon"):
        hear(target, frame)


def test_what_comes_in_another_frame_is_held_to_the_table_of_moves() -> None:
    _, target = let_in()
    content = struct.pack("<Q", 0) + WORDS
    frame = b"".join(compressed(FrameType.DATA, Codec.LZ4, len(content), squeezed(Codec.LZ4, content)))
    with pytest.raises(ProtocolError, match="may not send DATA while idle"):
        hear(target, frame)


def test_a_compressed_piece_of_a_file_arrives_as_it_was_sent() -> None:
    source, target = let_in()
    rnd = random.Random(1)
    hear(target, source.send(m.Begin(b"a", Attributes(0o100644, 0, 0, 1, {}), len(WORDS))))
    source.send_data(7, len(WORDS))
    content = struct.pack("<Q", 7) + WORDS
    prefix, body = compressed(FrameType.DATA, Codec.ZSTD, len(content), squeezed(Codec.ZSTD, content))
    cut = rnd.randrange(len(body))
    events = hear(target, prefix + body[:cut]) + hear(target, body[cut:])
    assert [(e.offset, bytes(e.content)) for e in events if isinstance(e, Data)] == [(7, WORDS)]
    assert target.codec is Codec.ZSTD
    assert target.between_frames
