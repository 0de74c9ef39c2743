"""Small files made in a new directory with few calls are what the same files made one attribute at a time are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.entry import Attributes, View
from storagemirror.fs.newfiles import NewFiles
from storagemirror.fs.place import Placer
from storagemirror.fs.scan import ignore
from tests.support.disks import KINDS, disk

TIME = 1_500_000_000_000_000_007
MODES = (0o644, 0o600, 0o444, 0o777, 0o666, 0o200, 0o000, 0o4755, 0o2755, 0o1644, 0o6711)
OWNERS = ((0, 0), (11, 12), (0, 12), (11, 0))


@pytest.fixture(scope="module", params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with disk(tmp_path_factory.mktemp("fs"), request.param, 320) as made:
        yield made.path


@pytest.fixture(params=[0o000, 0o022, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def new_files(directory: Path) -> tuple[NewFiles, int]:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    return Placer(fd, View(), ignore).new_files(fd, b""), fd


@pytest.mark.parametrize("directory_mode", [0o700, 0o2700, 0o755, 0o2777], ids=oct)
@pytest.mark.usefixtures("umask")
def test_each_has_its_owner_mode_time_and_content_whatever_its_directory_and_the_umask_are(
    place: Path, tmp_path: Path, directory_mode: int
) -> None:
    directory = place / tmp_path.name
    directory.mkdir()
    os.chown(directory, 0, 4711)
    os.chmod(directory, directory_mode)
    new, fd = new_files(directory)
    wanted: dict[bytes, Attributes] = {}
    for mode in MODES:
        for uid, gid in OWNERS * 2:  # the second time what a new file is like is known
            name = b"%o-%d" % (mode, len(wanted))
            attributes = Attributes(stat.S_IFREG | mode, uid, gid, TIME + len(wanted))
            new.put(name, attributes, memoryview(name * (len(wanted) % 3)))
            wanted[name] = attributes
    for number, (name, attributes) in enumerate(wanted.items()):
        found = os.stat(name, dir_fd=fd)
        is_ = Attributes(found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns)
        assert (name, is_) == (name, attributes)
        assert (directory / os.fsdecode(name)).read_bytes() == name * (number % 3)
    os.close(fd)


def test_what_has_the_name_already_stays_as_it_is(place: Path) -> None:
    directory = place / "taken"
    directory.mkdir(0o700)
    os.symlink("/etc/hostname", directory / "link")
    (directory / "file").write_bytes(b"here")
    new, fd = new_files(directory)
    for name in (b"link", b"file"):
        with pytest.raises(FileExistsError):
            new.put(name, Attributes(stat.S_IFREG | 0o644, 0, 0, TIME), memoryview(b"other"))
    os.close(fd)
    assert os.readlink(directory / "link") == "/etc/hostname"
    assert (directory / "file").read_bytes() == b"here"


def test_nothing_is_left_of_a_file_for_which_there_is_no_room(tmp_path: Path) -> None:
    with disk(tmp_path, "tmpfs", 1) as made:
        directory = made.path / "d"
        directory.mkdir(0o700)
        new, fd = new_files(directory)
        with pytest.raises(OSError, match="No space"):
            new.put(b"large", Attributes(stat.S_IFREG | 0o644, 0, 0, TIME), memoryview(bytes(4 << 20)))
        os.close(fd)
        assert os.listdir(directory) == []
