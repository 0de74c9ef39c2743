"""The sum of a file: the same on both sides whatever the file systems make of holes, another for whatever differs."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagemirror.entry import View
from storagemirror.errors import ProtocolError
from storagemirror.fs.tree import Tree
from storagemirror.sync.summing import Summing
from storagemirror.sync.sums import PIECE, Sum, Summer, Total
from storagemirror.wire import messages as m
from tests.support.disks import KINDS, disk

TIME = 1_700_000_000_123_456_789


@pytest.fixture(scope="module", params=KINDS)
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk(tmp_path_factory.mktemp("sums"), request.param, 320) as made:
        yield made.path


@pytest.fixture
def place(mounted: Path, request: pytest.FixtureRequest) -> Path:
    path = mounted / str(abs(hash(request.node.name)))
    path.mkdir()
    return path


def sum_of(place: Path, name: bytes, view: View | None = None) -> Sum | None:
    tree = Tree(str(place))
    try:
        last: Sum | None = None
        for found in Summer(tree, view or View()).sum(name):
            last = found
        return last
    finally:
        tree.close()


def write(place: Path, name: str, content: bytes | bytearray, *, sparse: bool = False) -> None:
    """A file; `sparse`: zeros are left out, block by block."""
    with (place / name).open("wb") as f:
        for at in range(0, len(content), 4096):
            block = content[at : at + 4096]
            if sparse and not any(block):
                f.seek(len(block), os.SEEK_CUR)
            else:
                f.write(block)
        f.truncate(len(content))
    os.utime(place / name, ns=(TIME, TIME))


def digest(place: Path, name: bytes, view: View | None = None) -> bytes:
    found = sum_of(place, name, view)
    assert found is not None
    assert found.steady
    return found.digest


CONTENTS = {
    "empty": b"",
    "small": b"content",
    "zeros": bytes(100),
    "many zeros": bytes(3 * PIECE + 17),
    "data after zeros": bytes(2 * PIECE) + b"x",
    "zeros after data": b"x" + bytes(2 * PIECE),
    "a hole in the middle": random.Random(1).randbytes(PIECE + 5) + bytes(2 * PIECE) + random.Random(2).randbytes(99),
    "holes within a piece": b"".join(b"x" * 4096 + bytes(4096) for _ in range(200)),
}


@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS.keys())
def test_where_a_file_system_keeps_holes_does_not_matter(place: Path, tmp_path: Path, content: bytes) -> None:
    write(place, "file", content, sparse=True)
    write(tmp_path, "file", content)
    assert digest(place, b"file") == digest(tmp_path, b"file")


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.tuples(st.booleans(), st.integers(1, 3 * PIECE // 2)), min_size=1, max_size=6),
    flip=st.integers(0, 1 << 30),
)
def test_any_byte_that_differs_shows(tmp_path: Path, runs: list[tuple[bool, int]], flip: int) -> None:
    content = bytearray(b"".join(random.Random(size).randbytes(size) if full else bytes(size) for full, size in runs))
    write(tmp_path, "file", content, sparse=True)
    before = digest(tmp_path, b"file")
    write(tmp_path, "file", content)
    assert digest(tmp_path, b"file") == before
    content[flip % len(content)] ^= 1
    write(tmp_path, "file", content)
    assert digest(tmp_path, b"file") != before


def test_whatever_is_kept_of_a_file_is_in_its_sum(place: Path) -> None:
    write(place, "file", b"content")
    file = place / "file"
    changes: list[Callable[[], object]] = [
        lambda: os.chmod(file, 0o600),
        lambda: os.chown(file, 5, 0),
        lambda: os.chown(file, 5, 6),
        lambda: os.utime(file, ns=(TIME, TIME + 1)),
        lambda: os.setxattr(file, "trusted.note", b"1"),
        lambda: os.truncate(file, 6),
    ]
    seen = {digest(place, b"file")}
    for number, change in enumerate(changes, 2):
        change()
        seen.add(digest(place, b"file"))
        assert len(seen) == number
    file.rename(place / "other")
    assert digest(place, b"other") not in seen


def test_what_the_target_cannot_keep_is_not_in_the_sum(place: Path) -> None:
    write(place, "file", b"content")
    view = View(owner=False, time_grain_ns=1_000_000_000)
    before = digest(place, b"file", view)
    os.chown(place / "file", 5, 6)
    os.utime(place / "file", ns=(TIME, TIME + 1000))
    assert digest(place, b"file", view) == before


def test_of_what_is_no_file_there_is_no_sum(place: Path) -> None:
    (place / "directory").mkdir()
    (place / "link").symlink_to("directory")
    os.mkfifo(place / "fifo")
    for name in (b"directory", b"link", b"fifo", b"nothing", b"link/file", b"nothing/file"):
        assert sum_of(place, name) is None


def test_a_file_that_changes_while_it_is_read_has_no_steady_sum(place: Path) -> None:
    write(place, "file", os.urandom(3 * PIECE))
    tree = Tree(str(place))
    steps = Summer(tree, View()).sum(b"file")
    assert next(steps) is None
    with (place / "file").open("r+b") as f:
        f.write(b"x")
    (last,) = [found for found in steps if found is not None]
    assert not last.steady
    tree.close()


def test_a_file_that_takes_anothers_name_while_that_is_read_is_not_taken_for_it(place: Path) -> None:
    write(place, "file", os.urandom(3 * PIECE))
    write(place, "new", os.urandom(3 * PIECE))
    tree = Tree(str(place))
    steps = Summer(tree, View()).sum(b"file")
    assert next(steps) is None
    (place / "new").rename(place / "file")
    (last,) = [found for found in steps if found is not None]
    assert not last.steady
    tree.close()


# -- the target's part


class Desk:
    """A target that is asked, and what it said."""

    def __init__(self, place: Path) -> None:
        self.said: list[m.Message] = []
        self.heard = threading.Condition()
        self.tree = Tree(str(place))
        self.summing = Summing(self.tree, View(), self._send)

    def _send(self, message: m.Message) -> None:
        with self.heard:
            self.said.append(message)
            self.heard.notify_all()

    def answers(self, count: int) -> list[m.Message]:
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.said) >= count, 10)
            return list(self.said)

    def close(self) -> None:
        self.summing.stop()
        self.tree.close()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    for i in range(10):
        write(tmp_path, f"f{i}", f"{i}".encode())
    made = Desk(tmp_path)
    yield made
    made.close()


def test_what_counts_is_added_up_on_both_sides_alike(desk: Desk, tmp_path: Path) -> None:
    desk.summing.take(m.Sum(1, [], begin=True))
    desk.summing.take(m.Sum(2, [b"f0", b"f1", b"gone"]))
    desk.summing.take(m.Sum(3, [b"f2"]))
    answers = desk.answers(2)
    mine = Total()
    for name in (b"f0", b"f2"):
        mine.add(digest(tmp_path, name))
    assert answers[0] == m.Summed(2, [digest(tmp_path, b"f0"), digest(tmp_path, b"f1"), None])
    desk.summing.take(m.Tally(2, [1, 2]))
    desk.summing.take(m.Tally(3, [], last=True))
    assert desk.answers(3)[2] == m.Tallied(3, 2, mine.digest())


def test_a_proof_that_begins_anew_counts_nothing_of_the_one_before(desk: Desk, tmp_path: Path) -> None:
    write(tmp_path, "large", os.urandom(64 << 20))
    desk.summing.take(m.Sum(1, [b"f0"]))
    desk.answers(1)
    desk.summing.take(m.Tally(1))
    for number in range(2, 9):
        desk.summing.take(m.Sum(number, [b"large"] * 100))
    desk.summing.take(m.Sum(9, [], begin=True))
    desk.summing.take(m.Sum(10, [b"f1"]))
    said = desk.answers(2)
    assert [message.number for message in said[1:] if isinstance(message, m.Summed)] == [10]
    desk.summing.take(m.Tally(10, last=True))
    mine = Total()
    mine.add(digest(tmp_path, b"f1"))
    assert desk.answers(3)[2] == m.Tallied(10, 1, mine.digest())


def test_more_than_was_agreed_is_not_kept(desk: Desk) -> None:
    for number in range(1, m.SUM_WINDOW + 1):
        desk.summing.take(m.Sum(number, [b"f0"]))
    with pytest.raises(ProtocolError, match="more than 8"):
        desk.summing.take(m.Sum(99, [b"f0"]))


def test_what_was_not_summed_does_not_count(desk: Desk) -> None:
    with pytest.raises(ProtocolError, match="expected the number"):
        desk.summing.take(m.Tally(1))
    desk.summing.take(m.Sum(1, [b"gone"]))
    desk.answers(1)
    with pytest.raises(ProtocolError, match="does not have"):
        desk.summing.take(m.Tally(1))
