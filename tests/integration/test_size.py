"""`storagemirror size`: what a mirror would cost. Nothing is sent or written, and the mirror then does just that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storagemirror.cli.main import main
from storagemirror.contract import CompareBy
from storagemirror.sync.left import LeftKind
from storagemirror.sync.sizing import Size
from storagemirror.terms import EXACT, OrphanPolicy, Rule, Terms
from tests.support import trees
from tests.support.engine import joined, mirror


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def cost(source: Path, target: Path, terms: Terms = EXACT, compare: CompareBy = CompareBy.SIZE_AND_TIME) -> Size:
    """What a mirror under these terms would cost."""
    with joined(source, target, terms=terms, look=True) as pair:
        return pair.source.size(compare)


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line."""
    program = [sys.executable, "-m", "storagemirror.cli.main", *map(str, words)]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def everything_of(root: Path) -> dict[str, tuple[int, ...]]:
    """Each entry's times of modification and change, and its inode: what a write of any kind moves."""
    found: dict[str, tuple[int, ...]] = {}
    for here, directories, files in os.walk(root):
        for name in (*directories, *files, "."):
            seen = os.lstat(os.path.join(here, name))
            found[os.path.join(here, name)] = (seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_size)
    return found


def test_a_copy_that_does_not_exist_yet_costs_everything_and_is_not_made(source: Path, target: Path) -> None:
    trees.everything(source)
    done = run("size", "--json", source, target)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not target.exists()
    target.mkdir()
    mirrored = mirror(source, target)
    assert (found["entries"], found["bytesTotal"]) == (mirrored.entries, mirrored.bytes_total)
    assert found["newBytes"] == found["bytesTotal"] - 2 * len("hi"), "further names of a file cost nothing"
    assert found["changedFiles"] == found["deleted"] == 0
    assert found["estimatedSeconds"] >= found["compareSeconds"]
    again = cost(source, target)
    assert (again.new_files, again.changed_files, again.others, again.metadata, again.deleted) == (0, 0, 0, 0, 0)


def test_what_it_says_is_what_the_mirror_then_does_and_the_target_is_not_touched(source: Path, target: Path) -> None:
    target.mkdir()
    trees.many(source, 100)
    trees.write(source / "gone/one", "x")
    trees.write(source / "gone/two", "x")
    trees.write(source / "way/inner", "x")
    trees.write(source / "large", os.urandom(400_000))
    mirror(source, target)
    trees.write(source / "large", os.urandom(500_000))
    trees.write(source / "new/file", "new")
    trees.write(source / "d0/new", "new")
    subprocess.run(["rm", "-r", source / "gone", source / "way"], check=True)
    trees.write(source / "way", "a file now")
    os.chmod(source / "d0", 0o700)
    before = everything_of(target)
    found = cost(source, target)
    assert everything_of(target) == before
    assert (found.new_files, found.new_bytes) == (3, len("new") * 2 + len("a file now"))
    assert (found.changed_files, found.changed_bytes) == (1, 500_000)
    assert found.others == 1
    done = mirror(source, target)
    assert done.deleted == found.deleted == 3 + 2
    assert done.files_sent == found.new_files + found.changed_files


def test_a_directory_that_nobody_copied_to_gets_no_mark(source: Path, target: Path) -> None:
    trees.many(source, 10)
    trees.many(target, 5, seed=2)
    before = everything_of(target)
    found = cost(source, target)
    assert everything_of(target) == before
    assert not (target / ".storagemirror").exists()
    assert found.deleted > 0


def test_rules_orphans_and_newer_files_count_as_the_mirror_would_have_them(source: Path, target: Path) -> None:
    target.mkdir()
    trees.many(source, 20)
    for name in ("a.tmp", "cache/x", "newer", "older"):
        trees.write(source / name, name, mtime_ns=10**18)
    mirror(source, target)
    trees.write(source / "b.tmp", "x")
    trees.write(target / "newer", "theirs", mtime_ns=2 * 10**18)
    trees.write(target / "older", "theirs", mtime_ns=10**17)
    trees.write(target / "orphan", "x")
    terms = Terms((Rule(False, b"*.tmp"), Rule(False, b"cache/")), OrphanPolicy.REPORT)
    found = cost(source, target, terms, CompareBy.NEWER)
    assert (found.new_files, found.changed_files, found.deleted) == (0, 1, 0)
    left = {left.kind: (left.count, left.first) for left in found.left_alone}
    assert left == {LeftKind.NEWER: (1, (b"newer",)), LeftKind.ORPHAN: (1, (b"orphan",))}
    assert found.entries == mirror(source, target, terms=terms, compare=CompareBy.NEWER).entries


def test_a_link_that_is_slow_is_counted(source: Path, target: Path) -> None:
    trees.write(source / "large", os.urandom(1_000_000))
    done = run("size", "--rate", "100K", source, target)
    assert "about 0:10" in done.stdout


@pytest.mark.parametrize(
    "options", [("--rate", "fast"), ("--orphans", "keep", "--older-than", "3d"), ("--exclude", "[")]
)
def test_options_that_cannot_be_meant(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        sys.exit(main(["size", *options, "/nowhere", "/nowhere-else"]))
    assert ended.value.code == 2
    assert capsys.readouterr().err
