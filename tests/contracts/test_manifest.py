"""What a copy held when it was promoted is written down whole or not at all, and believed only when it is whole."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from storagemirror.entry import Entry, View
from storagemirror.fs import manifest
from storagemirror.fs.manifest import Part
from storagemirror.fs.target import TargetVolume
from storagemirror.sync import handover
from tests.cluster.layout import checkout
from tests.support import trees
from tests.support.disks import KINDS, disk
from tests.support.engine import PAIR, VOLUME, homeward, mirror, promote


@pytest.fixture(params=KINDS)
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A copy of one of each thing, on a disk of its own."""
    (tmp_path / "source").mkdir()
    trees.everything(tmp_path / "source")
    with disk(tmp_path, request.param, {"xfs": 320, "btrfs": 128}.get(request.param, 48)) as made:
        target = made.path / "volume"
        target.mkdir()
        mirror(tmp_path / "source", target)
        yield target


def read(target: Path, epoch: int = 2, pair: str = PAIR, volume: str = VOLUME) -> list[Part] | None:
    """All of it; None when it is not believed."""
    state = os.open(target / ".storagemirror", os.O_RDONLY)
    try:
        found = manifest.find(state, pair, volume, epoch)
        if found is None:
            return None
        parts = list(found.parts())
        found.close()
        return parts
    finally:
        os.close(state)


def test_it_holds_every_entry_as_it_is_compared(copy: Path) -> None:
    assert promote(copy).forgotten == ""
    parts = read(copy)
    assert parts is not None
    seen = trees.picture(copy)
    told = {
        part.path + b"/" + entry.name if part.path else entry.name: entry for part in parts for entry in part.entries
    }
    assert set(told) == set(seen) - {b""}
    for path, entry in told.items():
        mode, uid, gid, mtime, size = seen[path][:5]
        if not stat.S_ISDIR(entry.mode):
            assert (entry.mode, entry.uid, entry.gid, entry.mtime_ns, entry.size) == (mode, uid, gid, mtime, size)
            assert bool(entry.xattrs) == bool(seen[path][8])
        assert entry.leader == b""
    assert parts[0].path == b""
    assert not (copy / ".storagemirror/manifest.new").exists()


def test_it_is_of_one_pair_one_volume_and_one_promotion(copy: Path) -> None:
    promote(copy)
    assert read(copy) is not None
    assert read(copy, epoch=3) is None
    assert read(copy, pair="another") is None
    assert read(copy, volume="logs") is None


def test_every_byte_of_it_counts(copy: Path) -> None:
    promote(copy)
    path = copy / ".storagemirror/manifest"
    whole = path.read_bytes()
    for at in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        assert read(copy) is None, at
    for size in (0, 1, 15, 16, 17, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert read(copy) is None, size
    path.write_bytes(whole + b"\0")
    assert read(copy) is None
    path.write_bytes(whole)
    assert read(copy) is not None


def test_a_volume_that_bears_the_promotion_is_not_touched_again(copy: Path) -> None:
    promote(copy)
    before = (copy / ".storagemirror/manifest").stat()
    (copy / "a/one").write_text("in use by now")
    promote(copy)
    after = (copy / ".storagemirror/manifest").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_end_of_a_restore_needs_none(copy: Path) -> None:
    with TargetVolume.open(str(copy)) as volume:
        handover.promote(volume, homeward())
    assert not (copy / ".storagemirror/manifest").exists()


def fill_up(file: BinaryIO) -> None:
    while True:
        file.write(bytes(1 << 16))
        file.flush()


def test_a_full_disk_keeps_no_copy_from_being_promoted_and_that_is_told(tmp_path: Path) -> None:
    source = tmp_path / "source"
    trees.many(source, 2_000, size=0)
    with disk(tmp_path, "ext4", 24) as made:
        target = made.path / "volume"
        target.mkdir()
        mirror(source, target)
        with (target / "ballast").open("wb") as ballast, pytest.raises(OSError, match="No space"):
            fill_up(ballast)
        os.truncate(target / "ballast", (target / "ballast").stat().st_size - 16384)
        settled = promote(target)
        assert "No space left" in settled.forgotten
        assert read(target) is None
        assert not (target / ".storagemirror/manifest.new").exists(), "its room is given back"
        with TargetVolume.open(str(target)) as volume:
            marker = volume.marker()
        assert marker is not None
        assert marker.promoted == 2


def test_a_directory_of_more_entries_than_a_frame_holds_comes_in_parts(tmp_path: Path) -> None:
    def parts() -> Iterator[Part]:
        entries = [Entry(b"%07d" % i, stat.S_IFREG | 0o644, 1, 2, 3, 4) for i in range(12_345)]
        yield from manifest.cut(b"d", bytes(16), entries)

    state = os.open(tmp_path, os.O_RDONLY)
    manifest.write(state, manifest.new_header(PAIR, VOLUME, 2, View()), parts())
    found = manifest.find(state, PAIR, VOLUME, 2)
    os.close(state)
    assert found is not None
    read_back = list(found.parts())
    found.close()
    assert [part.last for part in read_back] == [False, False, True]
    assert sum(len(part.entries) for part in read_back) == 12_345


MILLION = """
import os, stat, sys
from storagemirror.entry import Entry, View
from storagemirror.fs import manifest
def parts():
    for d in range(1000):
        entries = [Entry(b"file-%06d" % i, stat.S_IFREG | 0o644, 1, 2, 3, 4) for i in range(1000)]
        yield from manifest.cut(b"directory-%d" % d, bytes(16), entries)
state = os.open(sys.argv[1], os.O_RDONLY)
manifest.write(state, manifest.new_header("p", "v", 2, View()), parts())
found = manifest.find(state, "p", "v", 2)
assert sum(len(part.entries) for part in found.parts()) == 1_000_000
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def test_a_million_entries_are_written_and_read_in_little_memory(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(checkout() / "operator")}
    done = subprocess.run(
        [sys.executable, "-c", MILLION, str(tmp_path)], check=True, capture_output=True, text=True, env=environment
    )
    assert int(done.stdout) < 60_000, "KiB"
    assert (tmp_path / "manifest").stat().st_size < 60_000_000
