"""A target that takes points: whatever is done to the source between two, the tree is the source's at the point."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import msgspec
import pytest

from storagemirror.fs.inodeflags import IMMUTABLE
from storagemirror.fs.journal.journal import Promotable
from storagemirror.fs.journal.refusal import NotTaken
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR, Name, Names, Object, ObjectId, RecordKind, encode
from tests.support.disks import disk
from tests.support.points import Look, Told, Tree, copy, difference, equal, look, take
from tests.support.trees import picture


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_after_each_point_the_tree_is_the_sources(tmp_path: Path, kind: str) -> None:
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    rnd = random.Random(seed)
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 400, "target") as target:
        tree = Tree(source.path, rnd)
        tree.grow(60)
        copy(source.path, target.path)
        before: Look = look(source.path)
        with TargetVolume.open(str(target.path)) as volume:
            volume.claim()
            for number in range(1, 12):
                tree.grow(rnd.choice((0, 1, 5, 40)))
                now = look(source.path)
                take(volume.journal, difference(before, now, rnd), number, MIRROR if number == 1 else None)
                assert equal(source.path, target.path) == "", f"seed {seed}, point {number}"
                assert volume.journal.promotable() == Promotable(number, number * 1_000_000_000)
                before = now
            for place in ("obj", "stage", "gone"):
                assert os.listdir(target.path / ".storagemirror/journal" / place) == []


def _object(now: Look, path: bytes, size: int, was: bytes | None) -> Told:
    told = Object(now.ids[path], was, now.attributes[now.ids[path]], size)
    return RecordKind.OBJECT, encode(told), told


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    return source, target


def test_a_size_that_a_file_had_in_between_takes_nothing_away(pair: tuple[Path, Path]) -> None:
    """It was cut when a live pass told of it, and is as it was by the freeze."""
    source, target = pair
    (source / "file").write_bytes(b"x" * 10_000)
    copy(source, target)
    now = look(source)
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        records = [_object(now, b"file", size, b"file") for size in (40, 10_000)]
        take(volume.journal, records, 1, MIRROR)
        assert equal(source, target) == ""
        os.truncate(source / "file", 40)
        now = look(source)
        take(volume.journal, [_object(now, b"file", size, b"file") for size in (10_000, 7, 40)], 2)
        assert equal(source, target) == ""


def test_two_files_of_the_source_that_are_one_on_the_target_refuse_the_point(pair: tuple[Path, Path]) -> None:
    source, target = pair
    (source / "a").write_bytes(b"a")
    (source / "b").write_bytes(b"b")
    (target / "a").write_bytes(b"a")
    os.link(target / "a", target / "b")
    now = look(source)
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        with pytest.raises(NotTaken, match="one on the target"):
            take(volume.journal, [_object(now, name, 1, name) for name in (b"a", b"b")], 1, MIRROR)
        volume.journal.drop()
    assert (target / "b").read_bytes() == b"a"


def test_what_cannot_be_a_tree_is_refused_before_anything_is_done(pair: tuple[Path, Path]) -> None:
    """Of a source that errs, or lies: nothing that was committed may fail for what it says."""
    source, target = pair
    (source / "d/e").mkdir(parents=True)
    (source / "f").write_bytes(b"f")
    copy(source, target)
    before, now = picture(target), look(source)
    d, e = now.ids[b"d"], now.ids[b"d/e"]

    def directory(path: bytes, was: bytes | None, names: list[Name], *, moves: bool = False) -> list[Told]:
        told = Object(now.ids[path], was, now.attributes[now.ids[path]], moves=moves)
        listed = Names(names)
        return [(RecordKind.OBJECT, encode(told), told), (RecordKind.NAMES, encode(listed), listed)]

    kept = [Name(b"d", d, True), Name(b"f", now.ids[b"f"], True)]
    wrong: list[list[Told]] = [
        directory(b"", b"", [*kept, Name(b"x", ObjectId(99, 9))]),  # nobody told of it
        directory(b"", b"", [*kept, Name(b"x", ObjectId(99, 9), True)]),  # not there
        directory(b"", b"", [*kept, Name(b"x", e)]),  # it does not move
        directory(b"d/e", b"d/e", [Name(b"d", d)])
        + directory(b"d", b"d", [Name(b"e", e, True)], moves=True),  # a circle
        directory(b"d", b"d", [], moves=True),  # not told where to
        directory(b"d/e", b"gone", []),
        directory(b"d", b"f", []),
        directory(b"d/e", b"d/e", [], moves=True) + directory(b"", b"", [*kept, Name(b"x", e), Name(b"y", e)]),
        directory(b"d/e", b"d/e", [], moves=True) + directory(b"d", b"d/e", [], moves=True),
    ]
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        for records in wrong:
            with pytest.raises(NotTaken):
                take(volume.journal, records, 1, MIRROR)
            volume.journal.drop()
            assert picture(target) == before
        take(volume.journal, directory(b"", b"", kept), 2, MIRROR)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_what_locks_files_is_in_nobodys_way_and_as_the_source_has_it(tmp_path: Path, kind: str) -> None:
    with disk(tmp_path, kind, 400, "source") as source, disk(tmp_path, kind, 400, "target") as target:
        for name in ("locked", "moved", "dir/inside", "stays"):
            (source.path / name).parent.mkdir(exist_ok=True)
            (source.path / name).write_bytes(b"old")
        copy(source.path, target.path)
        before = look(source.path)
        for name in ("locked", "moved", "dir"):
            subprocess.run(["chattr", "+i", str(target.path / name)], check=True)
        os.rename(source.path / "moved", source.path / "elsewhere")
        (source.path / "locked").write_bytes(b"new")
        os.unlink(source.path / "dir/inside")
        flags = {before.ids[b"moved"]: IMMUTABLE, before.ids[b"locked"]: IMMUTABLE, before.ids[b"dir"]: IMMUTABLE}
        records = [_flagged(record, flags) for record in difference(before, look(source.path))]
        with TargetVolume.open(str(target.path)) as volume:
            volume.claim()
            take(volume.journal, records, 1, MIRROR)
        try:
            assert equal(source.path, target.path) == ""
            for name in ("locked", "elsewhere", "dir"):
                listed = subprocess.run(["lsattr", "-d", str(target.path / name)], capture_output=True, check=True)
                assert b"i" in listed.stdout.split()[0], name
        finally:
            for name in ("locked", "elsewhere", "dir"):
                subprocess.run(["chattr", "-i", str(target.path / name)], check=True)


def _flagged(record: Told, flags: dict[ObjectId, int]) -> Told:
    told = record[2]
    if not isinstance(told, Object):
        return record
    told = msgspec.structs.replace(told, flags=flags.get(told.id, 0))
    return RecordKind.OBJECT, encode(told), told
