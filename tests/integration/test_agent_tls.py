"""Who may talk to whom: the certificates of the two agents, and the target's door."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from storagemirror.agent.listener import MOST_HANDSHAKES, Listener
from storagemirror.agent.tls import Tls
from storagemirror.contract import Role, peer_name
from storagemirror.errors import BadInput, Disconnected, Refused
from storagemirror.sync.stream import SocketStream
from tests.support.agentcerts import Authority

PAIR, VOLUME = "11111111-2222-3333-4444-555555555555", "data"
SOURCE, TARGET = peer_name(Role.SOURCE, VOLUME, PAIR), peer_name(Role.TARGET, VOLUME, PAIR)


@dataclass
class Met:
    """How a handshake ended for each side: a TLS socket, or the error."""

    source: ssl.SSLSocket | Exception | None = None
    target: ssl.SSLSocket | Exception | None = None

    def close(self) -> None:
        for side in (self.source, self.target):
            if isinstance(side, ssl.SSLSocket):
                side.close()


def meet(source: Path, target: Path) -> Met:
    """Both ends shake hands over a socket pair."""
    met = Met()
    a, b = socket.socketpair()

    def accept() -> None:
        try:
            met.target = Tls(str(target)).accept(b, SOURCE)
        except (Refused, Disconnected, BadInput) as e:
            b.close()
            met.target = e

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        met.source = Tls(str(source)).connect(a, TARGET)
    except (Refused, Disconnected, BadInput) as e:
        a.close()
        met.source = e
    thread.join(15)
    return met


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def source(authority: Authority, tmp_path: Path) -> Path:
    return authority.write(tmp_path / "source", Role.SOURCE, VOLUME, PAIR)


@pytest.fixture
def target(authority: Authority, tmp_path: Path) -> Path:
    return authority.write(tmp_path / "target", Role.TARGET, VOLUME, PAIR)


def test_the_two_ends_of_a_volume_meet_by_tls_1_3(source: Path, target: Path) -> None:
    met = meet(source, target)
    assert isinstance(met.source, ssl.SSLSocket)
    assert isinstance(met.target, ssl.SSLSocket)
    assert met.source.version() == "TLSv1.3"
    met.close()


@pytest.mark.parametrize(
    ("role", "volume", "pair"),
    [(Role.SOURCE, "other", PAIR), (Role.SOURCE, VOLUME, "another-pair"), (Role.TARGET, VOLUME, PAIR)],
)
def test_a_target_lets_in_no_other_agent_of_the_same_operator(
    authority: Authority, tmp_path: Path, target: Path, role: Role, volume: str, pair: str
) -> None:
    met = meet(authority.write(tmp_path / "stranger", role, volume, pair), target)
    assert isinstance(met.target, Refused)
    assert met.target.reason == "WrongPeer"
    met.close()


def test_a_source_talks_to_no_other_agent_of_the_same_operator(
    authority: Authority, tmp_path: Path, source: Path
) -> None:
    met = meet(source, authority.write(tmp_path / "stranger", Role.TARGET, VOLUME, "another-pair"))
    assert isinstance(met.source, Refused)
    assert met.source.reason == "WrongPeer"
    met.close()


def test_a_certificate_of_another_operator_is_not_trusted(tmp_path: Path, source: Path, target: Path) -> None:
    met = meet(Authority().write(tmp_path / "stranger", Role.SOURCE, VOLUME, PAIR), target)
    assert isinstance(met.source, Refused)
    assert met.source.reason == "PeerNotTrusted"
    met.close()
    # And with our CA in its own file it believes us, but we do not believe it.
    stranger = Authority().write(tmp_path / "second", Role.SOURCE, VOLUME, PAIR)
    (stranger / "ca.crt").write_bytes((source / "ca.crt").read_bytes())
    met = meet(stranger, target)
    assert isinstance(met.target, Refused)
    assert met.target.reason == "PeerNotTrusted"
    met.close()


def test_certificates_that_were_replaced_are_read_again(source: Path, target: Path) -> None:
    tls = Tls(str(target))
    old, new = Authority(), Authority()
    for directory, role in ((source, Role.SOURCE), (target, Role.TARGET)):
        old.write(directory, role, VOLUME, PAIR)
    assert _accepts(tls, source)
    for directory, role in ((source, Role.SOURCE), (target, Role.TARGET)):
        new.write(directory, role, VOLUME, PAIR)
    assert _accepts(tls, source)


def test_missing_certificates_say_what_was_expected(tmp_path: Path) -> None:
    a, b = socket.socketpair()
    with a, b, pytest.raises(BadInput, match=r"tls.crt, tls.key, ca.crt") as e:
        Tls(str(tmp_path)).connect(a, TARGET)
    assert e.value.reason == "CertificateUnusable"


def _accepts(tls: Tls, source: Path) -> bool:
    a, b = socket.socketpair()
    got: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: got.append(tls.accept(b, SOURCE)))
    thread.start()
    with Tls(str(source)).connect(a, TARGET):
        thread.join(15)
    for end in got:
        end.close()
    return bool(got)


class Door:
    """A listener, and whom it let in."""

    def __init__(self, target: Path) -> None:
        self.let_in: list[SocketStream] = []
        self.came = threading.Event()
        self.expected: str | None = SOURCE
        self.listener = Listener(0, Tls(str(target)), lambda: self.expected, self._offer)
        self.listener.start()

    def _offer(self, stream: SocketStream) -> None:
        self.let_in.append(stream)
        self.came.set()

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.listener.port), 5)


@pytest.fixture
def door(target: Path) -> Iterator[Door]:
    door = Door(target)
    yield door
    door.listener.close()
    for stream in door.let_in:
        stream.close()


@pytest.mark.parametrize("count", [1, 4 * MOST_HANDSHAKES])
def test_strangers_who_say_nothing_do_not_keep_the_source_out(door: Door, source: Path, count: int) -> None:
    silent = [door.dial() for _ in range(count)]
    with Tls(str(source)).connect(door.dial(), TARGET):
        assert door.came.wait(5)
    for connection in silent:
        connection.close()


def test_while_nobody_is_expected_nobody_is_let_in(door: Door, source: Path) -> None:
    door.expected = None
    with pytest.raises(Disconnected):
        Tls(str(source)).connect(door.dial(), TARGET)
    assert not door.let_in


def test_one_who_speaks_no_tls_is_turned_away(door: Door) -> None:
    with door.dial() as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
        plain.settimeout(5)
        with contextlib.suppress(ConnectionError):
            while plain.recv(4096):
                pass
    assert not door.let_in
