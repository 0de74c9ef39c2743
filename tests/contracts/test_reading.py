"""Reading leaves the page cache as it was. Real file systems, whose pages the kernel counts."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.page_cache import PAGE, cached_pages, forget, resident
from storagemirror.fs.reading import Reading
from storagemirror.sync.requests import MirrorOptions
from tests.support import trees
from tests.support.agents import wait_for
from tests.support.disks import disk
from tests.support.engine import joined

MIB = 1 << 20
STRAY = 32
"""Pages that another processor holds for a moment stay, whatever is asked for."""
MEDIUM, LARGE = 12 * MIB, 80 * MIB


@pytest.fixture(scope="module", params=["ext4", "xfs", "btrfs"])
def volume(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk(tmp_path_factory.mktemp("reading"), request.param, 1000) as made:
        yield made.path


@pytest.fixture
def source(volume: Path) -> Iterator[Path]:
    path = volume / f"source-{random.randrange(1 << 40):x}"
    path.mkdir()
    yield path
    shutil.rmtree(path)


def cold(path: Path, data: bytes) -> int:
    """A file of which nothing is in the cache; open."""
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    def gone() -> bool:
        forget(fd, 0, 0)
        return cached_pages(fd) == 0

    wait_for(gone, "the cache to let go of it")
    return fd


def pages(fd: int) -> list[int]:
    """Which pages are in the cache."""
    found = resident(fd, 0, os.fstat(fd).st_size)
    assert found is not None
    return [number for number, byte in enumerate(found) if byte & 1]


def mirror(source: Path, target: Path) -> None:
    target.mkdir()
    with joined(source, target) as pair:
        pair.source.mirror(MirrorOptions())
    assert trees.rsync_differences(source, target) == ""


def read_all(path: Path) -> None:
    """As the sender reads a large file."""
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    size = os.fstat(fd).st_size
    footprint = Reading().large(fd, size)
    for at in range(0, size, MIB):
        footprint.ahead(at, MIB)
        os.pread(fd, MIB, at)
        footprint.read(min(at + MIB, size))
    footprint.end()
    os.close(fd)


def test_a_mirror_of_what_nobody_had_read_leaves_nothing_in_the_cache(source: Path, tmp_path: Path) -> None:
    """(Save for the few that the judge of equality reads again.)"""
    target = tmp_path / "target"
    target.mkdir()
    fds = [cold(source / f"small {number}", os.urandom(9000 + number)) for number in range(100)]
    fds.append(cold(source / "large", os.urandom(MEDIUM + 5)))
    with joined(source, target) as pair:
        pair.source.mirror(MirrorOptions())
    left = [cached_pages(fd) for fd in fds]
    for fd in fds:
        os.close(fd)
    assert sum(count or 0 for count in left) <= STRAY
    assert trees.rsync_differences(source, target) == ""


def test_what_an_application_had_read_stays(source: Path, tmp_path: Path) -> None:
    fds = [cold(source / f"small {number}", os.urandom(9000)) for number in range(100)]
    large = cold(source / "large", os.urandom(MEDIUM))
    for fd in (*fds, large):
        os.pread(fd, LARGE, 0)
    before = [cached_pages(fd) for fd in (*fds, large)]
    mirror(source, tmp_path / "target")
    assert [cached_pages(fd) for fd in (*fds, large)] == before
    for fd in (*fds, large):
        os.close(fd)


@pytest.mark.parametrize("seed", range(1))
def test_of_a_large_file_exactly_the_pages_stay_that_were_there(source: Path, seed: int) -> None:
    rnd = random.Random(seed)
    fd = cold(source / "database", os.urandom(LARGE + 1000))
    for _ in range(200):
        os.pread(fd, 10, rnd.randrange(LARGE))
    hot = pages(fd)
    assert 100 < len(hot) < LARGE // PAGE // 2
    read_all(source / "database")
    now = pages(fd)
    os.close(fd)
    assert set(hot) <= set(now), "a page of the application was thrown out"
    assert len(now) - len(hot) <= STRAY, "pages of ours were left"


def test_pages_that_are_not_on_the_disk_yet_stay(source: Path) -> None:
    fd = cold(source / "written", os.urandom(8 * MIB))
    with open(source / "written", "r+b") as file:
        file.seek(3 * MIB)
        file.write(b"x" * MIB)
        file.flush()
        read_all(source / "written")
        assert (source / "written").read_bytes()[3 * MIB : 4 * MIB] == b"x" * MIB
    os.close(fd)


def test_after_many_files_that_were_there_the_first_that_was_not_makes_it_look_at_each_again(source: Path) -> None:
    reading, room = Reading(), memoryview(bytearray(9002))
    warm = cold(source / "warm", os.urandom(9000))
    os.pread(warm, 9000, 0)
    for _ in range(100):
        assert reading.small(warm, 9000, room[:9001]) == 9000
    fds = [cold(source / f"{number}", os.urandom(9000)) for number in range(40)]
    for fd in fds:
        assert reading.small(fd, 9000, room[:9001]) == 9000
    left = [cached_pages(fd) or 0 for fd in fds]
    for fd in (warm, *fds):
        os.close(fd)
    assert sum(left[8:]) <= STRAY, "it did not look again"


def test_a_file_system_that_cannot_read_without_waiting_is_read_all_the_same() -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    room = memoryview(bytearray(1001))
    assert Reading().small(fd, 1000, room) > 0
    footprint = Reading().large(fd, 1000)
    footprint.ahead(0, 1000)
    footprint.read(1000)
    footprint.end()
    os.close(fd)
