"""How a file that both sides have is judged: by size and time, by content, or by which is newer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storagemirror.contract import CompareBy
from storagemirror.sync.left import LeftKind
from storagemirror.sync.requests import Changes, MirrorResult
from tests.support import trees
from tests.support.engine import joined, mirror


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    trees.many(path, 50)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def spoiled(path: Path) -> None:
    """Another content, under the size and time that it had."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def newer(result: MirrorResult) -> tuple[int, tuple[bytes, ...]]:
    left = [left for left in result.left_alone if left.kind is LeftKind.NEWER]
    return (left[0].count, left[0].first) if left else (0, ())


# -- SizeAndTime


def test_a_file_that_is_written_within_the_grain_of_the_look_at_it_is_not_trusted(source: Path, target: Path) -> None:
    """Its time is told wrong until a later look finds it at rest: else a write in the same tick would never be seen."""
    file = source / "busy"
    file.write_text("one")
    with joined(source, target, grain_ns=3600 * 10**9) as pair:
        pair.source.apply(Changes(paths={b"busy"}))
        pair.source.ping()
        kept = file.stat().st_mtime_ns
        pair.source.apply(Changes(paths={b"busy"}))
        pair.source.close()
    assert (target / "busy").stat().st_mtime_ns == kept - 1
    file.write_text("two")
    os.utime(file, ns=(kept, kept))  # as a clock that has not ticked in between
    mirror(source, target)
    assert (target / "busy").read_text() == "two"
    assert trees.rsync_differences(source, target) == ""


# -- Checksum


def test_what_differs_by_content_alone_is_found_by_checksum_and_sent(source: Path, target: Path) -> None:
    trees.write(source / "large", os.urandom(600_000))
    os.link(source / "large", source / "large too")
    trees.sparse(source / "sparse", 5_000_000, 2_000_000)
    mirror(source, target)
    files = [target / "large", target / "sparse", *sorted(p for p in target.glob("d*/f*") if p.stat().st_size)[:3]]
    for file in files:
        spoiled(file)
    assert mirror(source, target).files_sent == 0
    assert trees.rsync_differences(source, target) != ""
    result = mirror(source, target, compare=CompareBy.CHECKSUM)
    assert trees.rsync_differences(source, target) == ""
    assert result.differing >= len(files)
    again = mirror(source, target, compare=CompareBy.CHECKSUM)
    assert (again.differing, again.files_sent) == (0, 0)


def test_by_checksum_what_size_and_time_show_is_done_as_ever(source: Path, target: Path) -> None:
    mirror(source, target, compare=CompareBy.CHECKSUM)
    trees.write(source / "new", "new")
    trees.write(target / "orphan", "x")
    result = mirror(source, target, compare=CompareBy.CHECKSUM)
    assert (result.files_sent, result.deleted, result.differing) == (1, 1, 0)
    assert trees.rsync_differences(source, target) == ""


# -- Newer


def test_a_file_that_is_newer_on_the_target_is_left_with_its_attributes(source: Path, target: Path) -> None:
    for name in ("newer", "older", "same-time", "linked", "type"):
        trees.write(source / name, name, mtime_ns=10**18)
    os.link(source / "linked", source / "linked too")
    mirror(source, target)
    trees.write(target / "newer", "theirs", mtime_ns=10**18 + 5)
    os.chmod(target / "newer", 0o600)
    trees.write(target / "older", "theirs", mtime_ns=10**18 - 5)
    trees.write(target / "same-time", "theirs, longer", mtime_ns=10**18)
    (target / "type").unlink()
    os.symlink("newer", target / "type")
    os.unlink(target / "linked too")
    trees.write(target / "linked too", "theirs", mtime_ns=10**18 + 5)
    for _ in range(2):
        result = mirror(source, target, compare=CompareBy.NEWER)
        assert newer(result) == (2, (b"linked too", b"newer"))
        assert (target / "newer").read_text() == "theirs"
        assert (target / "newer").stat().st_mode & 0o777 == 0o600
        assert (target / "linked too").read_text() == "theirs"
        assert (target / "older").read_text() == "older"
        assert (target / "same-time").read_text() == "same-time", "of equal times the source's counts"
        assert (target / "type").read_text() == "type", "only a file is spared by a file"
    assert mirror(source, target).left_alone == ()
    assert trees.rsync_differences(source, target) == ""


def test_live_a_newer_file_is_left_too(source: Path, target: Path) -> None:
    trees.write(source / "small", "one", mtime_ns=10**18)
    trees.write(source / "large", b"l" * 300_000, mtime_ns=10**18)
    trees.write(source / "moved", "moved", mtime_ns=10**18)
    with joined(source, target) as pair:
        pair.mirror(CompareBy.NEWER)
        for name in ("small", "large", "taken"):
            trees.write(target / name, "theirs", mtime_ns=3 * 10**18)
        trees.write(source / "small", "two")
        trees.write(source / "large", b"m" * 300_000)
        trees.write(source / "other", "other")
        os.rename(source / "moved", source / "taken")
        names = frozenset({b"small", b"large", b"other", b"moved", b"taken"})
        pair.source.apply(Changes(paths=names, renames=((b"moved", b"taken"),)))
        pair.source.mark(1)
        assert {(target / name).read_text() for name in ("small", "large", "taken")} == {"theirs"}
        assert (target / "other").read_text() == "other"
        assert not (target / "moved").exists()
        (left,) = pair.source.left
        assert (left.kind, left.count) == (LeftKind.NEWER, 3)


def test_what_comes_live_to_older_files_is_written_again_and_again(source: Path, target: Path) -> None:
    with joined(source, target) as pair:
        pair.mirror(CompareBy.NEWER)
        for number in range(5):
            trees.write(source / "busy", f"{number}")
            pair.source.apply(Changes(paths={b"busy"}))
            pair.source.mark(number + 1)
            assert (target / "busy").read_text() == f"{number}"
        assert pair.source.left == ()
