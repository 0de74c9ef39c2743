"""What a source and a target volume promise, on each kind of file system."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.entry import Attributes, NotKeptKind, View
from storagemirror.errors import BadInput, VolumeError, VolumeFull
from storagemirror.fs.marker import HoldRecord, Marker, Synced, read_synced, write_synced
from storagemirror.fs.scan import Scanner
from storagemirror.fs.source import SourceVolume, data_extents
from storagemirror.fs.target import TargetVolume
from storagemirror.fs.tree import Tree
from tests.support import trees
from tests.support.disks import KINDS, Disk, disk

FILE = Attributes(stat.S_IFREG | 0o640, 11, 12, 1_000_000_000_123_456_789, {b"user.a": b"1"})


@pytest.fixture(scope="module", params=KINDS)
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    sizes = {"ext4": 64, "xfs": 320, "btrfs": 128, "tmpfs": 64}
    with disk(tmp_path_factory.mktemp("fs"), request.param, sizes[request.param]) as made:
        yield made


@pytest.fixture
def place(mounted: Disk, request: pytest.FixtureRequest) -> Path:
    path = mounted.path / str(abs(hash(request.node.name)))
    path.mkdir()
    return path


@pytest.fixture
def volume(place: Path) -> Iterator[TargetVolume]:
    with TargetVolume.open(str(place)) as opened:
        opened.claim()
        yield opened


@pytest.fixture(params=[True, False], ids=["openat2", "by names"])
def tree(place: Path, request: pytest.FixtureRequest) -> Iterator[Tree]:
    opened = Tree(str(place), use_openat2=request.param)
    yield opened
    opened.close()


# -- paths


def test_a_path_of_any_length_is_opened(place: Path, tree: Tree) -> None:
    trees.deep(place)
    fd = tree.open_directory(b"/".join([b"p" * 200] * 30))
    assert os.listdir(fd) == ["deep"]
    os.close(fd)


def test_no_path_leads_out(place: Path, tree: Tree, tmp_path: Path) -> None:
    (place / "inside").mkdir()
    os.symlink(tmp_path, place / "link")
    os.symlink("inside", place / "inner link")
    os.symlink("/", place / "inside/root")
    for path in (b"link", b"inner link", b"inside/root", b"link/x"):
        with pytest.raises(OSError, match=r"symbolic|directory"):
            tree.open_directory(path)
    for path in (b"..", b"/", b"inside/../..", b".storagemirror"):
        with pytest.raises(BadInput):
            tree.open_directory(path)
    assert tree.lstat(b"link/anything") is None


def test_another_mount_is_not_entered(place: Path, tree: Tree) -> None:
    with disk(place, "tmpfs", 1, "mounted inside") as inner:
        trees.write(inner.path / "foreign", "x")
        with pytest.raises(OSError, match="cross-device"):
            tree.open_directory(b"mounted inside")
        seen: list[tuple[NotKeptKind, bytes]] = []
        found = Scanner(tree, View(), lambda kind, path: seen.append((kind, path))).scan(b"")
        assert found.entries == []
        assert seen == [(NotKeptKind.OTHER_FILE_SYSTEM, b"mounted inside")]


# -- identity


def test_a_volume_is_the_same_after_it_was_mounted_again_on_another_device(tmp_path: Path) -> None:
    for kind in ("ext4", "xfs"):
        with disk(tmp_path, kind, 320, kind) as made, disk(tmp_path, kind, 320, f"other {kind}") as other:
            with SourceVolume.open(str(made.path)) as source:
                before = source.identity
            made.mount_again()
            with SourceVolume.open(str(made.path)) as source, SourceVolume.open(str(other.path)) as another:
                assert source.identity == before
                assert not source.identity.same_as(another.identity)


def test_a_directory_made_again_is_another_volume(place: Path) -> None:
    (place / "v").mkdir()
    with SourceVolume.open(str(place / "v")) as source:
        before = source.identity
    (place / "v").rmdir()
    (place / "other").mkdir()
    (place / "v").mkdir()
    with SourceVolume.open(str(place / "v")) as source:
        assert not source.identity.same_as(before)
        assert source.facts().fs_type in KINDS


# -- the source is only read


def test_a_source_changes_nothing_not_even_times_of_access(place: Path) -> None:
    trees.many(place, 20)
    files = [path for path in place.rglob("*") if path.is_file()]
    for path in files:
        os.utime(path, ns=(5, path.stat().st_mtime_ns))
    before = {path: (os.stat(path).st_mtime_ns, os.stat(path).st_atime_ns) for path in files}
    with SourceVolume.open(str(place)) as source, source.directory(b"", View(), lambda kind, path: None) as directory:
        scanner = source.scanner(View(), lambda kind, path: None)
        scanner.scan(b"")
        for name, is_file, _ in directory.names():
            if is_file:
                fd, found = directory.open_file(name)
                content = directory.read_small(fd, found, name)
                assert content.steady
                os.close(fd)
    assert {path: (os.stat(path).st_mtime_ns, os.stat(path).st_atime_ns) for path in files} == before
    assert not (place / ".storagemirror").exists()


def test_equal_directories_have_equal_digests_and_others_have_not(place: Path) -> None:
    for name in ("here", "there"):
        trees.everything(place / name)
    view = View()

    def digest(name: str) -> bytes:
        with SourceVolume.open(str(place / name)) as source:
            return source.scanner(view, lambda kind, path: None).scan(b"a/b").digest

    os.utime(place / "there/a/b", ns=(0, os.stat(place / "here/a/b").st_mtime_ns))
    os.utime(place / "there/a/b/relative", ns=(0, 5), follow_symlinks=False)
    os.utime(place / "here/a/b/relative", ns=(0, 5), follow_symlinks=False)
    assert digest("here") == digest("there")
    os.setxattr(place / "there/a/b/two", "user.comment", b"another")
    assert digest("here") != digest("there")


def test_holes_are_found(place: Path) -> None:
    trees.sparse(place / "sparse", 10_000_000, 5_000_000)
    trees.write(place / "full", b"x" * 100_000)
    fd = os.open(place / "sparse", os.O_RDONLY)
    extents = data_extents(fd, 10_000_000)
    os.close(fd)
    assert len(extents) == 1
    begin, end = extents[0]
    assert begin <= 5_000_000 < 5_000_013 <= end
    assert end - begin < 200_000
    fd = os.open(place / "full", os.O_RDONLY)
    assert data_extents(fd, 100_000) == [(0, 100_000)]
    os.close(fd)


# -- the target


def test_what_a_target_can_hold_is_found_out(volume: TargetVolume, mounted: Disk) -> None:
    view = volume.view
    assert (view.owner, view.devices, view.acls, view.capabilities, view.trusted_xattrs) == (True,) * 5
    assert view.time_grain_ns == 1
    assert os.listdir(os.path.join(os.fsdecode(volume.tree.path), ".storagemirror/tmp")) == []


def test_a_file_has_its_name_only_when_it_is_whole(volume: TargetVolume, place: Path) -> None:
    trees.write(place / "big", "old")
    incoming = volume.begin(b"big", FILE)
    incoming.write(0, memoryview(b"new content"))
    assert (place / "big").read_text() == "old"
    volume.finish(incoming, 11)
    assert (place / "big").read_text() == "new content"
    found = (place / "big").stat()
    assert (found.st_mode, found.st_uid, found.st_gid) == (FILE.mode, 11, 12)
    assert found.st_mtime_ns == FILE.mtime_ns
    assert os.getxattr(place / "big", "user.a") == b"1"
    dropped = volume.begin(b"other", FILE)
    dropped.write(0, memoryview(b"x"))
    dropped.drop()
    assert not (place / "other").exists()
    assert os.listdir(place / ".storagemirror/tmp") == []


def test_a_replaced_file_is_another_inode(volume: TargetVolume, place: Path) -> None:
    trees.write(place / "file", "old")
    os.link(place / "file", place / "link")
    fd = volume.directory(b"")
    volume.placer.file(fd, b"", b"file", FILE, memoryview(b"new"))
    os.close(fd)
    assert (place / "link").read_text() == "old"
    assert (place / "file").read_text() == "new"


def test_a_directory_is_never_replaced_by_the_way(volume: TargetVolume, place: Path) -> None:
    trees.write(place / "d/inner", "x")
    fd = volume.directory(b"")
    with pytest.raises(IsADirectoryError):
        volume.placer.file(fd, b"", b"d", FILE, memoryview(b"new"))
    os.close(fd)
    assert (place / "d/inner").exists()
    assert os.listdir(place / ".storagemirror/tmp") == []


def test_a_tree_is_counted_and_deleted_however_deep(volume: TargetVolume, place: Path, tmp_path: Path) -> None:
    (place / "tree").mkdir()
    trees.deep(place / "tree")
    trees.write(tmp_path / "outside", "stays")
    os.symlink(tmp_path, place / "tree/link")
    assert volume.count(b"tree", lambda path: False) == 33
    assert volume.count(b"tree", lambda path: path == b"tree/link") == 32
    assert volume.delete(b"tree") == 33
    assert not (place / "tree").exists()
    assert (tmp_path / "outside").exists()
    assert volume.delete(b"tree") == 0
    assert volume.delete(b"not/there") == 0


def test_a_symlink_on_the_way_is_not_written_through(volume: TargetVolume, place: Path, tmp_path: Path) -> None:
    os.symlink(tmp_path, place / "link")
    for change in (
        lambda: volume.enter(b"link/x"),
        lambda: volume.finish(volume.begin(b"link/x", FILE), 0),
        lambda: volume.link(b"link/x", b"link"),
        lambda: volume.rename(b"link", b"link/x"),
    ):
        with pytest.raises(OSError, match=r"symbolic|directory"):
            change()
    assert os.listdir(tmp_path) == []


def test_what_a_killed_session_left_is_cleared(place: Path) -> None:
    trees.write(place / ".storagemirror/tmp/7", "left over")
    with TargetVolume.open(str(place)) as volume:
        volume.claim()
        assert os.listdir(place / ".storagemirror/tmp") == []


def test_one_process_at_a_time(volume: TargetVolume, place: Path) -> None:
    with TargetVolume.open(str(place)) as second, pytest.raises(VolumeError) as busy:
        second.claim()
    assert busy.value.reason == "TargetBusy"


@pytest.mark.parametrize("what", ["file", "symlink"])
def test_a_storagemirror_that_is_not_ours_stops_us(place: Path, tmp_path: Path, what: str) -> None:
    if what == "file":
        trees.write(place / ".storagemirror", "x")
    else:
        os.symlink(tmp_path, place / ".storagemirror")
    with TargetVolume.open(str(place)) as volume, pytest.raises(VolumeError) as unusable:
        volume.claim()
    assert unusable.value.reason == "TargetUnusable"


def test_claiming_leaves_no_trace_on_the_root(place: Path) -> None:
    os.utime(place, ns=(0, 12345))
    with TargetVolume.open(str(place)) as volume:
        assert volume.marker() is None
        assert volume.is_empty()
        volume.claim()
        assert volume.is_empty()
    assert place.stat().st_mtime_ns == 12345


def test_what_it_says_about_itself_survives(volume: TargetVolume) -> None:
    marker = Marker(pair_uid="u", volume="data", epoch=3, source=volume.identity, entries=7)
    volume.write_marker(marker)
    assert volume.marker() == marker
    hold = HoldRecord("token", "MassDelete", 5, [1, 2])
    volume.write_hold(hold)
    assert volume.hold() == hold
    volume.write_hold(None)
    assert volume.hold() is None
    volume.sync(5, 2)
    volume.sync(6, 3)
    synced = volume.synced()
    assert synced is not None
    assert (synced.sequence, synced.through_ns, synced.deleted) == (2, 6, 3)


def test_a_torn_slot_is_not_believed(place: Path) -> None:
    fd = os.open(place, os.O_RDONLY)
    for sequence in (1, 2, 3):
        write_synced(fd, Synced(sequence, sequence * 10, 0))
    raw = bytearray((place / "synced").read_bytes())
    raw[512 + 13] ^= 1
    (place / "synced").write_bytes(raw)
    found = read_synced(fd)
    os.close(fd)
    assert found is not None
    assert found.sequence == 2


def test_a_full_volume_says_so_and_keeps_nothing_half(mounted: Disk, volume: TargetVolume, place: Path) -> None:
    incoming = volume.begin(b"too big", FILE)
    chunk = memoryview(os.urandom(1 << 20))

    def fill() -> None:
        for at in range(400):
            incoming.write(at << 20, chunk)

    with pytest.raises(VolumeFull):
        fill()
    incoming.drop()
    assert not (place / "too big").exists()
    assert os.listdir(place / ".storagemirror/tmp") == []
    trees.write(place / "small", "there is room again")


def test_a_read_only_volume_says_so(tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 16) as made:
        made.remount("ro")
        with TargetVolume.open(str(made.path)) as volume, pytest.raises(VolumeError) as refused:
            volume.claim()
        assert refused.value.reason == "TargetNotWritable"


def test_what_is_no_directory_is_no_volume(tmp_path: Path) -> None:
    trees.write(tmp_path / "file", "x")
    for path in (tmp_path / "file", tmp_path / "nothing"):
        with pytest.raises(VolumeError):
            SourceVolume.open(str(path))
        with pytest.raises(VolumeError):
            TargetVolume.open(str(path))
