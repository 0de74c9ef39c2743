"""Inode flags and project ids: kept where the target can hold them, counted where not, and no obstacle to a mirror."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from storagemirror.entry import NotKeptKind
from storagemirror.fs.inodeflags import APPEND, IMMUTABLE, NOATIME, NODUMP, WISHES, FlagReader, open_any
from storagemirror.sync.requests import Changes, MirrorResult
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import expectation, joined, mirror

SIZES = {"ext4": 32, "xfs": 320, "btrfs": 128, "tmpfs": 16}


@pytest.fixture
def volumes(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, Path]]:
    """A source and a target on the file systems that the test names."""
    here, there = getattr(request, "param", "ext4 ext4").split()
    with ExitStack() as stack:
        source = stack.enter_context(disk(tmp_path, here, SIZES[here], "source"))
        target = stack.enter_context(disk(tmp_path, there, SIZES[there], "target"))
        yield source.path, target.path


def chattr(change: str, *paths: Path) -> None:
    subprocess.run(["chattr", *change.split(), *paths], check=True)


def look(path: Path) -> tuple[int, int]:
    """Flags and project id."""
    directory = os.open(path.parent, os.O_RDONLY)
    fd = open_any(directory, os.fsencode(path.name))
    try:
        return FlagReader().read(fd)
    finally:
        os.close(fd)
        os.close(directory)


def counts(result: MirrorResult) -> dict[str, int]:
    return {item.kind.value: item.count for item in result.not_kept}


@pytest.mark.parametrize("volumes", ["ext4 ext4", "ext4 xfs", "xfs btrfs", "btrfs tmpfs"], indirect=True)
def test_flags_are_kept_and_are_no_obstacle_to_later_changes(volumes: tuple[Path, Path]) -> None:
    source, target = volumes
    trees.write(source / "locked directory/immutable", "a")
    trees.write(source / "log", "line\n")
    trees.write(source / "big log", b"x" * 400_000)
    trees.write(source / "nodump", "n")
    trees.write(source / "plain", "p")
    chattr("+dA", source / "nodump")
    chattr("+a", source / "log", source / "big log")
    chattr("+i", source / "locked directory/immutable", source / "locked directory")
    assert counts(mirror(source, target)) == {}
    assert look(target / "nodump") == (NODUMP | NOATIME, 0)
    assert look(target / "log") == look(target / "big log") == (APPEND, 0)
    assert look(target / "locked directory") == (IMMUTABLE, 0)
    assert look(target / "locked directory/immutable") == (IMMUTABLE, 0)
    assert look(target / "plain") == (0, 0)
    assert trees.rsync_differences(source, target) == ""

    again = mirror(source, target)
    assert (again.files_sent, again.metadata_sent) == (0, 0)

    for log in (source / "log", source / "big log"):
        with log.open("a") as file:
            file.write("more\n")
    chattr("-i", source / "locked directory")
    trees.write(source / "locked directory/new", "n")
    chattr("+i", source / "locked directory")
    chattr("-i", source / "locked directory/immutable")
    chattr("+d", source / "plain")
    result = mirror(source, target)
    assert result.failed == 0
    assert trees.rsync_differences(source, target) == ""
    assert look(target / "log") == look(target / "big log") == (APPEND, 0)
    assert look(target / "locked directory") == (IMMUTABLE, 0)
    assert look(target / "locked directory/immutable") == (0, 0)
    assert look(target / "plain") == (NODUMP, 0), "nothing but its flags changed"

    chattr("-i", source / "locked directory")
    chattr("-a", source / "log")
    subprocess.run(["rm", "-r", source / "locked directory", source / "log"], check=True)
    assert mirror(source, target, expectation(max_delete_percent=100)).failed == 0
    assert trees.rsync_differences(source, target) == ""


@pytest.mark.parametrize("volumes", ["xfs xfs"], indirect=True)
def test_project_ids_are_kept_and_a_project_takes_new_files(volumes: tuple[Path, Path]) -> None:
    source, target = volumes
    (source / "project").mkdir()
    chattr("-p 42 +P", source / "project")
    trees.write(source / "project/inside", "i")
    trees.write(source / "outside", "o")
    assert counts(mirror(source, target)) == {}
    assert look(target / "project")[1] == look(target / "project/inside")[1] == 42
    trees.write(source / "project/inside", "changed")
    trees.write(source / "project/new", "n")
    trees.write(source / "project/deeper/new", "n")
    result = mirror(source, target)
    assert (result.failed, counts(result)) == (0, {})
    for name in ("inside", "new", "deeper", "deeper/new"):
        assert look(target / "project" / name) == look(source / "project" / name)
    assert look(target / "outside") == (0, 0)
    assert trees.rsync_differences(source, target) == ""


@pytest.mark.parametrize("volumes", ["xfs tmpfs"], indirect=True)
def test_what_the_target_cannot_hold_is_counted_each_time_and_sent_once(volumes: tuple[Path, Path]) -> None:
    source, target = volumes
    trees.write(source / "synchronous", "s")
    trees.write(source / "of a project", "p")
    chattr("+S", source / "synchronous")
    chattr("-p 7", source / "of a project")
    wanted = {NotKeptKind.FLAGS.value: 1, NotKeptKind.PROJECT.value: 1}
    assert counts(mirror(source, target)) == wanted
    again = mirror(source, target)
    assert counts(again) == wanted
    assert (again.files_sent, again.metadata_sent) == (0, 0)
    chattr("-S", source / "synchronous")
    assert counts(mirror(source, target)) == {NotKeptKind.PROJECT.value: 1}


def test_live_a_file_that_may_only_be_appended_to_is_replaced_and_locked_again(volumes: tuple[Path, Path]) -> None:
    source, target = volumes
    trees.write(source / "directory/log", "1\n")
    chattr("+a", source / "directory/log", source / "directory")
    with joined(source, target) as pair:
        pair.mirror()
        with (source / "directory/log").open("a") as file:
            file.write("2\n")
        trees.write(source / "directory/other", "o")
        pair.source.apply(Changes(paths={b"directory/log", b"directory/other"}))
        pair.source.mark(0)
        assert (target / "directory/log").read_text() == "1\n2\n"
        assert look(target / "directory/log") == (APPEND, 0)
        assert look(target / "directory") == (APPEND, 0), "given back what it had"
    assert trees.rsync_differences(source, target) == ""


def test_a_flag_that_only_the_target_has_is_no_obstacle(volumes: tuple[Path, Path]) -> None:
    source, target = volumes
    trees.write(source / "d/changed", "1")
    trees.write(source / "d/removed", "1")
    mirror(source, target)
    chattr("+i", target / "d/changed", target / "d/removed", target / "d")
    trees.write(source / "d/changed", "other")
    (source / "d/removed").unlink()
    assert mirror(source, target, expectation(max_delete_percent=100)).failed == 0
    assert trees.rsync_differences(source, target) == ""


def test_a_killed_probe_leaves_no_obstacle(volumes: tuple[Path, Path]) -> None:
    source, target = volumes
    trees.write(target / ".storagemirror/tmp/3", "of a killed session")
    chattr("+i", target / ".storagemirror/tmp/3")
    trees.write(source / "a", "a")
    assert mirror(source, target).failed == 0


def test_only_what_a_person_asks_for_counts_as_a_flag(volumes: tuple[Path, Path]) -> None:
    source, _ = volumes
    trees.write(source / "file", b"x" * 10_000)  # ext4: kept in extents, which is a flag too
    assert look(source / "file") == (0, 0)
    assert not WISHES & 0x8_0000
