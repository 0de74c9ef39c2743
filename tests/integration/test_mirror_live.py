"""Changes as they come, applied and marked."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.entry import NotKeptKind
from storagemirror.errors import Held, VolumeFull
from storagemirror.sync.observer import EventKind
from storagemirror.sync.requests import Changes
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import Pair, expectation, joined

MARK = 1_234_567_890


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    trees.many(path, 100)
    trees.write(path / "a/b/file", "before")
    trees.write(path / "large", b"l" * 1_000_000)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


@pytest.fixture
def pair(source: Path, target: Path) -> Iterator[Pair]:
    with joined(source, target) as both:
        both.mirror()
        yield both


def paths(*names: str | bytes) -> Changes:
    return Changes(paths=frozenset(map(os.fsencode, names)))


def apply_and_mark(pair: Pair, *changes: Changes) -> None:
    for change in changes:
        pair.source.apply(change)
    pair.source.mark(MARK)


def settled(pair: Pair, source: Path, target: Path, *changes: Changes) -> None:
    apply_and_mark(pair, *changes)
    assert trees.differences(source, target) == []


def test_each_kind_of_change_arrives(pair: Pair, source: Path, target: Path) -> None:
    trees.write(source / "a/b/file", "after")
    trees.write(source / "a/new", "n")
    os.chmod(source / "d0", 0o700)
    os.symlink("x", source / "a/link")
    os.mkfifo(source / "a/fifo")
    os.setxattr(source / "large", "user.a", b"1")
    os.mkdir(source / "made")
    settled(pair, source, target, paths("a/b/file", "a/new", "d0", "a/link", "a/fifo", "large", "made"))


def test_what_is_gone_is_deleted_with_all_that_was_in_it(pair: Pair, source: Path, target: Path) -> None:
    shutil.rmtree(source / "a")
    settled(pair, source, target, paths("a/b/file", "a/b", "a"))
    trees.write(source / "x/y/z", "1")
    settled(pair, source, target, paths("x", "x/y", "x/y/z"))
    shutil.rmtree(source / "x")
    settled(pair, source, target, paths("x/y/z"))


def test_a_new_directory_comes_with_all_that_is_in_it(pair: Pair, source: Path, target: Path) -> None:
    trees.many(source / "new/deeper", 50)
    settled(pair, source, target, paths("new"))


def test_a_tree_is_compared_with_all_that_is_below(pair: Pair, source: Path, target: Path) -> None:
    trees.many(source / "d0", 30, seed=7)
    os.unlink(source / "a/b/file")
    settled(pair, source, target, Changes(trees=frozenset({b"d0", b"a/b"})))


def test_a_change_anywhere_is_a_full_comparison(pair: Pair, source: Path, target: Path) -> None:
    trees.many(source / "d0", 30, seed=7)
    os.unlink(source / "a/b/file")
    settled(pair, source, target, Changes(trees=frozenset({b""})))
    assert pair.seen.kinds().count(EventKind.MIRROR_ENDED) == 2


def test_a_renamed_large_file_is_not_sent_again(pair: Pair, source: Path, target: Path) -> None:
    before = pair.source.wire_bytes
    os.rename(source / "large", source / "a/renamed")
    settled(pair, source, target, Changes(renames=((b"large", b"a/renamed"),)))
    assert pair.source.wire_bytes - before < 5_000


def test_a_renamed_directory_is_not_sent_again(pair: Pair, source: Path, target: Path) -> None:
    (source / "here").mkdir()
    os.rename(source / "large", source / "here/large")
    settled(pair, source, target, paths("large", "here"))
    before = pair.source.wire_bytes
    os.rename(source / "here", source / "there")
    settled(pair, source, target, Changes(renames=((b"here", b"there"),)))
    assert pair.source.wire_bytes - before < 5_000


def test_names_that_were_swapped_end_right(pair: Pair, source: Path, target: Path) -> None:
    trees.write(source / "one", "111", mtime_ns=10**18)
    trees.write(source / "two", "222", mtime_ns=10**18)
    settled(pair, source, target, paths("one", "two"))
    os.rename(source / "one", source / "between")
    os.rename(source / "two", source / "one")
    os.rename(source / "between", source / "two")
    renames = ((b"one", b"between"), (b"two", b"one"), (b"between", b"two"))
    settled(pair, source, target, Changes(renames=renames))


def test_a_rename_that_was_told_too_late_does_no_harm(pair: Pair, source: Path, target: Path) -> None:
    trees.write(source / "log", "old")
    settled(pair, source, target, paths("log"))
    os.rename(source / "log", source / "log.1")
    trees.write(source / "log", "new")
    settled(pair, source, target, paths("log"), Changes(renames=((b"log", b"log.1"),), paths=frozenset({b"log"})))


def test_a_replaced_file_and_a_changed_type_arrive(pair: Pair, source: Path, target: Path) -> None:
    trees.many(source / "thing", 5)
    settled(pair, source, target, paths("thing"))
    trees.write(source / "temporary", "whole")
    os.rename(source / "temporary", source / "a/b/file")
    shutil.rmtree(source / "thing")
    trees.write(source / "thing", "a file now")
    settled(pair, source, target, paths("a/b/file", "thing", "temporary"))
    os.unlink(source / "thing")
    trees.write(source / "thing/inner/file", "a directory again")
    settled(pair, source, target, paths("thing"))


def test_hard_links_come_and_go(pair: Pair, source: Path, target: Path) -> None:
    os.link(source / "large", source / "a/second")
    before = pair.source.wire_bytes
    settled(pair, source, target, paths("a/second"))
    assert pair.source.wire_bytes - before < 5_000
    os.link(source / "large", source / "third")
    trees.write(source / "a/second", "changed under one of three names")
    settled(pair, source, target, paths("third", "a/second"))
    os.unlink(source / "large")
    settled(pair, source, target, paths("large"))
    trees.write(source / "third", "x" * 300_000)
    settled(pair, source, target, paths("third"))
    os.unlink(source / "a/second")
    trees.write(source / "a/second", "alone")
    settled(pair, source, target, paths("a/second"))


def test_what_was_written_by_a_name_that_is_gone_shows_at_the_others(pair: Pair, source: Path, target: Path) -> None:
    os.link(source / "large", source / "a/second")
    settled(pair, source, target, paths("a/second"))
    trees.write(source / "a/second", "written by the second name, then that is gone")
    os.unlink(source / "a/second")
    settled(pair, source, target, paths("a/second"))
    os.link(source / "large", source / "a/b/third")
    settled(pair, source, target, paths("a/b/third"))
    trees.write(source / "a/b/third", "and again, with its directory")
    shutil.rmtree(source / "a/b")
    settled(pair, source, target, paths("a/b"))


def test_a_name_that_is_another_file_by_now_tells_of_the_file_that_it_was(
    pair: Pair, source: Path, target: Path
) -> None:
    os.link(source / "large", source / "a/second")
    settled(pair, source, target, paths("a/second"))
    trees.write(source / "a/second", "written, then replaced")
    trees.write(source / "new", "the replacement")
    os.rename(source / "new", source / "a/second")
    settled(pair, source, target, paths("a/second"))


def test_a_link_in_a_new_directory_to_a_file_elsewhere_is_a_link(pair: Pair, source: Path, target: Path) -> None:
    (source / "fresh").mkdir()
    os.link(source / "large", source / "fresh/second")
    settled(pair, source, target, Changes(trees=frozenset({b"fresh"})))
    assert (target / "fresh/second").stat().st_ino == (target / "large").stat().st_ino


def test_what_was_done_by_a_name_in_a_directory_that_moved_shows_at_the_others(
    pair: Pair, source: Path, target: Path
) -> None:
    os.link(source / "large", source / "a/b/second")
    settled(pair, source, target, paths("a/b/second"))
    os.setxattr(source / "a/b/second", "user.note", b"1")
    os.rename(source / "a/b", source / "a/c")
    settled(pair, source, target, Changes(trees=frozenset({b"a/c"}), renames=((b"a/b", b"a/c"),)))
    assert os.getxattr(target / "large", "user.note") == b"1"


def test_what_is_ours_or_outside_is_not_touched(pair: Pair, source: Path, target: Path) -> None:
    marker = (target / ".storagemirror/pair.json").read_text()
    settled(pair, source, target, paths(".storagemirror/pair.json", ".storagemirror", "lost+found", "../x", "/etc"))
    assert (target / ".storagemirror/pair.json").read_text() == marker


def test_a_symlink_on_the_way_is_not_followed(pair: Pair, source: Path, target: Path, tmp_path: Path) -> None:
    trees.write(tmp_path / "outside/secret", "s")
    shutil.rmtree(source / "a")
    os.symlink(tmp_path / "outside", source / "a")
    settled(pair, source, target, paths("a/secret", "a"))
    assert os.path.islink(target / "a")


def test_a_mark_says_that_files_within_the_grain_were_read_again(source: Path, target: Path) -> None:
    with joined(source, target, grain_ns=100_000_000) as pair:
        pair.mirror()
        trees.write(source / "fresh", "1")
        pair.source.apply(paths("fresh"))
        pair.source.mark(MARK)
        assert trees.differences(source, target) == []


def test_live_deletions_count_for_the_guard(pair: Pair, source: Path, target: Path) -> None:
    gone = sorted(name for name in os.listdir(source) if name != "large")
    for name in gone:
        os.system(f"rm -rf '{source / name}'")
    with pytest.raises(Held) as held:
        apply_and_mark(pair, *(paths(name) for name in gone))
    assert held.value.reason == "MassDelete"
    pair.end()
    left = len(trees.picture(target))
    assert left > 50
    with joined(source, target, expectation(confirm=held.value.token)) as confirmed:
        confirmed.mirror()
    assert trees.differences(source, target) == []


def test_an_application_that_makes_and_removes_files_all_day_is_no_wipe(pair: Pair, source: Path, target: Path) -> None:
    for round_ in range(10):
        names = [f"temporary/{round_}-{number}" for number in range(30)]
        for name in names:
            trees.write(source / name, "t")
        pair.source.apply(paths("temporary", *names))
        for name in names:
            os.unlink(source / name)
        pair.source.apply(paths(*names))
    settled(pair, source, target)


def test_a_new_directory_that_goes_again_at_once_is_no_wipe(pair: Pair, source: Path, target: Path) -> None:
    for round_ in range(3):
        trees.many(source / "unpacked/deeper", 200, seed=round_)
        settled(pair, source, target, Changes(trees=frozenset({b"unpacked"})))
        shutil.rmtree(source / "unpacked")
        settled(pair, source, target, paths("unpacked"))


def test_what_came_in_a_new_directory_is_guarded_where_nothing_was_before(tmp_path: Path) -> None:
    source, target = tmp_path / "empty", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with joined(source, target) as pair:
        pair.mirror()
        trees.many(source / "data", 300)
        settled(pair, source, target, Changes(trees=frozenset({b"data"})))
    shutil.rmtree(source / "data")
    with joined(source, target) as again, pytest.raises(Held):
        again.mirror()
    assert len(trees.picture(target)) > 300


def test_a_small_file_that_took_the_place_of_its_twin_in_size_and_time_arrives(
    pair: Pair, source: Path, target: Path
) -> None:
    trees.write(source / "release", "one", mtime_ns=10**18)
    settled(pair, source, target, paths("release"))
    trees.write(source / "release.new", "two", mtime_ns=10**18)
    os.rename(source / "release.new", source / "release")
    renames = ((b"release.new", b"release"),)
    settled(pair, source, target, Changes(paths=frozenset({b"release", b"release.new"}), renames=renames))
    assert (target / "release").read_text() == "two"


def test_what_a_mount_hides_on_the_source_is_not_gone(pair: Pair, source: Path, target: Path) -> None:
    settled(pair, source, target)
    subprocess.run(["mount", "-t", "tmpfs", "none", source / "a"], check=True)
    try:
        apply_and_mark(pair, paths("a", "a/b", "a/b/file", "a/none"))
        assert (target / "a/b/file").read_text() == "before"
        pair.mirror()
        apply_and_mark(pair, paths("a/b/file"))
        assert (target / "a/b/file").read_text() == "before"
        assert NotKeptKind.OTHER_FILE_SYSTEM in {kind for kind, _ in pair.seen.kept_not}
    finally:
        subprocess.run(["umount", source / "a"], check=True)
    trees.write(source / "a/b/file", "after")
    settled(pair, source, target, Changes(trees=frozenset({b""})))


def test_a_mark_is_remembered_by_the_target(pair: Pair, source: Path, target: Path) -> None:
    trees.write(source / "x", "1")
    settled(pair, source, target, paths("x"))
    pair.end()
    with joined(source, target) as again:
        synced = again.target_volume.synced()
        assert synced is not None
        assert synced.through_ns == MARK


@pytest.mark.parametrize("kind", ["ext4: something is freed", "xfs: it is grown"])
def test_a_full_target_goes_on_when_there_is_room(source: Path, tmp_path: Path, kind: str) -> None:
    grow = kind.startswith("xfs")
    with disk(tmp_path, "xfs" if grow else "ext4", 320 if grow else 16) as volume:
        target = volume.path
        with joined(source, target) as pair:
            pair.mirror()
            _leave_free(target / ".storagemirror/ballast", 3_000_000)
            trees.write(source / "more", os.urandom(12_000_000))
            trees.many(source / "small", 200)
            with pytest.raises(VolumeFull):
                apply_and_mark(pair, paths("more", "small"))
            assert not (target / "more").exists()
            assert os.listdir(target / ".storagemirror/tmp") == []
            with pytest.raises(VolumeFull):
                pair.mirror()
            if grow:
                volume.grow(400)
            else:
                os.unlink(target / ".storagemirror/ballast")
            pair.mirror()
            pair.source.mark(MARK)
        assert trees.differences(source, target) == []


def test_a_file_that_could_not_be_written_does_not_get_the_time_of_the_new_one(source: Path, tmp_path: Path) -> None:
    """Its old content would pass for the new one ever after."""
    with disk(tmp_path, "ext4", 16) as volume:
        target = volume.path
        trees.write(source / "one", b"1" * 200_000)
        with joined(source, target, grain_ns=50_000_000) as pair:
            pair.mirror()
            _fill(target / ".storagemirror/ballast")
            trees.write(source / "one", b"2" * 200_000)
            with pytest.raises(VolumeFull):
                apply_and_mark(pair, paths("one"))
            os.unlink(target / ".storagemirror/ballast")
        with joined(source, target, grain_ns=50_000_000) as again:
            again.mirror()
            again.source.mark(MARK)
        assert (target / "one").read_bytes() == b"2" * 200_000


def _leave_free(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        length = 0
        while (space := os.statvfs(path.parent)).f_bavail * space.f_frsize > size:
            length += space.f_bavail * space.f_frsize - size + 4096
            os.posix_fallocate(file.fileno(), 0, length)
            os.fsync(file.fileno())


def _fill(path: Path) -> None:
    """Root's reserve too."""
    with open(path, "wb") as file:
        at = 0
        for step in (65_536, 4_096):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), at, step)
                    at += step
