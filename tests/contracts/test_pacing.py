"""A limit is kept, and costs nobody a heartbeat: real sessions' channels over real sockets, real time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from storagemirror.contract import BandwidthWindow, Compression, Role, TransferOrder
from storagemirror.entry import Attributes, Entry, Identity, View
from storagemirror.errors import Disconnected
from storagemirror.sync.channel import Channel
from storagemirror.sync.stream import SocketStream
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Connection
from storagemirror.wire.content import Data

pytestmark = pytest.mark.timeout(60)

KIB, MIB = 1 << 10, 1 << 20
SECONDS = 10
"""Over which the rate is held to."""


def limited(rate: int | None, compression: Compression = Compression.OFF) -> TransferOrder:
    windows = () if rate is None else (BandwidthWindow(limit=rate),)
    return TransferOrder(bandwidth=windows, compression=compression)


@dataclass
class Far:
    """The target's machine: counts what comes, and when."""

    plain: socket.socket
    connection: Connection = field(default_factory=lambda: Connection(Role.TARGET))
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    pings: list[float] = field(default_factory=list)
    content: int = 0
    goodbye: bool = False

    def run(self) -> None:
        while True:
            try:
                count = self.plain.recv_into(self.connection.writable())
            except OSError:
                return
            if not count:
                return
            now = time.monotonic()
            self.arrivals.append((now, count))
            self.connection.written(count)
            while (event := self.connection.next_event()) is not None:
                if isinstance(event, m.Ping):
                    self.pings.append(now)
                elif isinstance(event, Data):
                    self.content += event.content.nbytes
                elif isinstance(event, m.Hello):
                    self.plain.sendall(self.connection.send(m.Welcome(1, 1, View(), False)))
                elif isinstance(event, m.Bye):
                    self.goodbye = True

    def between(self, begin: float, end: float) -> int:
        """Bytes that came in that time."""
        return sum(count for when, count in self.arrivals if begin <= when < end)

    def longest_silence(self) -> float:
        times = [when for when, _ in self.arrivals]
        return max(b - a for a, b in pairwise(times))


@contextmanager
def sending(*, agreed: bool = True) -> Iterator[tuple[Channel, Far]]:
    """A source in the middle of a large file."""
    ours, theirs = socket.socketpair()
    far = Far(theirs)
    reader = threading.Thread(target=far.run)
    reader.start()
    channel = Channel(Role.SOURCE, SocketStream(ours))
    try:
        channel.send(m.Hello(1, Role.SOURCE, "pair", "data", 1, 1, Identity(2)))
        assert isinstance(channel.receive(), m.Welcome)
        if agreed:
            channel.agree()
        channel.start_ticking()
        channel.send(m.Begin(b"large", Attributes(0o100644, 0, 0, 1, {}), 1 << 40))
        yield channel, far
    finally:
        channel.close()
        theirs.close()
        reader.join()


def pour(channel: Channel, size: int = MIB) -> threading.Thread:
    """Send as fast as it may, until the channel is closed."""

    def run() -> None:
        at = 0
        piece = memoryview(bytes(size))
        try:
            while True:
                channel.send_data(at, piece)
                at += size
        except Disconnected:
            return

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("rate", [200 * KIB, 20 * MIB])
def test_the_rate_is_kept_to_five_percent(rate: int) -> None:
    with sending() as (channel, far):
        channel.govern(limited(rate))
        thread = pour(channel)
        begin = time.monotonic() + 0.3
        time.sleep(SECONDS + 0.6)
        got = far.between(begin, begin + SECONDS)
        channel.leave()
        thread.join()
    assert got / SECONDS == pytest.approx(rate, rel=0.05)


def test_a_limit_that_changes_holds_at_once_and_what_is_on_its_way_does_not_wait() -> None:
    with sending() as (channel, far):
        channel.govern(limited(2 * KIB))
        thread = pour(channel)
        time.sleep(0.5)
        assert sum(count for _, count in far.arrivals) < 3 * KIB
        channel.govern(limited(4 * MIB))
        begin = time.monotonic()
        time.sleep(1.1)
        assert far.between(begin + 0.1, begin + 1.1) == pytest.approx(4 * MIB, rel=0.2)
        channel.govern(limited(100 * KIB))
        begin = time.monotonic()
        time.sleep(2.3)
        assert far.between(begin + 0.3, begin + 2.3) == pytest.approx(200 * KIB, rel=0.2)
        channel.govern(limited(None))
        begin = time.monotonic()
        time.sleep(0.5)
        assert far.between(begin, begin + 0.5) > 20 * MIB
        channel.leave()
        thread.join()


@pytest.mark.parametrize("agreed", [True, False])
def test_at_a_very_low_limit_the_source_is_heard_all_the_same(agreed: bool) -> None:
    """A frame of a megabyte takes a quarter of an hour here. A peer that cannot take frames in pieces still sees bytes
    come all the time; one that can gets every Ping."""
    with sending(agreed=agreed) as (channel, far):
        channel.beat(1.0)
        channel.govern(limited(KIB))
        thread = pour(channel)
        time.sleep(2.5)
        begin = far.arrivals[0][0]
        channel.leave()
        thread.join()
    assert far.longest_silence() < 0.7
    assert far.between(begin + 0.2, begin + 2.2) < 2.4 * KIB
    if agreed:
        assert len(far.pings) >= 3


def test_a_goodbye_does_not_wait_for_the_limit() -> None:
    with sending() as (channel, far):
        channel.govern(limited(KIB))
        thread = pour(channel)
        time.sleep(0.3)
        begin = time.monotonic()
        channel.leave()
        thread.join()
        for _ in range(100):
            if far.goodbye:
                break
            time.sleep(0.01)
    assert far.goodbye, "the target would take the source for lost"
    assert time.monotonic() - begin < 2


def test_what_comes_in_pieces_and_compressed_is_whole() -> None:
    with sending() as (channel, far):
        channel.govern(limited(20 * KIB, Compression.ZSTD))
        for number in range(8):
            channel.send_data(number * MIB, memoryview(b"words, words, words; " * 50_000)[:MIB])
        channel.govern(limited(None))
        channel.send(m.End(8 * MIB, bytes(16)))
        channel.leave()
        for _ in range(100):
            if far.goodbye:
                break
            time.sleep(0.01)
    assert far.content == 8 * MIB
    assert channel.wire_bytes < 40 * KIB
    assert channel.wire_bytes + channel.spared_bytes > 8 * MIB


def test_a_target_compresses_its_lists_once_its_source_has_compressed() -> None:
    ours, theirs = socket.socketpair()
    source, target = Channel(Role.SOURCE, SocketStream(ours)), Channel(Role.TARGET, SocketStream(theirs))
    entries = [Entry(b"a name of many, number %d" % number, 0o100644) for number in range(2000)]
    try:
        source.send(m.Hello(1, Role.SOURCE, "pair", "data", 1, 1, Identity(2)))
        target.receive()
        source.agree()
        target.agree()
        target.send(m.Welcome(1, 1, View(), True))
        source.receive()
        source.send(m.Mirror(View()))
        target.receive()
        target.send(m.Listing(b"many", None, entries))
        assert source.receive() == m.Listing(b"many", None, entries)
        assert target.spared_bytes == 0
        source.govern(limited(None, Compression.LZ4))
        source.send(m.Want([b"a directory of many, number %d" % number for number in range(200)]))
        target.receive()
        assert source.spared_bytes > 0
        target.send(m.Listing(b"many", None, entries))
        assert source.receive() == m.Listing(b"many", None, entries)
        assert target.spared_bytes > 10_000
    finally:
        source.close()
        target.close()
