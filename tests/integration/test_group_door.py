"""Who is let into a group by the agent that leads it: real agents, TLS and certificates of one authority."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.agent.tls import Tls
from storagemirror.contract import GroupOrder, Role, peer_name
from storagemirror.errors import Disconnected
from storagemirror.sync.stream import SocketStream
from storagemirror.wire import group as g
from tests.support.agents import PAIR, wait_for
from tests.support.grouped import Grouped, grouped
from tests.support.pointpair import POINTS
from tests.support.smallapi import SmallApi

MEMBERS = ("data", "wal")
LEAD = peer_name(Role.SOURCE, "data", PAIR)


@pytest.fixture
def group(tmp_path: Path, api: SmallApi) -> Iterator[Grouped]:
    """The lead alone runs; the test is in the member's place."""
    with grouped(tmp_path, api, *MEMBERS) as made:
        made.lead.start(replication=POINTS, group=GroupOrder(members=MEMBERS))
        yield made


def dial(group: Grouped, certificate: Path) -> SocketStream:
    raw = socket.create_connection(("127.0.0.1", group.lead.source.port()), 5)
    return SocketStream(Tls(str(certificate)).connect(raw, LEAD), silence=5.0)


def hello(instance: int = 1, *, volume: str = "wal", epoch: int = 1, members: tuple[str, ...] = MEMBERS) -> g.Hello:
    return g.Hello(PAIR, epoch, volume, instance, members)


def heard(stream: SocketStream, seconds: float = 10.0) -> list[g.Message] | None:
    """The first that the lead says; None: it closes the connection."""
    parser, buffer = g.Parser(), memoryview(bytearray(4096))
    with contextlib.suppress(Disconnected):
        while got := stream.receive_into(buffer):
            if found := parser.feed(buffer[:got]):
                return found
    return None


def joined(group: Grouped, instance: int) -> SocketStream:
    stream = dial(group, group.pairs["wal"].source.tls)
    stream.send(g.encode(hello(instance)))
    assert heard(stream)
    return stream


def says(group: Grouped, words: str) -> None:
    wait_for(lambda: words in group.lead.source.log(), words, 10.0, group.tell)


def test_a_member_is_let_in_and_a_round_goes_as_far_as_it_follows(group: Grouped) -> None:
    stream = dial(group, group.pairs["wal"].source.tls)
    stream.send(g.encode(hello()))
    parser, buffer, prepared, frozen = g.Parser(), memoryview(bytearray(4096)), 0, 0
    while not frozen:
        for message in parser.feed(buffer[: stream.receive_into(buffer)]):
            if isinstance(message, g.Prepare):
                prepared = message.round
                stream.send(g.encode(g.Ready(prepared, True)))
            frozen = message.round if isinstance(message, g.Freeze) else frozen
    assert frozen == prepared
    stream.close()  # it froze nothing: the round is void, and the lead's copy is at no point
    says(group, "GroupVoid: the agent of volume wal has gone")
    assert group.at()[0].__class__.__name__ == "NotPromotable"


def test_nobody_else_is_let_in(group: Grouped) -> None:
    for certificate in (group.pairs["wal"].target.tls, group.lead.source.tls):
        stream = dial(group, certificate)  # with TLS 1.3 a refusal comes with the first read
        with contextlib.suppress(Disconnected):
            stream.send(g.encode(hello()))
        assert heard(stream) is None
        stream.close()
    says(group, "is not let in")
    assert "has joined the group" not in group.lead.source.log()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (hello(members=("data", "wal", "log")), "an order of another group"),
        (hello(members=("wal", "data")), "an order of another group"),
        (hello(epoch=2), "an order of another group"),
        (hello(volume="data"), "who it is"),
        (g.Ready(1, True), "who it is"),
    ],
    ids=["more members", "another lead", "another epoch", "another volume", "no hello"],
)
def test_a_member_of_another_group_is_turned_away_and_the_lead_says_why(
    group: Grouped, said: g.Message, words: str
) -> None:
    stream = dial(group, group.pairs["wal"].source.tls)
    stream.send(g.encode(said))
    assert heard(stream) is None
    says(group, words)
    stream.close()


def test_a_newer_agent_takes_the_place_of_an_older_one_and_not_the_other_way_round(group: Grouped) -> None:
    old = joined(group, 1)
    new = joined(group, 2)
    for _ in range(100):
        if heard(old) is None:
            break
    else:
        raise AssertionError("the older one is still in")
    late = dial(group, group.pairs["wal"].source.tls)
    late.send(g.encode(hello(1)))
    assert heard(late) is None
    says(group, "agent 1 of volume wal is outdated")
    assert heard(new)
    for stream in (old, new, late):
        stream.close()


def test_what_cannot_be_read_ends_the_connection_and_the_agent_lives(group: Grouped) -> None:
    stream = joined(group, 1)
    stream.send(b"\xff\xff\xff\xff garbage")
    for _ in range(100):
        if heard(stream) is None:
            break
    says(group, "expected a message of at most")
    stream.close()
    joined(group, 1).close()
    group.lead.source.running()
