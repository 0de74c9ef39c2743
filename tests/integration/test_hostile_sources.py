"""What a target makes of a source that wants to leave the volume, or to wear the target out."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.contract import TargetPolicy
from storagemirror.entry import DEPTH_LIMIT, Attributes, Identity, View
from storagemirror.errors import Disconnected, ProtocolError
from storagemirror.sync.channel import GREETING_SECONDS
from storagemirror.sync.source import hello
from storagemirror.wire import messages as m
from storagemirror.wire.content import Enter, File, Touch
from storagemirror.wire.frame import HEADER
from storagemirror.wire.messages import FrameType
from tests.integration.test_mirror_processes import Liar
from tests.support import trees
from tests.support.engine import PAIR, VOLUME, expectation
from tests.support.hostile import Fast

FILE = Attributes(stat.S_IFREG | 0o644, 0, 0, 1_000_000_000)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "target"
    path.mkdir()
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)  # deeper than Python's own goes


def test_a_very_deep_directory_is_made_and_deleted_in_a_moment(target: Path) -> None:
    """Found by the fuzzer: it took minutes, and a call of its own for each name."""
    path = b"/".join([b"e"] * (DEPTH_LIMIT // 4))
    liar = Liar(target)
    liar.greet()
    began = time.monotonic()
    liar.say(b"".join(liar.connection.send_pack([Enter(path), File(b"file", FILE, 4)], [b"word"])))
    liar.say(liar.connection.send(m.Look([path])))
    assert isinstance(answer := liar.hear(), m.Looked)
    assert answer.entries[0] is not None
    liar.say(liar.connection.send(m.Delete([b"e"])))
    liar.say(liar.connection.send(m.Look([b"e"])))
    liar.hear()
    liar.end()
    assert time.monotonic() - began < 30
    assert os.listdir(target) == [".storagemirror"]


def test_a_path_deeper_than_that_ends_the_session(target: Path) -> None:
    liar = Liar(target)
    liar.greet()
    liar.say(b"".join(liar.connection.send_pack([Enter(b"/".join([b"e"] * (DEPTH_LIMIT + 1)))], [])))
    assert isinstance(liar.end(), ProtocolError)


def test_a_link_swapped_in_for_a_file_is_never_followed(target: Path, tmp_path: Path) -> None:
    """By a local process, all the time, while the source changes attributes."""
    secret = tmp_path / "secret"
    secret.write_text("not for the source")
    secret.chmod(0o600)
    before = secret.stat()
    (target / "a").write_text("")
    swap = (
        "import os, sys\n"
        "os.chdir(sys.argv[1])\n"
        "os.symlink(sys.argv[2], 'link')\n"
        "os.link('a', 'b')\n"
        "while True:\n"
        "    os.rename('link', 'a'); os.rename('a', 'link'); os.link('b', 'c'); os.rename('c', 'a')\n"
    )
    swapper = subprocess.Popen([sys.executable, "-c", swap, str(target), str(secret)])
    liar = Liar(target, expectation(policy=TargetPolicy.ADOPT))
    try:
        liar.greet()
        loose = Attributes(stat.S_IFREG | 0o666, 1, 1, 7, {b"user.x": b"y"})
        pack = b"".join(liar.connection.send_pack([Enter(b""), *[Touch(b"a", loose)] * 500], []))
        for _ in range(30):
            liar.say(pack)
            liar.say(liar.connection.send(m.Look([b"a"])))
            while not isinstance(liar.hear(), m.Looked):
                pass
        assert swapper.poll() is None
    finally:
        swapper.kill()
        swapper.wait()
    liar.end()
    after = secret.stat()
    assert (after.st_mode, after.st_uid, after.st_ctime_ns) == (before.st_mode, before.st_uid, before.st_ctime_ns)
    assert os.listxattr(secret) == []


def test_a_link_to_outside_is_linked_and_replaced_itself_never_what_it_leads_to(target: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not for the source")
    before = secret.stat()
    os.symlink(secret, target / "link")
    os.link(secret, target / "hard")  # a local process gave the volume a name of it
    liar = Liar(target, expectation(policy=TargetPolicy.ADOPT))
    liar.greet()
    liar.say(liar.connection.send(m.Link(b"second", b"link")))
    liar.say(
        b"".join(liar.connection.send_pack([Enter(b""), File(b"link", FILE, 4), File(b"hard", FILE, 4)], [b"word"] * 2))
    )
    liar.say(liar.connection.send(m.Look([b"link"])))
    liar.hear()
    liar.end()
    assert os.readlink(target / "second") == str(secret)
    assert (target / "link").read_text() == (target / "hard").read_text() == "word"
    assert secret.read_text() == "not for the source"
    assert secret.stat().st_mtime_ns == before.st_mtime_ns


def test_naming_what_is_not_there_for_deletion_costs_no_memory(target: Path) -> None:
    liar = Liar(target)
    liar.greet()
    liar.say(liar.connection.send(m.Mirror(View(), digests=False)))
    liar.say(liar.connection.send(m.Doomed([b"first"])) + liar.connection.send(m.Look([b""])))
    liar.hear()
    tracemalloc.start()
    for number in range(10):
        liar.say(liar.connection.send(m.Doomed([b"%d" % n for n in range(number * 1000, number * 1000 + 1000)])))
    liar.say(liar.connection.send(m.Look([b""])))
    liar.hear()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    liar.end()
    assert held < 1 << 18


# -- time


def test_a_hello_that_comes_byte_by_byte_is_not_waited_for_for_ever(target: Path) -> None:
    liar = Liar(target, clock=Fast(20))
    began = time.monotonic()
    data = liar.connection.send(hello(PAIR, VOLUME, 1, 1, Identity(1)))
    for number in range(len(data) - 1):
        if not liar.thread.is_alive():
            break
        liar.say(data[number : number + 1])
        time.sleep(0.1)
    assert isinstance(error := liar.end(), Disconnected)
    assert "greeting" in error.message
    assert time.monotonic() - began < GREETING_SECONDS


def test_a_ping_is_no_greeting(target: Path) -> None:
    liar = Liar(target)
    liar.say(HEADER.pack(FrameType.PING, 1) + b"\x90")
    assert isinstance(liar.end(), ProtocolError)


@pytest.mark.parametrize("pinging", [False, True], ids=["silent", "pinging"])
def test_a_source_that_asks_much_and_reads_nothing_keeps_nobody_from_ending(target: Path, pinging: bool) -> None:
    """A silent one is given up; one that pings is alive, and its session ends when it is told to."""
    trees.many(target, 300)
    liar = Liar(target, expectation(policy=TargetPolicy.ADOPT))
    liar.greet()
    liar.socket.settimeout(0.2)
    question = liar.connection.send(m.Look([b"d%d" % number for number in range(1000)]))
    with contextlib.suppress(TimeoutError):
        for _ in range(3_000):
            liar.socket.send(question)
    if pinging:
        time.sleep(0.5)
        assert liar.thread.is_alive()
        liar.session.finish()
    liar.thread.join(10)
    assert not liar.thread.is_alive()
    liar.socket.close()
    assert isinstance(liar.failure[0], Disconnected)
    liar.volume.close()
