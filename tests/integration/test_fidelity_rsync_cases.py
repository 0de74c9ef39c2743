"""The cases of rsync's own test suite that apply to us, written anew. Each tree is mirrored, judged by rsync, and
mirrored again, which sends nothing; then it is changed, and all of that once more."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import expectation, mirror

SIZES = {"ext4": 64, "xfs": 320, "btrfs": 128, "tmpfs": 64}
Change = Callable[[Path], object]


@pytest.fixture(scope="module", params=["ext4 to btrfs", "xfs to xfs"])
def disks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    top = tmp_path_factory.mktemp("rsync")
    with ExitStack() as stack:
        here, there = request.param.split(" to ")
        source = stack.enter_context(disk(top, here, SIZES[here], "source"))
        target = stack.enter_context(disk(top, there, SIZES[there], "target"))
        yield source.path, target.path


@pytest.fixture
def sides(disks: tuple[Path, Path], request: pytest.FixtureRequest) -> tuple[Path, Path]:
    name = request.node.originalname.removeprefix("test_")[:60] + request.node.name[-40:].replace("/", " ")
    for side in disks:
        (side / name).mkdir()
    return disks[0] / name, disks[1] / name


def settled(source: Path, target: Path) -> None:
    """Equal after one mirror, and the next sends nothing."""
    result = mirror(source, target, expectation(max_delete_percent=100))
    assert (result.failed, result.unread, result.not_kept) == (0, 0, ())
    assert trees.rsync_differences(source, target) == ""
    assert trees.differences(source, target) == []
    again = mirror(source, target)
    assert (again.files_sent, again.metadata_sent, again.links_sent, again.deleted) == (0, 0, 0, 0)


# -- one tree, changed in one way


def _tree(root: Path) -> None:
    for name in (
        "dir/subdir/foobar.baz",
        "dir/subdir/subsubdir/etc",
        "dir/text",
        "filelist",
        "nolf",
        "empty dir/.keep",
    ):
        trees.write(root / name, f"content of {name}", mtime_ns=1_600_000_000_000_000_001)
    trees.write(root / "dir/large", random.Random(7).randbytes(600_000))
    os.symlink("text", root / "dir/link")
    os.link(root / "filelist", root / "dir/subdir/second name")


def _touch(root: Path) -> None:
    os.utime(root / "nolf", ns=(0, 1_500_000_000_000_000_009))
    os.utime(root / "dir/subdir", ns=(0, 1_400_000_000_000_000_001))
    os.utime(root / "dir/link", ns=(0, 1_300_000_000_000_000_001), follow_symlinks=False)


def _chmod(root: Path) -> None:
    os.chmod(root / "filelist", 0o4711)
    os.chmod(root / "nolf", 0)
    os.chmod(root / "dir/subdir", 0o2770)
    os.chmod(root / "dir", 0o1777)
    os.chmod(root / "dir/text", 0o755)  # executability


def _chown(root: Path) -> None:
    os.chown(root / "filelist", 5000, 5002)
    os.chown(root / "dir/subdir", 5001, 0)
    os.chown(root / "dir/link", 5003, 5003, follow_symlinks=False)
    os.chmod(root / "nolf", 0o6755)
    os.chown(root / "nolf", 5004, 5004)
    os.chmod(root / "nolf", 0o6755)


def _delete(root: Path) -> None:
    shutil.rmtree(root / "dir/subdir")
    (root / "nolf").unlink()
    (root / "empty dir/.keep").unlink()


def _rename(root: Path) -> None:
    (root / "dir").rename(root / "moved")
    (root / "moved/subdir").rename(root / "up")
    (root / "nolf").rename(root / "moved/nolf")


def _same_size(root: Path) -> None:
    text = (root / "nolf").read_bytes()
    (root / "nolf").write_bytes(text[::-1])
    with (root / "dir/large").open("r+b") as file:
        file.seek(300_000)
        file.write(b"changed here")


def _links(root: Path) -> None:
    os.link(root / "dir/text", root / "third place")
    (root / "dir/subdir/second name").unlink()
    trees.write(root / "dir/subdir/second name", "no longer the same file")
    os.link(root / "dir/large", root / "dir/subdir/large too")


def _symlinks(root: Path) -> None:
    (root / "dir/link").unlink()
    os.symlink("../filelist", root / "dir/link")
    others = {"absolute": "/etc/passwd", "up and out": "../../../..", "empty of sense": "no/such", ".l": "."}
    for name, to in others.items():
        os.symlink(to, root / name)
    os.symlink("x" * 1000, root / "long")


def _tree_anew(root: Path) -> None:
    shutil.rmtree(root / "dir")
    for name in ("filelist", "nolf"):
        (root / name).unlink()
    shutil.rmtree(root / "empty dir")
    _tree(root)


CHANGES: dict[str, Change] = {
    "touched": _touch,
    "chmod": _chmod,
    "chown": _chown,
    "deleted": _delete,
    "renamed": _rename,
    "changed at the same size": _same_size,
    "linked otherwise": _links,
    "symlinks": _symlinks,
    "everything again": _tree_anew,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tree_that_is(sides: tuple[Path, Path], change: str) -> None:
    source, target = sides
    _tree(source)
    settled(source, target)
    CHANGES[change](source)
    settled(source, target)


# -- what rsync's suite asks of special things


def test_hard_links_in_many_places_are_one_file(sides: tuple[Path, Path]) -> None:
    source, target = sides
    for group in range(5):
        trees.write(source / f"{group}/a", f"group {group}", mtime_ns=10**18)
        for number in range(6):
            place = source / f"{(group + number) % 5}" / "deeper"
            place.mkdir(exist_ok=True, parents=True)
            os.link(source / f"{group}/a", place / f"of {group}, {number}")
    os.symlink("a", source / "0/symlink")
    os.link(source / "0/symlink", source / "1/the same symlink", follow_symlinks=False)
    os.mkfifo(source / "0/fifo")
    os.link(source / "0/fifo", source / "2/the same fifo")
    settled(source, target)
    assert (target / "0/a").stat().st_nlink == 7
    assert (target / "0/a").stat().st_ino == (target / "3/deeper/of 0, 3").stat().st_ino
    os.chmod(source / "2/a", 0o600)
    os.setxattr(source / "3/a", "user.of", b"all names")
    (source / "4/a").write_text("other content")
    settled(source, target)


def test_holes_stay_and_grow_and_are_filled(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.sparse(source / "in the middle", 20_000_000, 9_000_000)
    trees.sparse(source / "nothing but a hole", 5_000_000, 0)
    os.truncate(source / "nothing but a hole", 0)
    os.truncate(source / "nothing but a hole", 5_000_000)
    trees.write(source / "zeros", bytes(300_000))
    settled(source, target)
    assert (target / "in the middle").stat().st_blocks * 512 < 1_000_000
    assert (target / "nothing but a hole").stat().st_blocks * 512 < 100_000
    with (source / "in the middle").open("r+b") as file:
        file.seek(15_000_000)
        file.write(b"x" * 100_000)
    os.truncate(source / "nothing but a hole", 9_000_000)
    settled(source, target)
    assert (target / "in the middle").stat().st_blocks * 512 < 2_000_000


def test_devices_become_others(sides: tuple[Path, Path]) -> None:
    source, target = sides
    for name, kind, major, minor in (
        ("char", stat.S_IFCHR, 42, 69),
        ("char 2", stat.S_IFCHR, 42, 70),
        ("large numbers", stat.S_IFCHR, 400, 200_000),
        ("block", stat.S_IFBLK, 42, 69),
        ("null", stat.S_IFCHR, 1, 3),
    ):
        os.mknod(source / name, kind | 0o640, os.makedev(major, minor))
    os.mkfifo(source / "fifo", 0o600)
    os.link(source / "block", source / "the same block")
    settled(source, target)
    (source / "char").unlink()
    os.mknod(source / "char", stat.S_IFBLK | 0o640, os.makedev(42, 69))
    (source / "null").unlink()
    os.mknod(source / "null", stat.S_IFCHR | 0o640, os.makedev(1, 5))
    settled(source, target)


def test_names_may_be_anything(sides: tuple[Path, Path]) -> None:
    source, target = sides
    root = os.fsencode(source)
    every = bytes(byte for byte in range(1, 256) if byte != ord("/"))
    names = [
        every,
        every[::-1],
        b"-rf",
        b" ",
        b"\n",
        b"~",
        b"*",
        b"?",
        b"[a-z]",
        b"\\",
        b"'\"",
        b"...",
        b".\xff",
        b"a\tb",
    ]
    names += ["ünïcödé".encode(), "ünïcödé".encode("latin-1"), b"\xed\xa0\x80", b"x" * 255, b"\xf0\x9f" * 127]
    for name in names:
        trees.write(root + b"/" + name, name)
        trees.write(root + b"/in a directory/" + name + b"/" + name, name[::-1])
    settled(source, target)
    for name in names[::2]:
        os.unlink(root + b"/" + name)
        os.rename(root + b"/in a directory/" + name, root + b"/" + name)
    settled(source, target)


def test_acls_and_default_acls_are_kept_changed_and_removed(sides: tuple[Path, Path]) -> None:
    source, target = sides
    for name in ("shared/file", "shared/inner/file", "plain/file"):
        trees.write(source / name, name)
    subprocess.run(["setfacl", "-m", "u:1:rwx,g:2:r,m:rx", source / "shared/file"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:3:rwx,o::-", source / "shared"], check=True)
    settled(source, target)
    trees.write(source / "shared/inherits", "from its directory")
    (source / "shared/also").mkdir()
    subprocess.run(["setfacl", "-b", source / "shared/file"], check=True)
    subprocess.run(["setfacl", "-m", "u:9:r", source / "plain/file"], check=True)
    settled(source, target)
    subprocess.run(["setfacl", "-k", source / "shared"], check=True)
    trees.write(source / "shared/inherits no more", "x")
    settled(source, target)


@pytest.mark.parametrize(("here", "there"), [("ext4", "xfs"), ("xfs", "ext4")])
def test_acls_go_between_file_systems_that_keep_them_otherwise(tmp_path: Path, here: str, there: str) -> None:
    """XFS shows each ACL a second time, as an attribute trusted.SGI_ACL_*, which rsync takes for one that differs."""
    with disk(tmp_path, here, SIZES[here], "source") as one, disk(tmp_path, there, SIZES[there], "target") as other:
        trees.write(one.path / "shared/file", "f")
        subprocess.run(["setfacl", "-m", "u:1:rwx,d:u:3:rwx", one.path / "shared"], check=True)
        subprocess.run(["setfacl", "-m", "g:2:r", one.path / "shared/file"], check=True)
        assert mirror(one.path, other.path).not_kept == ()
        again = mirror(one.path, other.path)
        assert (again.files_sent, again.metadata_sent, again.not_kept) == (0, 0, ())
        for name in ("shared", "shared/file"):
            seen = [
                subprocess.run(["getfacl", "-cp", side.path / name], check=True, capture_output=True).stdout
                for side in (one, other)
            ]
            assert seen[0] == seen[1] != b""


def test_a_device_whose_numbers_the_target_cannot_hold_is_counted(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    os.mknod(source / "large numbers", stat.S_IFCHR | 0o640, os.makedev(4000, 1_000_000))
    with disk(tmp_path, "xfs", SIZES["xfs"], "target") as target:
        result = mirror(source, target.path)
        assert [(item.kind.value, item.count) for item in result.not_kept] == [("Device", 1)]
        assert result.failed == 0


def test_extended_attributes_are_kept_changed_and_removed(sides: tuple[Path, Path]) -> None:
    source, target = sides
    for name in ("file", "large", "directory/inner"):
        trees.write(source / name, name if name != "large" else b"l" * 500_000)
    os.symlink("file", source / "link")
    os.setxattr(source / "file", "user.empty", b"")
    os.setxattr(source / "file", "user.bytes", bytes(range(256)))
    os.setxattr(source / "large", "user.some", b"v" * 300)
    os.setxattr(source / "directory", "user.of directory", b"1")
    os.setxattr(source / "link", "trusted.of link", b"1", follow_symlinks=False)
    os.setxattr(source / "directory/inner", "security.ima.like", b"s")
    os.link(source / "file", source / "directory/the same")
    settled(source, target)
    os.removexattr(source / "file", "user.bytes")
    os.setxattr(source / "file", "user.new", b"n")
    os.setxattr(source / "large", "user.some", b"w" * 300)
    os.removexattr(source / "directory", "user.of directory")
    os.removexattr(source / "link", "trusted.of link", follow_symlinks=False)
    settled(source, target)


def test_a_directory_without_permission_is_kept_with_what_is_in_it(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.write(source / "closed/deeper/file", "f")
    os.chmod(source / "closed/deeper", 0)
    os.chmod(source / "closed", 0o500)
    settled(source, target)
    os.chmod(source / "closed/deeper", 0o700)
    trees.write(source / "closed/deeper/new", "n")
    os.chmod(source / "closed/deeper", 0)
    settled(source, target)


def test_a_long_way_down(sides: tuple[Path, Path]) -> None:
    source, target = sides
    deep = source / Path(*(["This-is-a-directory-with-a-stupidly-long-name-created-to-test-rsync-like-tools"] * 40))
    deep.mkdir(parents=True)
    trees.write(deep / "down here", "d")
    os.link(deep / "down here", source / "up here")
    settled(source, target)
    (deep / "down here").unlink()
    settled(source, target)


def test_what_is_of_the_file_system_or_of_another_one_is_left_alone(sides: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = sides
    trees.write(source / "lost+found/#123", "the file system's")
    trees.write(source / "deeper/lost+found/mine", "a name like any other there")
    trees.write(target / "lost+found/#9", "the target's")
    (source / "mounted").mkdir()
    with disk(source, "tmpfs", 1, "mounted inside") as inner:
        trees.write(inner.path / "foreign", "f")
        result = mirror(source, target, expectation(max_delete_percent=100))
        assert [(item.kind.value, item.first) for item in result.not_kept] == [
            ("OtherFileSystem", (b"mounted inside",))
        ]
        assert not (target / "lost+found/#123").exists()
        assert (target / "lost+found/#9").exists()
        assert (target / "deeper/lost+found/mine").exists()
        assert not (target / "mounted inside/foreign").exists()


def test_a_change_of_nothing_but_the_change_time_sends_nothing(sides: tuple[Path, Path]) -> None:
    source, target = sides
    trees.many(source, 30)
    settled(source, target)
    for path in source.rglob("*"):
        os.chmod(path, path.stat().st_mode & 0o7777)
        os.chown(path, 0, 0)
    settled(source, target)
    result = mirror(source, target)
    assert (result.files_sent, result.metadata_sent) == (0, 0)
