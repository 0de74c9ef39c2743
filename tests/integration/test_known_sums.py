"""What the target keeps of its large files' sums: it spares reading them, and is never believed of another content."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.blocks import BLOCK, PIECE, BlockReader
from storagemirror.fs.source import time_grain_ns
from storagemirror.fs.syscalls import punch_hole
from storagemirror.sync.knownsums import BESIDE, KnownSums
from storagemirror.sync.requests import Changes
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import Pair, joined

MIB = 1 << 20
LARGE = 12 * MIB + 77

pytestmark = pytest.mark.skipif(time_grain_ns("ext4") > 0, reason="the kernel's ctime moves in ticks: nothing is kept")


@pytest.fixture(params=["ext4", "xfs", "btrfs"])
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    with disk(tmp_path, request.param, 700) as made:
        source, target = made.path / "source", made.path / "target"
        source.mkdir()
        target.mkdir()
        trees.write(source / "file", os.urandom(LARGE))
        yield source, target


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def send(pair: Pair) -> int:
    """Have the file's change sent; how many bytes crossed."""
    before = pair.source.wire_bytes
    pair.source.apply(Changes(paths=frozenset({b"file"})))
    pair.source.mark(1)
    return pair.source.wire_bytes - before


def read_sums(path: Path) -> bytes:
    """As they are, by reading all of it."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        reader = BlockReader(file.fileno(), size)
        return b"".join(reader.read(at).sums for at in range(0, size, PIECE))


def test_a_file_that_we_wrote_is_not_read_to_find_what_differs(sides: tuple[Path, Path]) -> None:
    source, target = sides
    known = KnownSums()
    with joined(source, target, known=known) as pair:
        pair.mirror()
        for number in range(3):
            overwrite(source / "file", number * 3 * MIB, b"changed")
            assert send(pair) < 2 * BLOCK
            assert known.hits == number + 1
    assert trees.rsync_differences(source, target) == ""


def test_a_file_that_is_read_once_is_not_read_again_by_the_next_session(sides: tuple[Path, Path]) -> None:
    source, target = sides
    with joined(source, target) as pair:
        pair.mirror()
    known = KnownSums()
    for hits in (0, 1):
        overwrite(source / "file", MIB, os.urandom(7))
        with joined(source, target, known=known) as pair:
            pair.mirror()
        assert known.hits == hits
    assert trees.rsync_differences(source, target) == ""


def test_what_another_hand_wrote_is_read_and_put_right_although_size_and_time_are_the_same(
    sides: tuple[Path, Path],
) -> None:
    source, target = sides
    known = KnownSums()
    with joined(source, target, known=known) as pair:
        pair.mirror()
        overwrite(source / "file", 0, b"changed")
        send(pair)
        assert known.hits == 1
        before = (target / "file").stat()
        overwrite(target / "file", 7 * MIB, b"by another hand")
        os.utime(target / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
        overwrite(source / "file", 9 * MIB, b"by the application")
        assert send(pair) > 2 * BLOCK
        assert known.hits == 1
    assert trees.rsync_differences(source, target) == ""


@pytest.mark.parametrize("seed", range(2))
def test_whatever_is_done_to_a_file_the_sums_that_are_kept_are_those_of_what_is_there(
    sides: tuple[Path, Path], seed: int
) -> None:
    source, target = sides
    chance, known, kept = random.Random(seed), KnownSums(), 0
    with joined(source, target, known=known) as pair:
        pair.mirror()
        for _ in range(25):
            _something(chance, source / "file")
            send(pair)
            sums = known.find((target / "file").stat())
            if sums is not None:
                kept += 1
                assert sums == read_sums(target / "file")
            assert read_sums(source / "file") == read_sums(target / "file")
    assert kept > 10
    assert trees.rsync_differences(source, target) == ""


def _something(chance: random.Random, path: Path) -> None:
    """To one file: written, cut, grown, made a hole in, moved within."""
    size = path.stat().st_size
    at = chance.choice([0, chance.randrange(size), chance.randrange(size) // BLOCK * BLOCK, size])
    match chance.randrange(6):
        case 0 | 1:
            overwrite(path, at, chance.randbytes(chance.choice([1, 4096, BLOCK, 3 * BLOCK + 5])))
        case 2:
            os.truncate(path, max(2 * MIB, size - chance.choice([1, BLOCK, MIB])))
        case 3:
            os.truncate(path, size + chance.choice([1, BLOCK - 1, BLOCK, 5 * BLOCK + 3]))
        case 4:
            with path.open("r+b") as file:
                punch_hole(file.fileno(), at // BLOCK * BLOCK, chance.choice([BLOCK, 4 * BLOCK, MIB]))
        case _:
            content = path.read_bytes()
            path.write_bytes(content[:at] + b"x" * 100 + content[at:])


def test_no_more_is_kept_than_was_agreed(sides: tuple[Path, Path]) -> None:
    source, target = sides
    small = KnownSums(budget=100 * 16)  # the file has 193 blocks
    with joined(source, target, known=small) as pair:
        pair.mirror()
        overwrite(source / "file", 0, b"changed")
        send(pair)
        send(pair)
        assert small.hits == 0
        assert small.find((target / "file").stat()) is None
    assert trees.rsync_differences(source, target) == ""


def test_the_file_that_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    known = KnownSums(budget=3 * (16 + BESIDE))
    found = []
    for number in range(4):
        (tmp_path / f"f{number}").write_bytes(bytes(BLOCK))
        found.append((tmp_path / f"f{number}").stat())
    for one in found[:3]:
        known.put(one, b"s" * 16)
    assert known.find(found[0]) is not None
    known.put(found[3], b"s" * 16)
    assert [known.find(one) is not None for one in found] == [True, False, True, True]
