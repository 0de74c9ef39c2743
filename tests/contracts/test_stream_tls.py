"""A TLS stream carries both directions at once, several records at a time, and ends where its peer ended it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.agent.tls import Tls
from storagemirror.contract import Role, peer_name
from storagemirror.errors import Disconnected
from storagemirror.sync.stream import SocketStream
from tests.support.agentcerts import Authority

SOURCE, TARGET = (peer_name(role, "data", "0123") for role in (Role.SOURCE, Role.TARGET))
SIZES = (1, 16_384, 16_385, 262_145, 5_000_003)

pytestmark = pytest.mark.timeout(60)

Ends = tuple[SocketStream, SocketStream]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    authority = Authority()
    source = authority.write(tmp_path / "source", Role.SOURCE, "data", "0123")
    target = authority.write(tmp_path / "target", Role.TARGET, "data", "0123")
    listening = socket.create_server(("127.0.0.1", 0))
    accepted: list[SocketStream] = []

    def accept() -> None:
        accepted.append(SocketStream(Tls(str(target)).accept(listening.accept()[0], SOURCE), silence=20))

    accepting = threading.Thread(target=accept)
    accepting.start()
    dialled = SocketStream(Tls(str(source)).connect(socket.create_connection(listening.getsockname()), TARGET))
    accepting.join()
    listening.close()
    yield dialled, accepted[0]
    dialled.close()
    accepted[0].close()


def receive(stream: SocketStream, size: int) -> bytes:
    """Exactly so many bytes, into buffers of many sizes."""
    got = bytearray()
    buffer = memoryview(bytearray(3 << 20))
    chance = random.Random(size)
    while len(got) < size:
        room = min(chance.choice((1, 5, 16_384, 16_385, 300_000, 3 << 20)), size - len(got))
        count = stream.receive_into(buffer[:room])
        assert count
        got += buffer[:count]
    return bytes(got)


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sent_arrives_in_both_directions_at_once(ends: Ends, size: int) -> None:
    here, there = random.Random(size).randbytes(size), random.Random(-size).randbytes(size)
    sending = [
        threading.Thread(target=end.send, args=(content,)) for end, content in zip(ends, (here, there), strict=True)
    ]
    for thread in sending:
        thread.start()
    assert receive(ends[1], size) == here
    assert receive(ends[0], size) == there
    for thread in sending:
        thread.join()


def test_what_came_before_the_end_is_received_before_it(ends: Ends) -> None:
    ends[0].send(b"x" * 100_000)
    assert ends[0].delivered(5)
    ends[0].close()
    assert receive(ends[1], 100_000) == b"x" * 100_000
    with contextlib.suppress(Disconnected):
        assert ends[1].receive_into(memoryview(bytearray(10))) == 0


def test_a_peer_that_goes_while_much_is_sent_ends_the_sending(ends: Ends) -> None:
    threading.Timer(0.3, ends[1].close).start()
    with pytest.raises(Disconnected):
        ends[0].send(bytes(200 << 20))
