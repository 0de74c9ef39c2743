"""What is received ahead is dealt with in its order, stays what it was until then, and ends as it would without."""

from __future__ import annotations

import contextlib
import socket
import stat
import threading
from collections.abc import Iterator

import pytest

from storagemirror.contract import Role
from storagemirror.entry import Attributes, Identity, View
from storagemirror.errors import Disconnected, ProtocolError
from storagemirror.sync.ahead import AHEAD, Ahead
from storagemirror.sync.channel import Channel
from storagemirror.sync.stream import SocketStream
from storagemirror.wire import messages as m
from storagemirror.wire.content import Data, Enter, File, Pack

FILE = Attributes(stat.S_IFREG | 0o644, 1, 2, 3)
HELLO = m.Hello(1, Role.SOURCE, "uid", "data", 1, 1, Identity(2, "ab" * 16, 5), ("a",), "0")


class Ends:
    """A source's channel, and a target's that receives ahead."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.source = Channel(Role.SOURCE, SocketStream(ours))
        self.target = Channel(Role.TARGET, SocketStream(theirs), ahead=AHEAD + 2)
        self.ahead = Ahead(self.target)
        self.source.send(HELLO)
        assert isinstance(self.target.receive(), m.Hello)
        self.target.send(m.Welcome(1, 1, View(), False))
        assert isinstance(self.source.receive(), m.Welcome)
        self.ahead.start()

    def say(self, count: int) -> threading.Thread:
        """Packs and pieces of a large file, each with a content of its own, from a thread."""

        def talk() -> None:
            for number in range(count):
                content = number.to_bytes(4, "little") * 50_000
                self.source.send_pack([Enter(b"d"), File(b"f", FILE, len(content))], [content])
                self.source.send(m.Begin(b"large", FILE, 8))
                for piece in range(3):
                    self.source.send(m.Ping(1))
                    self.source.send_data(piece, memoryview((number + piece).to_bytes(4, "little") * 200_000))
                self.source.send(m.Drop())

        def until_it_breaks() -> None:
            with contextlib.suppress(Disconnected):
                talk()

        thread = threading.Thread(target=until_it_breaks)
        thread.start()
        return thread

    def close(self) -> None:
        self.source.close()
        self.target.close()
        self.ahead.stop()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def test_all_that_comes_is_dealt_with_in_order_and_holds_while_more_is_received(ends: Ends) -> None:
    talking = ends.say(12)
    for number in range(12):
        pack = ends.ahead.receive()
        assert isinstance(pack, Pack)
        if number % 4 == 0:
            threading.Event().wait(0.05)  # whoever receives gets as far ahead as it may
        (content,) = (bytes(content) for record, content in pack if isinstance(record, File))
        assert content == number.to_bytes(4, "little") * 50_000
        assert isinstance(ends.ahead.receive(), m.Begin)
        for piece in range(3):
            data = ends.ahead.receive()
            assert isinstance(data, Data)
            assert bytes(data.content) == (number + piece).to_bytes(4, "little") * 200_000
        assert isinstance(ends.ahead.receive(), m.Drop)
    talking.join()


def test_a_nudge_is_told_at_once_and_takes_nothing_of_what_comes(ends: Ends) -> None:
    waiting = threading.Timer(0.2, ends.ahead.nudge)
    waiting.start()
    assert ends.ahead.receive() is None
    waiting.join()
    ends.source.send(m.Mark(1, 5))
    ends.source.send(m.Mark(2, 6))
    first = ends.ahead.receive()
    ends.ahead.nudge()
    ends.ahead.nudge()
    assert ends.ahead.receive() is None, "before what waits"
    assert (first, ends.ahead.receive()) == (m.Mark(1, 5), m.Mark(2, 6))


def test_pings_in_any_number_change_nothing_of_what_waits(ends: Ends) -> None:
    first = b"one!" * 50_000
    ends.source.send_pack([Enter(b"d"), File(b"f", FILE, len(first))], [first])
    pack = ends.ahead.receive()
    for _ in range(20_000):
        ends.source.send(m.Ping(7))
    ends.source.send_pack([Enter(b"d"), File(b"f", FILE, 4)], [b"two!"])
    assert isinstance(ends.ahead.receive(), Pack)
    assert isinstance(pack, Pack)
    assert [bytes(content) for _, content in pack] == [b"", first]


def test_no_more_is_read_than_may_wait(ends: Ends) -> None:
    talking = ends.say(40)
    talking.join(0.5)
    assert talking.is_alive()  # 110 MB do not fit between the two: the source has to wait
    ends.close()
    talking.join(5)
    assert not talking.is_alive()


def test_the_end_is_told_after_what_came_before_it(ends: Ends) -> None:
    ends.source.send(m.Mark(1, 5))
    ends.source.leave()
    ends.source.close()
    assert isinstance(ends.ahead.receive(), m.Mark)
    assert isinstance(ends.ahead.receive(), m.Bye)


def test_a_connection_that_breaks_ends_what_waits_for_it(ends: Ends) -> None:
    ends.source.send(m.Mark(1, 5))
    threading.Timer(0.1, ends.source.close).start()
    assert isinstance(ends.ahead.receive(), m.Mark)
    with pytest.raises(Disconnected):
        ends.ahead.receive()


def test_what_is_damaged_ends_it_after_what_came_whole() -> None:
    ours, theirs = socket.socketpair()
    target = Channel(Role.TARGET, SocketStream(theirs), ahead=AHEAD + 2)
    ahead = Ahead(target)
    ahead.start()
    source = Channel(Role.SOURCE, SocketStream(ours.dup()))
    source.send(HELLO)
    ours.sendall(bytes([99]) * 5)
    assert isinstance(ahead.receive(), m.Hello)
    for _ in range(2):
        with pytest.raises(ProtocolError):
            ahead.receive()
    source.close()
    ours.close()
    target.close()
    ahead.stop()


def test_the_last_word_arrives_although_much_is_unread(ends: Ends) -> None:
    talking = ends.say(40)
    ends.target.send(m.Abort(m.FailureReason.FULL, "no room"))
    heard: list[object] = []

    def hear() -> None:
        heard.append(ends.source.receive())
        ends.source.close()

    hearing = threading.Thread(target=hear)
    hearing.start()
    ends.ahead.last_word()
    hearing.join(5)
    talking.join(5)
    assert heard == [m.Abort(m.FailureReason.FULL, "no room")]
