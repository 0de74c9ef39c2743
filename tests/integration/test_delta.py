"""Large files that differ: only the blocks that differ travel, and the copy is whole at any time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.contract import TargetPolicy
from storagemirror.fs.blocks import BLOCK
from storagemirror.sync.requests import Changes
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import expectation, joined, mirror

MIB = 1 << 20
LARGE = 12 * MIB
"""Beyond what is copied rather than written in place."""


@pytest.fixture(scope="module", params=["ext4", "btrfs"])
def room(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk(tmp_path_factory.mktemp("disk"), request.param, 700) as made:
        yield made.path


@pytest.fixture
def sides(room: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    place = room / request.node.name.split("[")[0][:100]
    source, target = place / "source", place / "target"
    source.mkdir(parents=True)
    target.mkdir()
    yield source, target
    os.system(f"rm -rf '{place}'")


def equal(source: Path, target: Path) -> None:
    assert trees.differences(source, target) == []
    assert trees.rsync_differences(source, target) == ""


def overwrite(path: Path, offset: int, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


@pytest.mark.parametrize("size", [300_000, 5 * MIB + 1, LARGE + 77])
def test_only_blocks_that_differ_travel(sides: tuple[Path, Path], size: int) -> None:
    source, target = sides
    trees.write(source / "file", os.urandom(size))
    mirror(source, target)
    overwrite(source / "file", 0, b"first")
    overwrite(source / "file", size - 5, b"final")
    result = mirror(source, target)
    equal(source, target)
    assert result.files_sent == 1
    assert result.bytes_sent <= 3 * BLOCK
    assert result.wire_bytes < result.bytes_sent + 4_000


@pytest.mark.parametrize("kind", ["xfs", "tmpfs"])
def test_other_file_systems_do_the_same(tmp_path: Path, kind: str) -> None:
    with disk(tmp_path, kind, 400) as made:
        source, target = made.path / "source", made.path / "target"
        trees.write(source / "file", os.urandom(LARGE))
        trees.write(target / "file", os.urandom(LARGE + 1))
        mirror(source, target, expectation(policy=TargetPolicy.ADOPT))
        overwrite(source / "file", MIB, b"changed")
        result = mirror(source, target)
        equal(source, target)
        assert result.bytes_sent == BLOCK


@pytest.mark.parametrize("change", [-LARGE + 300_000, -1, 1, 3 * MIB + 5])
def test_a_file_that_grew_or_shrank_is_equal_afterwards(sides: tuple[Path, Path], change: int) -> None:
    source, target = sides
    trees.write(source / "file", os.urandom(LARGE))
    mirror(source, target)
    if change > 0:
        with open(source / "file", "ab") as file:
            file.write(os.urandom(change))
    else:
        os.truncate(source / "file", LARGE + change)
    result = mirror(source, target)
    equal(source, target)
    assert result.bytes_sent <= max(change, 0) + BLOCK


def test_holes_stay_and_become_holes(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.write(source / "file", os.urandom(LARGE))
    trees.sparse(source / "sparse", 100 * MIB, 50 * MIB)
    mirror(source, target)
    fd = os.open(source / "file", os.O_RDWR)
    content = os.pread(fd, 4 * MIB, 0)
    os.ftruncate(fd, 0)
    os.ftruncate(fd, LARGE)
    os.pwrite(fd, content, 0)
    os.close(fd)
    overwrite(source / "sparse", 70 * MIB, b"data in a hole")
    result = mirror(source, target)
    equal(source, target)
    assert result.bytes_sent <= BLOCK
    assert os.stat(target / "file").st_blocks * 512 < 6 * MIB
    assert os.stat(target / "sparse").st_blocks * 512 < 6 * MIB


def test_what_is_written_into_a_hole_leaves_what_comes_after_it(sides: tuple[Path, Path]) -> None:
    """Found by a storm: what is copied of the old file ends within its hole, and data comes beyond."""
    source, target = sides
    for name in ("file", "end"):
        trees.write(source / name, os.urandom(MIB))
        os.truncate(source / name, 5 * MIB)
        overwrite(source / name, 4 * MIB, os.urandom(MIB))
    mirror(source, target)
    overwrite(source / "file", 2 * MIB + 5, b"changed")
    os.truncate(source / "end", 2 * MIB)
    overwrite(source / "end", 5, b"changed")
    mirror(source, target)
    equal(source, target)


def test_attributes_change_with_the_content(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.write(source / "file", os.urandom(LARGE))
    os.setxattr(source / "file", "user.before", b"1")
    mirror(source, target)
    overwrite(source / "file", MIB, b"changed")
    os.removexattr(source / "file", "user.before")
    os.setxattr(source / "file", "user.after", b"2")
    os.chown(source / "file", 1234, 4321)
    os.chmod(source / "file", 0o4711)
    mirror(source, target)
    equal(source, target)


def test_all_names_of_a_file_show_what_changed(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.write(source / "a/file", os.urandom(LARGE))
    (source / "b").mkdir()
    os.link(source / "a/file", source / "b/other")
    mirror(source, target)
    overwrite(source / "b/other", MIB, b"changed")
    result = mirror(source, target)
    equal(source, target)
    assert result.bytes_sent <= BLOCK


def test_names_that_are_one_file_on_the_target_only_do_not_change_together(sides: tuple[Path, Path]) -> None:
    source, target = sides
    content = os.urandom(LARGE)
    for name in ("one", "other"):
        trees.write(source / name, content, mtime_ns=10**18)
    mirror(source, target)
    os.unlink(target / "other")
    os.link(target / "one", target / "other")
    with joined(source, target) as pair:
        overwrite(source / "one", MIB, b"changed")
        pair.source.apply(Changes(paths=frozenset({b"one"})))
        pair.source.mark(1)
    equal(source, target)


def test_a_live_change_of_a_large_file_sends_its_blocks(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.write(source / "there/file", os.urandom(LARGE))
    with joined(source, target) as pair:
        pair.mirror()
        overwrite(source / "there/file", 5 * MIB, b"changed")
        before = pair.source.wire_bytes
        pair.source.apply(Changes(paths=frozenset({b"there/file"})))
        pair.source.mark(1)
        assert pair.source.wire_bytes - before < 2 * BLOCK
    equal(source, target)


def test_what_somebody_changed_on_the_target_is_put_right(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.write(source / "file", os.urandom(LARGE))
    mirror(source, target)
    before = os.stat(target / "file")
    overwrite(target / "file", 7 * MIB, b"by another hand")
    os.utime(target / "file", ns=(before.st_atime_ns, before.st_mtime_ns))
    overwrite(source / "file", 9 * MIB, b"by the application")
    result = mirror(source, target)
    equal(source, target)
    assert result.bytes_sent == 2 * BLOCK


def test_many_large_files_are_asked_about_at_once(sides: tuple[Path, Path]) -> None:
    source, target = sides
    for number in range(60):
        trees.write(source / f"dir{number % 3}/{number}", os.urandom(300_000 + number))
    mirror(source, target)
    for number in range(0, 60, 2):
        overwrite(source / f"dir{number % 3}/{number}", 100, b"changed")
    os.unlink(target / "dir1/4")
    result = mirror(source, target)
    equal(source, target)
    assert result.files_sent == 30
    assert result.bytes_sent == 29 * BLOCK + 300_004


def test_a_target_of_other_content_is_made_equal(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.write(source / "file", os.urandom(3 * MIB))
    trees.write(target / "file", os.urandom(2 * MIB))
    mirror(source, target, expectation(policy=TargetPolicy.ADOPT))
    equal(source, target)
