"""What a source makes of a target that lies, asks for too much, or keeps it waiting."""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec
import pytest

from storagemirror.entry import View
from storagemirror.errors import Disconnected, ProtocolError
from storagemirror.sync.channel import GREETING_SECONDS
from storagemirror.sync.requests import Changes
from storagemirror.sync.source import SourceSession
from storagemirror.wire import messages as m
from tests.support import trees
from tests.support.hostile import WELCOME, Fast, LyingTarget

DIGEST = b"d" * 16


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    trees.many(path, 20)
    return path


def digests(*paths: bytes, last: bool = False) -> m.Digests:
    return m.Digests([m.DirectoryDigest(path, DIGEST, 1) for path in paths], last)


@pytest.mark.parametrize(
    "lies",
    [
        [digests(b"x", b"w", last=True)],
        [digests(b"x"), digests(b"x", last=True)],
        [digests()],
        [digests(b"%03d" % number) for number in range(9)],
        [m.Listing(b"not asked for", DIGEST, [])],
        [m.Looked([], [])],
        [m.Marked(1)],
    ],
    ids=[
        "digests out of order", "a digest twice", "digests of nothing", "more digests than there was credit for",
        "a listing not asked for", "an answer to no question", "a mark not sent",
    ],
)  # fmt: skip
def test_an_answer_that_was_not_asked_for_ends_the_session_by_name(source: Path, lies: list[m.Message]) -> None:
    target = LyingTarget(source)
    target.hear(m.Mirror)
    for lie in lies:
        target.say(lie)
    assert isinstance(target.end(), ProtocolError)


def test_a_listing_that_never_ends_ends_the_session(source: Path) -> None:
    target = LyingTarget(source)
    target.hear(m.Mirror)
    target.say(digests(b"", last=True))
    target.hear(m.Want)
    target.say(m.Listing(b"", DIGEST, [], last=False))
    assert isinstance(target.end(), ProtocolError)


def test_an_answer_for_another_number_of_paths_ends_the_session(source: Path) -> None:
    (source / "d0").mkdir(exist_ok=True)

    def work(session: SourceSession) -> None:
        session.apply(Changes(paths=frozenset({b"d0"})))

    target = LyingTarget(source, work)
    target.hear(m.Look)
    target.say(m.Looked([], []))
    assert isinstance(target.end(), ProtocolError)


def test_a_target_that_stops_reading_and_speaking_is_given_up(source: Path) -> None:
    trees.write(source / "large", os.urandom(1 << 20) * 30)
    target = LyingTarget(source, welcome=msgspec.structs.replace(WELCOME, has_entries=False))
    assert isinstance(target.end(), Disconnected)


def test_a_target_that_only_pings_keeps_nobody_from_leaving(source: Path) -> None:
    """It is alive, and may be busy: it is not given up; who waits for it can be called off at any time."""
    target = LyingTarget(source)
    target.hear(m.Mirror)
    for _ in range(8):
        target.say(m.Ping())
        time.sleep(0.4)
    assert target.thread.is_alive(), "it was given up while it was heard"
    target.session.leave()
    assert isinstance(target.end(3), Disconnected)


def test_a_greeting_that_comes_byte_by_byte_is_not_waited_for_for_ever(source: Path) -> None:
    target = LyingTarget(source, welcome=None, clock=Fast(20))
    target.hear(m.Hello)
    began = time.monotonic()
    data = target.connection.send(WELCOME)
    for number in range(len(data) - 1):
        if not target.thread.is_alive():
            break
        target.socket.sendall(data[number : number + 1])
        time.sleep(0.1)
    assert isinstance(error := target.end(), Disconnected)
    assert "greeting" in error.message
    assert time.monotonic() - began < GREETING_SECONDS


# -- versions and features


def test_a_target_of_a_later_version_is_refused_and_named(source: Path) -> None:
    target = LyingTarget(source, welcome=msgspec.structs.replace(WELCOME, version=m.PROTOCOL_VERSION + 1))
    assert isinstance(error := target.end(), ProtocolError)
    assert str(m.PROTOCOL_VERSION + 1) in error.message


def test_of_a_target_that_knows_no_feature_nothing_is_asked_that_needs_one(source: Path) -> None:
    can: list[bool] = []

    def work(session: SourceSession) -> None:
        can.append(session.can_prove)
        session.recall()

    target = LyingTarget(source, work, welcome=m.Welcome(m.OLDEST_VERSION, 1, View(), False))
    assert target.end() is None
    assert can == [False]


def test_features_that_a_source_does_not_know_do_not_matter(source: Path) -> None:
    welcome = msgspec.structs.replace(WELCOME, features=("of tomorrow", *m.FEATURES, ""))
    target = LyingTarget(source, lambda session: None, welcome=welcome)
    assert target.end() is None


def test_a_frame_with_fields_of_tomorrow_is_understood() -> None:
    """A field is only ever added at the end."""
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(WELCOME))
    longer = msgspec.msgpack.encode([*told, "of tomorrow", {"more": 1}])
    assert msgspec.msgpack.decode(longer, type=m.Welcome) == WELCOME
