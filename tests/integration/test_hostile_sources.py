"""What a target makes of a source that wants to leave the volume, or to wear the target out."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.entry import DEPTH_LIMIT, Attributes
from storagemirror.errors import ProtocolError
from storagemirror.wire import messages as m
from storagemirror.wire.content import Enter, File
from tests.integration.test_mirror_processes import Liar

FILE = Attributes(stat.S_IFREG | 0o644, 0, 0, 1_000_000_000)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "target"
    path.mkdir()
    yield path
    subprocess.run(["rm", "-rf", str(path)], check=True)  # deeper than Python's own goes


def test_a_directory_as_deep_as_may_be_is_made_and_deleted_in_a_moment(target: Path) -> None:
    """Found by the fuzzer: it took minutes, and a call of its own for each name."""
    path = b"/".join([b"e"] * DEPTH_LIMIT)
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
    assert time.monotonic() - began < 60
    assert os.listdir(target) == [".storagemirror"]


def test_a_path_deeper_than_that_ends_the_session(target: Path) -> None:
    liar = Liar(target)
    liar.greet()
    liar.say(b"".join(liar.connection.send_pack([Enter(b"/".join([b"e"] * (DEPTH_LIMIT + 1)))], [])))
    assert isinstance(liar.end(), ProtocolError)
