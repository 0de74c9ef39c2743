"""Which files are read the short way, on real file systems: only those of which nothing special is to be said."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.entry import View
from storagemirror.fs.inodeflags import FlagReader
from storagemirror.fs.plainfile import PlainFiles, can_tell
from storagemirror.fs.source import SourceVolume
from tests.support.disks import disk

LARGEST = 4096


@pytest.fixture(params=("ext4", "xfs", "btrfs"), scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    kind = request.param
    with disk(tmp_path_factory.mktemp(kind), kind, 320 if kind == "xfs" else 128) as made:
        yield made.path


@contextmanager
def plain_files(place: Path, view: View | None = None) -> Iterator[tuple[SourceVolume, PlainFiles]]:
    view = view if view is not None else View()
    with (
        SourceVolume.open(str(place)) as source,
        source.directory(b"", view, lambda kind, path: None) as directory,
    ):
        yield source, PlainFiles(directory, view, FlagReader(), LARGEST)


def read(files: PlainFiles, name: str) -> bytes | None:
    buffer = memoryview(bytearray(2 * LARGEST))
    found = files.read(name.encode(), buffer, 100)
    return None if found is None else bytes(buffer[100 : 100 + found.st_size])


def test_what_is_plain_is_read_and_what_is_not_is_left_to_others(place: Path) -> None:
    (place / "plain").write_bytes(b"content")
    (place / "empty").touch()
    (place / "largest").write_bytes(b"x" * LARGEST)
    (place / "larger").write_bytes(b"x" * (LARGEST + 1))
    (place / "named twice").write_bytes(b"1")
    os.link(place / "named twice", place / "second name")
    (place / "with an attribute").write_bytes(b"1")
    os.setxattr(place / "with an attribute", "user.comment", b"x")
    (place / "with a flag").write_bytes(b"1")
    subprocess.run(["chattr", "+d", str(place / "with a flag")], check=True)
    (place / "link").symlink_to("plain")
    (place / "directory").mkdir()
    os.mkfifo(place / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place / "socket"))
    with plain_files(place) as (_, files):
        assert read(files, "plain") == b"content"
        assert read(files, "empty") == b""
        assert read(files, "largest") == b"x" * LARGEST
        for name in ("larger", "named twice", "second name", "with an attribute", "with a flag", "link"):
            assert read(files, name) is None, name
        for name in ("directory", "fifo", "socket", "nothing"):
            assert read(files, name) is None, name


def test_a_file_that_changes_while_it_is_read_is_left_to_others(place: Path) -> None:
    path = place / "changing"
    for change in (
        lambda: path.write_bytes(b"CONTENT"),  # as long as before
        lambda: path.write_bytes(b"longer than it was"),
        lambda: path.write_bytes(b""),
        lambda: path.chmod(0o600),
        lambda: os.utime(path, (1, 1)),
    ):
        path.write_bytes(b"content")
        path.chmod(0o644)
        with plain_files(place) as (source, files):
            source.reading.before = lambda size, change=change: change()
            assert read(files, "changing") is None
            source.reading.before = None
            assert read(files, "changing") == path.read_bytes()


def test_a_time_beyond_what_the_target_keeps_is_left_to_others(place: Path) -> None:
    (place / "old").write_bytes(b"1")
    os.utime(place / "old", ns=(10**9, 10**9))
    with plain_files(place, View(oldest_ns=2 * 10**9)) as (_, files):
        assert read(files, "old") is None
    with plain_files(place) as (_, files):
        assert read(files, "old") == b"1"


@pytest.mark.parametrize(
    ("view", "grain_ns", "told"),
    [
        (View(), 0, True),
        (View(owner=False), 0, False),
        (View(time_grain_ns=1000), 0, False),
        (View(access_times=True), 0, False),
        (View(), 20_000_000, False),
    ],
)
def test_only_where_owner_time_and_clock_are_told_as_they_are(view: View, grain_ns: int, told: bool) -> None:
    assert can_tell(view, grain_ns) is told
