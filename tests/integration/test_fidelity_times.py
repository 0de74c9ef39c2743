"""Times that the target cannot hold, and what is kept only where it is asked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storagemirror.contract import KeepOrder
from storagemirror.sync.requests import MirrorResult
from tests.support import trees
from tests.support.disks import disk
from tests.support.engine import mirror

YEAR_1890, YEAR_2040, YEAR_2300, YEAR_2400 = -2_520_000_000, 2_210_000_000, 10_420_000_000, 13_570_000_000


def counts(result: MirrorResult) -> dict[str, int]:
    return {item.kind.value: item.count for item in result.not_kept}


def sent(result: MirrorResult) -> tuple[int, int, int]:
    return result.files_sent, result.metadata_sent, result.links_sent


@pytest.mark.parametrize(
    ("kind", "size", "options", "lost"),
    [
        ("ext4", 32, (), {"1890", "2300", "2400"}),
        ("ext4", 32, ("-I", "128"), {"1890", "2040", "2300", "2400", "directory", "link"}),
        ("xfs", 320, ("-m", "bigtime=0"), {"1890", "2040", "2300", "2400", "directory", "link"}),
        ("btrfs", 128, (), {"2300", "2400"}),
    ],
)
def test_times_beyond_the_range_are_counted_and_sent_once(
    tmp_path: Path, kind: str, size: int, options: tuple[str, ...], lost: set[str]
) -> None:
    source = tmp_path / "source"
    with disk(tmp_path, "tmpfs", 16, "source"), disk(tmp_path, kind, size, "target", *options) as target:
        (source / "directory").mkdir()
        os.symlink("nowhere", source / "link")
        times = {"1890": YEAR_1890, "1969": -1000, "2040": YEAR_2040, "2300": YEAR_2300, "2400": YEAR_2400}
        for name in times:
            trees.write(source / name, name)
        for name, time in {**times, "directory": YEAR_2040, "link": YEAR_2040}.items():
            os.utime(source / name, (0, time), follow_symlinks=False)
        first = mirror(source, target.path)
        again = mirror(source, target.path)
        for result in (first, again):
            assert {os.fsdecode(name) for item in result.not_kept for name in item.first} == lost
            assert set(counts(result)) == {"Times"}
            assert result.failed == 0
        assert sent(again) == (0, 0, 0)
        assert (target.path / "1969").stat().st_mtime == -1000


def test_access_times_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    for name in ("small", "linked"):
        trees.write(source / name, "s")
    trees.write(source / "large", b"l" * 400_000)
    os.link(source / "linked", source / "second name")
    for number, name in enumerate(("small", "linked", "large")):
        os.utime(source / name, ns=(1_000_000_000_000_000_001 + number, 5))
    keep = KeepOrder(access_times=True)

    def accessed(root: Path) -> list[int]:
        return [(root / name).stat().st_atime_ns for name in ("small", "linked", "second name", "large")]

    before = accessed(source)
    mirror(source, target, keep=keep)
    assert accessed(target) == accessed(source) == before, "reading moves no access time"
    assert sent(mirror(source, target, keep=keep)) == (0, 0, 0)
    os.utime(source / "small", ns=(2_000_000_000_000_000_003, 5))
    os.utime(source / "linked", ns=(2_000_000_000_000_000_004, 5))
    assert sent(mirror(source, target)) == (0, 0, 0), "nothing but access times differs, and nobody asks"
    assert sent(mirror(source, target, keep=keep)) == (0, 2, 0)
    assert accessed(target) == accessed(source)
    assert trees.rsync_differences(source, target) == ""


def test_labels_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    target.mkdir()
    trees.write(source / "labelled", "l")
    label = b"system_u:object_r:etc_t:s0"
    os.setxattr(source / "labelled", "security.selinux", label)
    mirror(source, target)
    assert "security.selinux" not in os.listxattr(target / "labelled")
    keep = KeepOrder(selinux=True)
    assert sent(mirror(source, target, keep=keep)) == (0, 1, 0)
    assert os.getxattr(target / "labelled", "security.selinux") == label
    assert sent(mirror(source, target, keep=keep)) == (0, 0, 0)
    os.chmod(source / "labelled", 0o600)
    mirror(source, target)
    assert os.getxattr(target / "labelled", "security.selinux") == label, "the target's own label is not taken away"
