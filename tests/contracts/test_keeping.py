"""What the old side wrote after it was cut off is kept as it was, on each kind of file system; and nothing else is."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import trees
from tests.support.disks import KINDS, Disk, disk
from tests.support.homecoming import Sides, parted

ODD = b"n\xff\xfe"


@pytest.fixture(scope="module", params=KINDS)
def mounted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    with disk(tmp_path_factory.mktemp("fs"), request.param, 512) as made:
        yield made


@pytest.fixture
def place(mounted: Disk, request: pytest.FixtureRequest) -> Iterator[Path]:
    path = mounted.path / str(abs(hash(request.node.name)))
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def sides(place: Path) -> Sides:
    """One of each thing a volume can hold, and a path beyond PATH_MAX."""
    home = place / "home"
    home.mkdir()
    trees.everything(home)
    trees.deep(home)
    return parted(place)


def test_of_equal_volumes_nothing_is_kept_and_nothing_moves(sides: Sides) -> None:
    before = trees.picture(sides.home)
    record = sides.keep()
    assert (record.known, record.entries, record.bytes, record.deleted, record.first) == (True, 0, 0, 0, ())
    assert trees.picture(sides.home) == before
    assert not sides.aside.exists()


def overwrite(home: Path) -> None:
    (home / "a/b/two").write_text("another text")


def only_time(home: Path) -> None:
    os.utime(home / "edge", ns=(5, 5))


def only_mode(home: Path) -> None:
    os.chmod(home / "edge", 0o4711)


def only_owner(home: Path) -> None:
    os.chown(home / "edge", 4, 5)


def only_xattr(home: Path) -> None:
    os.setxattr(home / "a/b/two", "trusted.after", b"the cut")


def only_acl(home: Path) -> None:
    os.removexattr(home / "a/b/two", "system.posix_acl_access")


def new_file(home: Path) -> None:
    trees.write(home / "a/b/new", "new")


def new_file_at_root(home: Path) -> None:
    trees.write(home / "zzz", "new")


def new_directory(home: Path) -> None:
    trees.write(home / "e/new/one/file", "one")
    trees.write(home / "e/new/two", "two")
    os.symlink("one", home / "e/new/link")
    os.chmod(home / "e/new", 0o700)
    os.utime(home / "e/new", ns=(9, 9))


def file_became_directory(home: Path) -> None:
    (home / "edge").unlink()
    trees.write(home / "edge/inner", "x")


def directory_became_file(home: Path) -> None:
    (home / "d/same file").unlink()
    (home / "d/capable").unlink()
    (home / "d").rmdir()
    (home / "d").write_text("a file by now")


def link_leads_elsewhere(home: Path) -> None:
    (home / "dangling").unlink()
    os.symlink("somewhere", home / "dangling")


def file_became_link(home: Path) -> None:
    (home / "edge").unlink()
    os.symlink("/etc/passwd", home / "edge")


def link_became_file(home: Path) -> None:
    (home / "absolute").unlink()
    (home / "absolute").write_text("no link")


def another_device(home: Path) -> None:
    (home / "null").unlink()
    os.mknod(home / "null", stat.S_IFCHR | 0o666, os.makedev(1, 5))


def new_fifo(home: Path) -> None:
    os.mkfifo(home / "a/pipe")


def odd_name(home: Path) -> None:
    trees.write(os.fsencode(home) + b"/" + ODD + b"/\xe9\xe9", "odd")


def sparse_file(home: Path) -> None:
    trees.sparse(home / "sparse", 20_000_000, 7_000_000)


def deep_file(home: Path) -> None:
    fd = os.open(home, os.O_RDONLY)
    for _ in range(30):
        deeper = os.open("p" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    file = os.open("deep", os.O_WRONLY | os.O_TRUNC, dir_fd=fd)
    os.write(file, b"changed down here")
    os.close(file)
    os.close(fd)


def everything_with_one_inode(home: Path) -> None:
    os.chmod(home / "a/one", 0o600)


def file_deleted(home: Path) -> None:
    (home / "big").unlink()


def directory_deleted(home: Path) -> None:
    for name in ("a/b/c/same file too", "a/b/relative", "a/b/two"):
        (home / name).unlink()
    (home / "a/b/c").rmdir()
    (home / "a/b").rmdir()


def renamed(home: Path) -> None:
    (home / "a/b").rename(home / "a/other")


DEVIATIONS: list[tuple[Callable[[Path], None], list[bytes], int]] = [
    (overwrite, [b"a/b/two"], 0),
    (only_time, [b"edge"], 0),
    (only_mode, [b"edge"], 0),
    (only_owner, [b"edge"], 0),
    (only_xattr, [b"a/b/two"], 0),
    (only_acl, [b"a/b/two"], 0),
    (new_file, [b"a/b/new"], 0),
    (new_file_at_root, [b"zzz"], 0),
    (new_directory, [b"e/new", b"e/new/link", b"e/new/one", b"e/new/two", b"e/new/one/file"], 0),
    (file_became_directory, [b"edge", b"edge/inner"], 0),
    (directory_became_file, [b"d"], 2),
    (link_leads_elsewhere, [b"dangling"], 0),
    (file_became_link, [b"edge"], 0),
    (link_became_file, [b"absolute"], 0),
    (another_device, [b"null"], 0),
    (new_fifo, [b"a/pipe"], 0),
    (odd_name, [ODD + b"/\xe9\xe9"], 0),
    (sparse_file, [b"sparse"], 0),
    (deep_file, [b"/".join([b"p" * 200] * 30) + b"/deep"], 0),
    (everything_with_one_inode, [b"a/b/c/same file too", b"a/one", b"d/same file"], 0),
    (file_deleted, [], 1),
    (directory_deleted, [], 5),
    (renamed, [b"a/other", b"a/other/c", b"a/other/relative", b"a/other/two", b"a/other/c/same file too"], 5),
]


@pytest.mark.parametrize(("change", "kept", "deleted"), DEVIATIONS, ids=[d[0].__name__ for d in DEVIATIONS])
def test_a_deviation_is_kept_as_it_was(
    sides: Sides, change: Callable[[Path], None], kept: list[bytes], deleted: int
) -> None:
    change(sides.home)
    before = trees.picture(sides.home)
    record = sides.keep()
    assert (record.entries, record.deleted) == (len(kept), deleted)
    aside = trees.picture(sides.aside) if kept else {}
    for path in kept:
        # Which path of a file with several names comes first is another in a part of the tree.
        assert (aside[path][:7], aside[path][8]) == (before[path][:7], before[path][8])
    after = trees.picture(sides.home)
    assert set(after) == set(before) - set(kept)
    assert record.bytes == sum(int(str(v[4])) for v in {aside[p][6:7]: aside[p] for p in kept}.values())
    again = sides.restore()
    assert again == record
    assert sides.differences() == []
    assert (trees.picture(sides.aside) if kept else {}) == aside


def test_parents_of_what_is_kept_have_the_attributes_of_those_they_stand_for_and_do_not_count(sides: Sides) -> None:
    trees.write(sides.home / "e/f/new", "x")
    assert sides.keep().entries == 1
    there, here = trees.picture(sides.aside), trees.picture(sides.home)
    for path in (b"e", b"e/f"):
        assert there[path][:3] == here[path][:3]
    assert set(here[b"e"][8]) < set(there[b"e"][8]), "and our mark"  # type: ignore[call-overload]


@pytest.mark.parametrize("what", ["mode", "owner", "xattr"])
def test_of_a_directory_that_alone_was_changed_an_empty_one_is_kept(sides: Sides, what: str) -> None:
    at = sides.home / "a/b"
    {
        "mode": lambda: os.chmod(at, 0o2701),
        "owner": lambda: os.chown(at, 9, 9),
        "xattr": lambda: os.setxattr(at, "user.directory", b"2"),
    }[what]()
    wanted = trees.picture(sides.home)[b"a/b"]
    record = sides.restore()
    assert (record.entries, record.first) == (1, ("a/b",))
    found = trees.picture(sides.aside)[b"a/b"]
    assert found[:3] == wanted[:3]
    assert set(wanted[8]) <= set(found[8])  # type: ignore[call-overload]
    assert os.listdir(sides.aside / "a/b") == []
    assert sides.differences() == []


def test_a_new_name_of_a_file_keeps_what_it_showed_whatever_is_written_through_the_one_that_stayed(
    sides: Sides,
) -> None:
    home = sides.home
    for i in (1, 2):
        os.link(home / "edge", home / f"snapshot-{i}")
    os.link(home / "sparse", home / "d/snapshot")
    before = trees.picture(home)
    record = sides.restore()
    assert record.entries == 3
    assert record.bytes == (home / "edge").stat().st_size + (home / "sparse").stat().st_size
    with (home / "edge").open("r+b") as file:
        file.write(b"in place")
    os.chmod(home / "edge", 0o600)
    aside = trees.picture(sides.aside)
    for path in (b"snapshot-1", b"snapshot-2", b"d/snapshot"):
        assert aside[path][:7] == before[path][:7]
    assert (sides.aside / "snapshot-1").samefile(sides.aside / "snapshot-2")
    assert (sides.aside / "d/snapshot").stat().st_blocks * 512 < 1_000_000
    assert os.listdir(home / ".storagemirror/tmp") == []


def test_the_name_that_stays_of_a_file_whose_other_name_was_made_a_copy_is_nothing_new(sides: Sides) -> None:
    home = sides.home
    there = (home / "a/one").stat()
    content = (home / "a/one").read_bytes()
    attributes = os.getxattr(home / "a/one", "trusted.thing")
    (home / "d/same file").unlink()
    trees.write(home / "d/same file", content)
    os.chmod(home / "d/same file", stat.S_IMODE(there.st_mode))
    os.setxattr(home / "d/same file", "trusted.thing", attributes)
    os.utime(home / "d/same file", ns=(there.st_atime_ns, there.st_mtime_ns))
    assert sides.restore().entries == 0
    assert sides.differences() == []


def test_what_is_kept_is_counted_and_named_in_the_order_of_the_walk(place: Path) -> None:
    (place / "home").mkdir()
    sides = parted(place)
    for i in range(30):
        trees.write(sides.home / f"d{i:02}/f", "x" * i)
    record = sides.keep()
    assert record.entries == 60
    assert record.bytes == sum(range(30))
    assert record.first == tuple(f"d{i:02}" for i in range(16))


def test_ten_thousand_equal_files_are_looked_at_and_left_alone(place: Path) -> None:
    (place / "home").mkdir()
    trees.many(place / "home", 10_000, size=200)
    sides = parted(place)
    before = trees.picture(sides.home)
    began = time.monotonic()
    record = sides.keep()
    took = time.monotonic() - began
    assert record.entries == record.deleted == 0
    assert trees.picture(sides.home) == before
    assert took < 20, f"{took:.1f} s"
