"""Bytes put into a large file, or taken out, move what comes after them: that is not sent."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from storagemirror.fs import partial
from storagemirror.fs.target import TargetVolume
from storagemirror.sync.requests import MirrorResult
from tests.support import trees
from tests.support.engine import joined, mirror

MIB = 1 << 20
SIZE = 20 * MIB + 12_345
CONTENT = os.urandom(SIZE)


def after(tmp_path: Path, content: bytes, before: bytes = CONTENT) -> MirrorResult:
    """What a mirror sends of a file that was `before` and is `content`."""
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    trees.write(source / "file", before)
    mirror(source, target)
    trees.write(source / "file", content)
    result = mirror(source, target)
    assert (target / "file").read_bytes() == content
    assert trees.rsync_differences(source, target) == ""
    return result


EDITS: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "put in front": (lambda c: os.urandom(100) + c, 200_000),
    "much put in front": (lambda c: os.urandom(5 * MIB) + c, 5 * MIB + 200_000),
    "put into the middle": (lambda c: c[: 10 * MIB] + b"x" + c[10 * MIB :], 1_200_000),
    "appended": (lambda c: c + os.urandom(3000), 80_000),
    "taken from the front": (lambda c: c[12_345:], 200_000),
    "much taken from the front": (lambda c: c[6 * MIB :], 200_000),
    "taken from the middle": (lambda c: c[: 7 * MIB] + c[7 * MIB + 1 :], 1_200_000),
    "several": (lambda c: b"a" + c[: 5 * MIB] + b"bb" + c[5 * MIB : 12 * MIB] + c[12 * MIB + 99 :], 4_500_000),
    "moved by whole blocks": (lambda c: os.urandom(2 * 65_536) + c, 300_000),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_only_moved_is_not_sent(tmp_path: Path, edit: str) -> None:
    change, most = EDITS[edit]
    assert after(tmp_path, change(CONTENT)).bytes_sent <= most


def test_what_moved_and_was_changed_too_is_right(tmp_path: Path) -> None:
    content = bytearray(b"in front" + CONTENT)
    for at in range(MIB, SIZE, 3 * MIB):
        content[at : at + 5] = b"other"
    assert after(tmp_path, bytes(content)).bytes_sent < 2 * MIB


def test_content_that_repeats_itself_is_right(tmp_path: Path) -> None:
    before = b"the same line\n" * 400_000
    after(tmp_path, b"another line\n" + before, before)


def test_a_file_that_is_another_is_sent_whole(tmp_path: Path) -> None:
    other = os.urandom(SIZE)
    assert after(tmp_path, other).bytes_sent == SIZE


@pytest.mark.parametrize("seed", range(6))
def test_any_edits_end_in_the_same_content(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    content = CONTENT[: 6 * MIB]
    for _ in range(chance.randrange(1, 5)):
        at, length = chance.randrange(len(content)), chance.choice([1, 77, 65_536, 400_000])
        kind = chance.choice(["put", "take", "write"])
        middle = b"" if kind == "take" else chance.randbytes(length)
        content = content[:at] + middle + content[at if kind == "put" else at + length :]
    after(tmp_path, content, CONTENT[: 6 * MIB])


def test_a_file_within_the_grain_gets_its_time_when_it_was_read_again(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    trees.write(source / "file", CONTENT)
    mirror(source, target)
    trees.write(source / "file", b"x" + CONTENT)
    with joined(source, target, grain_ns=400_000_000) as pair:
        assert pair.mirror().bytes_sent < MIB
        pair.source.mark(0)
    assert trees.differences(source, target) == []


def test_what_came_of_a_file_that_broke_off_is_not_copied_within_itself(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    trees.write(source / "other", "x")
    mirror(source, target)
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        partial.remember(volume.ours, volume.temporary, b"file")
        (target / ".storagemirror/tmp/partial").write_bytes(CONTENT)
    trees.write(source / "file", b"put in front" + CONTENT)
    mirror(source, target)
    assert trees.differences(source, target) == []


def test_a_file_that_was_searched_in_vain_is_sent_whole_for_a_while(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    contents = [os.urandom(SIZE), os.urandom(SIZE)]
    contents.append(b"in front" + contents[1])
    contents.append(b"once more" + contents[2])
    trees.write(source / "file", contents[0])
    sent = []
    with joined(source, target) as pair:
        pair.mirror()
        for content in contents[1:3]:
            # In place, as what is written again and again is.
            with (source / "file").open("r+b") as file:
                file.write(content)
            sent.append(pair.mirror().bytes_sent)
    assert sent == [SIZE, len(contents[2])]
    (source / "file").write_bytes(contents[3])
    assert mirror(source, target).bytes_sent < MIB, "another connection knows nothing of it"
    assert trees.differences(source, target) == []
