"""A stream of two threads notices the death of its peer, whatever the network keeps from it."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest

from storagemirror.errors import Disconnected
from storagemirror.sync.stream import SocketStream
from tests.support.agents import wait_for

MORE_THAN_ANY_BUFFER = bytes(64 << 20)

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def ends() -> Iterator[tuple[SocketStream, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours, silence=60)
    yield stream, theirs
    stream.close()
    theirs.close()


def test_a_peer_that_ended_and_whose_reset_is_lost_ends_our_sending_too(
    ends: tuple[SocketStream, socket.socket],
) -> None:
    """Seen on a real cluster: a killed agent's end arrived, its reset did not, and the sender waited for ever."""
    stream, theirs = ends
    heard: list[int] = []
    receiver = threading.Thread(target=lambda: heard.append(stream.receive_into(memoryview(bytearray(10)))))
    receiver.start()
    threading.Timer(0.5, theirs.shutdown, [socket.SHUT_WR]).start()
    with pytest.raises(Disconnected):
        stream.send(MORE_THAN_ANY_BUFFER)
    receiver.join()
    assert heard == [0]


def test_when_nobody_receives_any_more_nobody_waits_in_sending(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    theirs.sendall(b"unread, for ever")
    threading.Timer(0.5, stream.deafen).start()
    with pytest.raises(Disconnected):
        stream.send(MORE_THAN_ANY_BUFFER)


def test_a_peer_that_is_busy_but_speaks_is_waited_for(ends: tuple[SocketStream, socket.socket]) -> None:
    stream, theirs = ends
    got = 0

    def read() -> None:
        nonlocal got
        while got < len(MORE_THAN_ANY_BUFFER):
            got += len(theirs.recv(1 << 20))

    late = threading.Timer(1.5, read)
    late.start()
    stream.send(MORE_THAN_ANY_BUFFER)
    late.join()
    assert got == len(MORE_THAN_ANY_BUFFER)


class SaysZeroReturn(socket.socket):
    """As OpenSSL does once it has read the peer's end: a send takes nothing, and makes no call of the kernel."""

    pending = 0

    def send(self, data: object, flags: int = 0) -> int:
        raise ssl.SSLZeroReturnError(ssl.SSL_ERROR_ZERO_RETURN, "TLS/SSL connection has been closed")


def test_a_send_that_takes_nothing_is_not_tried_for_ever() -> None:
    """Seen between two agents: the target went in the middle of a large file, and the source went round and round."""
    ours, theirs = socket.socketpair()
    stream = SocketStream(SaysZeroReturn(ours.family, ours.type, fileno=ours.detach()))
    with pytest.raises(Disconnected):
        stream.send(b"x")
    stream.close()
    theirs.close()


def test_a_goodbye_does_not_wait_for_a_peer_that_has_reset_the_connection() -> None:
    """Seen in each mirror by hand: the target left first, and the source waited half a second for its last word to be
    taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    stream = SocketStream(ours)
    ours.sendall(b"unread: closing with that is a reset")
    theirs.close()
    wait_for(lambda: ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\x07", "the reset to arrive")
    begin = time.monotonic()
    stream.delivered(5)
    assert time.monotonic() - begin < 1
    stream.close()
