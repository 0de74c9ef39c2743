"""The data sets of the mirror bench: as described, and the same for everybody."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest

from tests.bench.mirror import datasets
from tests.bench.mirror.datasets import DataSet


def described(root: Path) -> str:
    """One digest over names, types, sizes, times and contents."""
    seen = hashlib.sha256()
    for here, directories, files in sorted(os.walk(root)):
        for name in sorted(directories + files):
            path = Path(here) / name
            stat = path.stat()
            seen.update(f"{path.relative_to(root)} {stat.st_mode} {stat.st_mtime_ns} ".encode())
            seen.update(path.read_bytes() if path.is_file() else b"")
    return seen.hexdigest()


def test_d1_at_full_size_has_100000_files_in_4655_directories() -> None:
    files = datasets.d1_files(1.0)
    leaves = {path.rpartition("/")[0] for path in files}
    middles = {path.rpartition("/")[0] for path in leaves}
    directories = leaves | middles | {path.rpartition("/")[0] for path in middles}
    assert len(files) == len(set(files)) == 100_000
    assert len(directories) == 4_655


def test_d1_holds_407_megabytes_of_files_of_half_to_16_kibibytes() -> None:
    chance = random.Random("D1 sizes")
    sizes = [datasets.d1_size(chance) for _ in range(100_000)]
    assert min(sizes) >= 512
    assert max(sizes) <= 16_384
    assert sum(sizes) == pytest.approx(407e6, rel=0.01)


def test_d3_holds_5600_megabytes_of_files_of_100_kilobytes_to_20_megabytes() -> None:
    chance = random.Random("D3 sizes")
    sizes = [datasets.d3_size(chance) for _ in range(100_000)]
    assert min(sizes) >= 100_000
    assert max(sizes) <= 20_000_000
    assert sum(sizes) / len(sizes) * 2_000 == pytest.approx(5.6e9, rel=0.02)


@pytest.mark.parametrize(("data", "scale"), [(datasets.D1, 0.002), (datasets.D2, 0.001), (datasets.D3, 0.001)])
def test_a_data_set_is_the_same_each_time(tmp_path: Path, data: DataSet, scale: float) -> None:
    digests = set()
    for name in ("one", "other"):
        root = tmp_path / name
        root.mkdir()
        data.make(root, scale)
        digests.add(described(root))
        assert all(path.stat().st_mtime < 1_740_000_000 for path in root.rglob("*")), "times of the past"
        shutil.rmtree(root)
    assert len(digests) == 1


def test_one_of_a_hundred_files_gets_another_content(tmp_path: Path) -> None:
    datasets.make_d1(tmp_path, 0.005)
    before = {path: path.read_bytes() for path in datasets.files_of(tmp_path)}
    datasets.one_percent(tmp_path, 0.005, 0)
    assert datasets.files_of(tmp_path) == list(before)
    assert len([path for path, content in before.items() if path.read_bytes() != content]) == 5


def test_one_of_a_hundred_files_gets_another_name_and_keeps_its_content(tmp_path: Path) -> None:
    datasets.make_d1(tmp_path, 0.005)
    before = {path: path.read_bytes() for path in datasets.files_of(tmp_path)}
    for number in range(2):
        datasets.renamed(tmp_path, 0.005, number)
    after = datasets.files_of(tmp_path)
    assert len(set(before) - set(after)) in range(6, 11), "5 in each round, of which some twice"
    assert sorted(before.values()) == sorted(path.read_bytes() for path in after)


def test_blocks_of_the_large_file_change_where_they_stand(tmp_path: Path) -> None:
    scale = 0.005
    datasets.make_d2(tmp_path, scale)
    large = tmp_path / "large"
    before = large.read_bytes()
    datasets.scattered(tmp_path, 0.05, 0)
    after = large.read_bytes()
    size = datasets.BLOCK
    assert len(after) == len(before)
    assert sum(before[i : i + size] != after[i : i + size] for i in range(0, len(before), size)) == 3
