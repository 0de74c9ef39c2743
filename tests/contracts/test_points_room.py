"""Points and room: on the disk, in memory, and a disk that fails."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from storagemirror.errors import VolumeError, VolumeFull
from storagemirror.fs.journal.journal import NotPromotable, Promotable
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR, End, Object, PointDigest, RecordKind, encode
from tests.support.disks import disk
from tests.support.points import commit, copy, difference, equal, look, take
from tests.support.trees import picture

MIB = 1 << 20


def _fill(directory: Path) -> Path:
    """All that is left of the file system."""
    path = directory / ".storagemirror/filler"
    with open(path, "wb", buffering=0) as file:
        for size in (MIB, 4096):
            with pytest.raises(OSError, match="No space left"):
                _write_on(file.fileno(), size)
    return path


def _write_on(fd: int, size: int) -> None:
    while True:
        os.write(fd, bytes(size))
        if size == 4096:
            os.fsync(fd)


def _sparse_source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "sparse", "wb") as file:
        file.truncate(20 * MIB)
    return source


@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
def test_what_was_committed_has_its_room_whoever_fills_the_disk(tmp_path: Path, kind: str) -> None:
    """Without it the holes of a file could not be filled any more, with half of the point applied."""
    source = _sparse_source(tmp_path)
    with disk(tmp_path, kind, 320 if kind == "xfs" else 64) as made:
        copy(source, made.path)
        before = look(source)
        with open(source / "sparse", "r+b") as file:
            file.write(os.urandom(8 * MIB))
        for number in range(200):
            (source / f"a new name that takes room in its directory {number}").write_bytes(b"x")
        with TargetVolume.open(str(made.path)) as volume:
            volume.claim()
            promised = commit(volume.journal, difference(before, look(source)), 1, MIRROR)
            _fill(made.path)
            volume.journal.apply(promised)
            assert volume.promotable() == Promotable(1, 1_000_000_000)
        assert equal(source, made.path) == ""


def test_full_after_the_commit_is_no_point_until_there_is_room(tmp_path: Path) -> None:
    source = _sparse_source(tmp_path)
    with disk(tmp_path, "ext4", 64) as made:
        copy(source, made.path)
        before = look(source)
        with open(source / "sparse", "r+b") as file:
            file.write(os.urandom(8 * MIB))
        with TargetVolume.open(str(made.path)) as volume:
            volume.claim()
            promised = commit(volume.journal, difference(before, look(source)), 1, MIRROR)
            (made.path / ".storagemirror/journal/ballast").unlink()  # an estimate that was wrong
            filler = _fill(made.path)
            with pytest.raises(VolumeFull):
                volume.journal.apply(promised)
            for _ in range(2):
                at = volume.promotable()
                assert isinstance(at, NotPromotable)
                assert at.reason == "BetweenPoints"
                with pytest.raises(VolumeFull):
                    volume.claim()
        with TargetVolume.open(str(made.path)) as another, pytest.raises(VolumeFull):
            another.claim()
        filler.unlink()
        with TargetVolume.open(str(made.path)) as volume:
            assert isinstance(volume.promotable(), NotPromotable), "known before it is claimed"
            volume.claim()
            assert volume.promotable() == Promotable(1, 1_000_000_000)
        assert equal(source, made.path) == ""


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_a_point_that_has_no_room_is_refused_whole(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"old")
    with disk(tmp_path, kind, 128 if kind == "btrfs" else 40) as made:
        copy(source, made.path)
        first, before = look(source), picture(made.path)
        (source / "file").write_bytes(b"new")
        (source / "large").write_bytes(os.urandom((90 if kind == "btrfs" else 24) * MIB))
        with TargetVolume.open(str(made.path)) as volume:
            volume.claim()
            take(volume.journal, [], 1, MIRROR)
            with pytest.raises(VolumeFull):
                take(volume.journal, difference(first, look(source)), 2)
            volume.journal.drop()
            assert picture(made.path) == before
            assert volume.promotable() == Promotable(1, 1_000_000_000)
            (source / "large").write_bytes(b"small by now")
            take(volume.journal, difference(first, look(source)), 3)
        assert equal(source, made.path) == ""


def test_no_inodes_refuse_a_point_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with disk(tmp_path, "ext4", 40, "disk", "-N", "64") as made:
        copy(source, made.path)
        first, before = look(source), picture(made.path)
        for number in range(100):
            (source / f"{number}").touch()
        with TargetVolume.open(str(made.path)) as volume:
            volume.claim()
            with pytest.raises(VolumeFull):
                take(volume.journal, difference(first, look(source)), 1, MIRROR)
            volume.journal.drop()
            assert picture(made.path) == before


def test_a_sync_that_fails_leaves_no_point_until_the_next_mirror(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").write_bytes(b"old")
    copy(source, target)
    before = look(source)
    (source / "file").write_bytes(b"new")

    def fail() -> None:
        raise OSError(errno.EIO, "the disk failed")

    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        take(volume.journal, [], 1, MIRROR)
        promised = commit(volume.journal, difference(before, look(source)), 2)
        volume.journal.sync = fail
        with pytest.raises(VolumeError, match="the disk failed"):
            volume.journal.apply(promised)
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        assert equal(source, target) == "", "it was written again"
        at = volume.promotable()
        assert isinstance(at, NotPromotable)
        assert at.reason == "SyncFailed"
        take(volume.journal, [], 3, MIRROR)
        assert volume.promotable() == Promotable(3, 3_000_000_000)


def test_a_point_larger_than_memory_needs_no_more_of_it(tmp_path: Path) -> None:
    """160 MiB in one file, and 3,000 files."""
    volume_path = tmp_path / "target"
    volume_path.mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_bytes(b"")
    for number in range(3_000):
        (tmp_path / f"source/{number}").touch()
    now = look(tmp_path / "source")
    records = difference(None, now)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _take_large(volume_path, records, now.ids[b"file"])
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (volume_path / "file").stat().st_size == 160 * MIB


def _take_large(target: Path, records: list[tuple[RecordKind, bytes, object]], file: object) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    digest, piece = PointDigest(MIRROR), os.urandom(MIB)
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        incoming = volume.journal.begin(1, 1, MIRROR)
        for kind, payload, told in records:
            if isinstance(told, Object) and told.id == file:
                told = Object(told.id, None, told.attributes, 160 * MIB)  # noqa: PLW2901
                payload = encode(told)  # noqa: PLW2901
            digest.add(kind, payload)
            if isinstance(told, Object):
                incoming.object(payload, told)
            else:
                incoming.names(payload, told)  # type: ignore[arg-type]
            if isinstance(told, Object) and told.id == file:
                for number in range(160):
                    incoming.content(number * MIB, memoryview(piece))
                    digest.add(RecordKind.CONTENT, (number * MIB).to_bytes(8, "little"), piece)
        end = End(1, digest.records, digest.digest(), MIRROR, 1)
        volume.journal.apply(volume.journal.commit(end, lambda gone, new: None))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"grown by {grown} KiB")
    return 0 if grown < 32 << 10 else 2
