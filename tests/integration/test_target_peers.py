"""What a target makes of a source that asks for too much, and of one that is gone before it is answered."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from storagemirror.contract import Role, TargetPolicy
from storagemirror.entry import Attributes, Identity, View
from storagemirror.errors import Disconnected, ProtocolError
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.source import hello
from storagemirror.sync.stream import SocketStream
from storagemirror.sync.target import TargetSession
from storagemirror.wire import messages as m
from storagemirror.wire.connection import Connection
from storagemirror.wire.content import Enter, File
from tests.integration.test_mirror_processes import Liar
from tests.support import trees
from tests.support.engine import PAIR, VOLUME, Recorder, expectation


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.mark.parametrize(
    "lies",
    [
        [m.Sum(1, [b"%d" % i for i in range(m.SUM_PATHS + 1)])],
        [m.Sum(number, [b"x"]) for number in range(m.SUM_WINDOW + 1)],
        [m.Tally(1)],
    ],
    ids=["a list too long", "too many lists", "a tally of nothing"],
)
def test_sums_beyond_what_was_agreed_end_the_session_by_name(target: Path, lies: list[m.Message]) -> None:
    liar = Liar(target)
    liar.greet()
    for lie in lies:
        liar.say(liar.connection.send(lie))
    assert isinstance(liar.end(), ProtocolError)


def test_a_link_out_of_the_volume_is_not_followed_for_its_sum(target: Path, tmp_path: Path) -> None:
    trees.write(tmp_path / "outside" / "secret", "not for the source")
    (target / "link").symlink_to(tmp_path / "outside")
    (target / "file").symlink_to(tmp_path / "outside" / "secret")
    liar = Liar(target, expectation(policy=TargetPolicy.ADOPT))
    liar.greet()
    liar.say(liar.connection.send(m.Sum(1, [b"link/secret", b"file"])))
    assert liar.hear() == m.Summed(1, [None, None])
    assert isinstance(liar.end(), Disconnected)


def test_what_a_source_said_before_its_connection_was_reset_is_applied_and_its_goodbye_heard(target: Path) -> None:
    """The target cannot answer any more, but a question stands before what is to be applied."""
    said, served = Connection(Role.SOURCE), Connection(Role.TARGET)
    data = said.send(hello(PAIR, VOLUME, 1, 1, Identity(1)))
    view = served.writable()
    view[: len(data)] = data
    served.written(len(data))
    served.next_event()
    welcome = served.send(m.Welcome(1, 1, View(), False))
    said.writable()[: len(welcome)] = welcome
    said.written(len(welcome))
    said.next_event()
    data += said.send(m.Look([b"last"]))
    attributes = Attributes(0o100644, 0, 0, 1_000_000_000)
    data += b"".join(said.send_pack([Enter(b""), File(b"last", attributes, 4)], [b"word"]))
    data += said.send(m.Bye())
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
    source.sendall(data)
    source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    source.close()
    with TargetVolume.open(str(target)) as volume:
        session = TargetSession(volume, SocketStream(accepted), expectation(), Recorder())
        session.serve()
        assert session.goodbye
    assert (target / "last").read_text() == "word"
