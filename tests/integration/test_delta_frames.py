"""A delta frame by frame: a source that is gone after any of them, and one that lies."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from storagemirror.contract import TargetPolicy
from storagemirror.entry import Attributes, View
from storagemirror.errors import Disconnected, ProtocolError
from storagemirror.fs.blocks import BLOCK
from storagemirror.wire import messages as m
from storagemirror.wire.content import ContentDigest
from tests.integration.test_mirror_processes import Liar
from tests.support import trees
from tests.support.engine import expectation

SIZE = 12 << 20
OLD = os.urandom(SIZE)
PIECE = os.urandom(BLOCK)
ATTRIBUTES = Attributes(stat.S_IFREG | 0o644, 0, 0, 10**18)
ADOPT = expectation(policy=TargetPolicy.ADOPT)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    trees.write(path / "file", OLD)
    return path


class Source(Liar):
    """Has asked about the file, and been told."""

    def __init__(self, target: Path) -> None:
        super().__init__(target, ADOPT)
        self.greet()
        self.digest = ContentDigest()
        self.tell(m.Blocks(0, b"file", 0, SIZE // BLOCK))
        answer = self.hear()
        assert isinstance(answer, m.BlockSums)
        assert answer.size == SIZE

    def tell(self, *messages: m.Message) -> None:
        for message in messages:
            if isinstance(message, m.Hole):
                self.digest.add_hole(message.offset, message.length)
            elif isinstance(message, m.Copy):
                self.digest.add_copy(message.offset, message.start, message.length)
            self.say(self.connection.send(message))

    def piece(self, offset: int) -> None:
        self.digest.add(offset, PIECE)
        self.say(self.connection.send_data(offset, len(PIECE)) + PIECE)

    def finish(self, size: int = SIZE) -> None:
        self.tell(m.End(size, self.digest.digest(), 10**18 + 1))


DELTA = m.Delta(0, b"file", ATTRIBUTES, SIZE)


@pytest.mark.parametrize("frames", range(6))
def test_a_source_that_is_gone_after_any_frame_leaves_the_old_file_or_the_new_one(target: Path, frames: int) -> None:
    source = Source(target)
    steps: list[Callable[[], None]] = [
        lambda: source.tell(DELTA),
        lambda: source.piece(0),
        lambda: source.tell(m.Hole(BLOCK, BLOCK)),
        lambda: source.tell(m.Copy(2 * BLOCK, 5 * BLOCK, BLOCK)),
        source.finish,
    ]
    for step in steps[:frames]:
        step()
    assert isinstance(source.end(), Disconnected)
    new = PIECE + bytes(BLOCK) + OLD[5 * BLOCK : 6 * BLOCK] + OLD[3 * BLOCK :]
    assert (target / "file").read_bytes() == (new if frames == len(steps) else OLD)
    assert os.listdir(target / ".storagemirror/tmp") == []


def _fails(source: Source, target: Path, content: bytes = OLD) -> None:
    answer = source.hear()
    assert isinstance(answer, m.Failed)
    assert answer.path == b"file"
    assert isinstance(source.end(), Disconnected)
    assert (target / "file").read_bytes() == content
    assert os.listdir(target / ".storagemirror/tmp") == []


def test_pieces_out_of_order_fail(target: Path) -> None:
    source = Source(target)
    source.tell(DELTA)
    source.piece(BLOCK)
    source.piece(0)
    source.finish()
    _fails(source, target)


def test_a_copy_of_what_the_base_does_not_have_fails(target: Path) -> None:
    source = Source(target)
    source.tell(DELTA, m.Copy(0, SIZE - 1, 2))
    source.finish()
    _fails(source, target)


def test_a_hole_beyond_what_any_file_can_be_fails(target: Path) -> None:
    source = Source(target)
    source.tell(DELTA, m.Hole(0, 1 << 62))
    source.finish(1 << 62)
    _fails(source, target)


def test_a_base_that_somebody_wrote_meanwhile_is_not_built_upon(target: Path) -> None:
    source = Source(target)
    source.tell(DELTA)
    source.piece(0)
    found = os.stat(target / "file")
    with open(target / "file", "r+b") as file:
        file.seek(7 * BLOCK)
        file.write(b"by another hand")
    os.utime(target / "file", ns=(found.st_atime_ns, found.st_mtime_ns))
    source.finish()
    _fails(source, target, (target / "file").read_bytes())


def test_a_wrong_checksum_ends_the_session_and_leaves_the_old_file(target: Path) -> None:
    source = Source(target)
    source.tell(DELTA)
    source.piece(0)
    source.digest.add(0, b"something else")
    source.finish()
    assert isinstance(source.end(), ProtocolError)
    assert (target / "file").read_bytes() == OLD


def test_what_was_not_asked_about_is_no_base(target: Path) -> None:
    source = Source(target)
    source.tell(m.LetGo(0), DELTA)
    assert isinstance(source.end(), ProtocolError)


def test_a_hole_is_only_for_a_delta(target: Path) -> None:
    source = Source(target)
    source.tell(m.Begin(b"other", ATTRIBUTES, SIZE), m.Hole(0, BLOCK))
    assert isinstance(source.end(), ProtocolError)


def test_more_open_files_than_were_agreed_end_the_session(target: Path) -> None:
    source = Source(target)
    for number in range(1, m.BLOCKS_WINDOW + 1):
        source.tell(m.Blocks(number, b"file", 0, 1))
    assert isinstance(source.end(), ProtocolError)


def test_a_link_out_of_the_volume_is_no_base(target: Path, tmp_path: Path) -> None:
    trees.write(tmp_path / "outside/secret", "not for the source")
    (target / "link").symlink_to(tmp_path / "outside")
    (target / "inner").symlink_to(tmp_path / "outside/secret")
    source = Source(target)
    for number, path in enumerate((b"link/secret", b"inner"), 1):
        source.tell(m.Blocks(number, path, 0, 1))
        assert source.hear() == m.BlockSums(number, 0, None, b"")
    assert isinstance(source.end(), Disconnected)


def test_a_move_out_of_a_link_or_onto_something_is_not_done(target: Path, tmp_path: Path) -> None:
    trees.write(tmp_path / "outside/secret", "not for the source")
    trees.write(target / "there", "stays")
    (target / "link").symlink_to(tmp_path / "outside")
    source = Source(target)
    source.tell(m.Mirror(View(), (b"",), False))
    moves = [m.Move(b"link/secret", b"stolen", bytes(16)), m.Move(b"file", b"there", bytes(16))]
    source.tell(m.Moves(1, moves))
    assert source.hear() == m.Moved(1, [False, False])
    source.end()
    assert (target / "there").read_text() == "stays"
    assert (tmp_path / "outside/secret").exists()
