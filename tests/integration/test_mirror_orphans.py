"""Orphans: what the target has and the source has not is deleted, kept, told of, or moved aside."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from storagemirror.errors import Held
from storagemirror.sync.left import LeftKind
from storagemirror.sync.requests import Changes, MirrorResult
from storagemirror.terms import OrphanPolicy, Rule, Terms
from tests.support import trees
from tests.support.engine import expectation, joined, mirror, promote

KEEP = Terms(orphans=OrphanPolicy.KEEP)
REPORT = Terms(orphans=OrphanPolicy.REPORT)
MOVE = Terms(orphans=OrphanPolicy.MOVE)
IGNORE = Terms(ignore_deletes=True)
MONTH = 30 * 86_400


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    for number in range(30):
        trees.write(path / f"d{number % 3}/f{number}", str(number))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def aside(target: Path) -> list[str]:
    """What was moved aside, in the order of its paths."""
    found = [path for path in (target / ".storagemirror/orphans").glob("*/**/*") if not path.is_dir()]
    return sorted("/".join(path.relative_to(target).parts[3:]) for path in found)


def rsync_without_delete(source: Path, target: Path) -> str:
    words = ["rsync", "-anciHAX", "--exclude=/.storagemirror", "--exclude=/lost+found", f"{source}/", f"{target}/"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def orphans(result: MirrorResult) -> tuple[int, tuple[bytes, ...]]:
    left = [left for left in result.left_alone if left.kind is LeftKind.ORPHAN]
    return (left[0].count, left[0].first) if left else (0, ())


@pytest.mark.parametrize("terms", [KEEP, REPORT, IGNORE], ids=["Keep", "Report", "ignoreDeletes"])
def test_what_stays_is_counted_and_everything_else_is_equal(source: Path, target: Path, terms: Terms) -> None:
    mirror(source, target, terms=terms)
    trees.write(target / "d0/mine", "mine")
    trees.write(target / "all/of/this", "mine")
    (source / "d1/f1").unlink()
    subprocess.run(["rm", "-r", source / "d2"], check=True)
    trees.write(source / "d0/new", "new")
    for _ in range(2):
        result = mirror(source, target, terms=terms)
        assert result.deleted == 0
        count, first = orphans(result)
        assert count == 1 + 3 + 1 + 11
        assert set(first) == ({b"d0/mine", b"all", b"d1/f1", b"d2"} if terms is REPORT else set())
        assert (target / "d2/f2").read_text() == "2"
        assert rsync_without_delete(source, target) == ""


def test_what_is_moved_aside_keeps_its_path_and_all_that_it_is(source: Path, target: Path) -> None:
    trees.everything(source / "d0")
    mirror(source, target)
    before = trees.picture(target / "d0")
    subprocess.run(["rm", "-r", source / "d0", source / "d1/f1"], check=True)
    result = mirror(source, target, expectation(max_delete_percent=100), terms=MOVE)
    assert trees.rsync_differences(source, target) == ""
    assert result.moved_aside == result.deleted > 30
    (place,) = (target / ".storagemirror/orphans").iterdir()
    assert trees.picture(place / "d0") == before
    assert (place / "d1/f1").read_text() == "1"
    again = mirror(source, target, terms=MOVE)
    assert (again.moved_aside, again.deleted) == (0, 0)


def test_what_was_moved_aside_is_never_overwritten(source: Path, target: Path) -> None:
    with joined(source, target, terms=MOVE) as pair:
        pair.mirror()
        for text in ("one", "two"):
            trees.write(source / "d0/again", text)
            pair.source.apply(Changes(paths={b"d0/again"}))
            (source / "d0/again").unlink()
            pair.source.apply(Changes(paths={b"d0/again"}))
        pair.source.mark(1)
    assert not (target / "d0/again").exists()
    (place,) = (target / ".storagemirror/orphans").iterdir()
    assert {path.read_text() for path in (place / "d0").iterdir()} == {"one", "two"}


def test_moving_aside_counts_as_deleting_for_the_guard(source: Path, target: Path) -> None:
    """The copy would be gone from where somebody looks for it."""
    mirror(source, target, terms=MOVE)
    subprocess.run(["rm", "-r", source / "d0", source / "d1"], check=True)
    with pytest.raises(Held) as held:
        mirror(source, target, terms=MOVE)
    assert held.value.reason == "MassDelete"
    assert aside(target) == []


@pytest.mark.parametrize("policy", [OrphanPolicy.DELETE, OrphanPolicy.MOVE])
def test_only_what_is_old_enough_goes_and_a_directory_only_as_a_whole(
    source: Path, target: Path, policy: OrphanPolicy
) -> None:
    terms = Terms(orphans=policy, older_than_seconds=MONTH)
    mirror(source, target, terms=terms)
    for name in ("old", "young", "d0/old", "with-young/old", "with-young/deep/young", "all-old/deep/old"):
        trees.write(target / name, name)
    for path in (*target.rglob("*old"), target / "all-old/deep", target / "with-young", target / "with-young/deep"):
        os.utime(path, ns=(10**18, 10**18))
    result = mirror(source, target, terms=terms)
    assert not (target / "old").exists()
    assert not (target / "d0/old").exists()
    assert not (target / "all-old").exists()
    assert (target / "young").exists()
    assert (target / "with-young/old").exists()
    assert orphans(result)[0] == 1 + 4
    assert result.deleted == 5
    assert aside(target) == (["all-old/deep/old", "d0/old", "old"] if policy is OrphanPolicy.MOVE else [])
    assert rsync_without_delete(source, target) == ""


def test_what_stands_in_the_way_is_moved_aside_where_orphans_stay(source: Path, target: Path) -> None:
    mirror(source, target, terms=KEEP)
    subprocess.run(["rm", "-r", source / "d0"], check=True)
    trees.write(source / "d0", "a file now")
    mirror(source, target, terms=KEEP)
    assert (target / "d0").read_text() == "a file now"
    assert aside(target) == [f"d0/f{number}" for number in sorted(range(0, 30, 3), key=str)]


@pytest.mark.parametrize("terms", [KEEP, MOVE, IGNORE], ids=["Keep", "Move", "ignoreDeletes"])
def test_what_was_renamed_while_nobody_watched_stays_under_its_old_name(
    source: Path, target: Path, terms: Terms
) -> None:
    trees.write(source / "large", os.urandom(300_000))
    mirror(source, target, terms=terms)
    os.rename(source / "large", source / "renamed")
    os.rename(source / "d0", source / "moved")
    mirror(source, target, terms=terms)
    assert rsync_without_delete(source, target) == ""
    if terms is MOVE:
        assert trees.rsync_differences(source, target) == ""
        assert len(aside(target)) == 1 + 10
    else:
        assert (target / "large").stat().st_size == 300_000
        assert (target / "d0/f0").read_text() == "0"


def test_what_rules_leave_out_is_not_moved_aside(source: Path, target: Path) -> None:
    terms = Terms((Rule(False, b"*.tmp"),), OrphanPolicy.MOVE)
    mirror(source, target, terms=terms)
    for name in ("gone/file", "gone/stays.tmp", "gone/deep/file", "gone/other/stays.tmp"):
        trees.write(target / name, name)
    for moved in (4, 0):
        result = mirror(source, target, terms=terms)
        assert aside(target) == ["gone/deep/file", "gone/file"]
        assert (target / "gone/other/stays.tmp").exists()
        assert (target / "gone/stays.tmp").exists()
        assert result.moved_aside == (3 if moved else 0)


# -- live


@pytest.mark.parametrize("terms", [KEEP, IGNORE], ids=["Keep", "ignoreDeletes"])
def test_live_deletions_and_renames_take_nothing_away(source: Path, target: Path, terms: Terms) -> None:
    with joined(source, target, terms=terms) as pair:
        pair.mirror()
        (source / "d0/f0").unlink()
        subprocess.run(["rm", "-r", source / "d1"], check=True)
        os.rename(source / "d2/f2", source / "d2/renamed")
        names = frozenset({b"", b"d0/f0", b"d1", b"d2/f2", b"d2/renamed", b"d2"})
        pair.source.apply(Changes(paths=names, renames=((b"d2/f2", b"d2/renamed"),)))
        pair.source.mark(1)
        assert (target / "d0/f0").read_text() == "0"
        assert (target / "d1/f1").read_text() == "1"
        assert (target / "d2/f2").read_text() == (target / "d2/renamed").read_text() == "2"
        assert orphans(pair.mirror())[0] == 1 + 11 + 1
        assert rsync_without_delete(source, target) == ""


def test_live_deletions_are_moved_aside(source: Path, target: Path) -> None:
    with joined(source, target, terms=MOVE) as pair:
        pair.mirror()
        (source / "d0/f0").unlink()
        os.rename(source / "d2/f2", source / "d2/renamed")
        names = frozenset({b"d0/f0", b"d2/f2", b"d2/renamed"})
        pair.source.apply(Changes(paths=names, renames=((b"d2/f2", b"d2/renamed"),)))
        pair.source.mark(1)
        assert trees.rsync_differences(source, target) == ""
        assert aside(target) == ["d0/f0", "d2/f2"]


def test_what_was_kept_or_left_out_is_promoted_with_the_copy(source: Path, target: Path) -> None:
    terms = Terms((Rule(False, b"*.tmp"),), OrphanPolicy.KEEP)
    mirror(source, target, terms=terms)
    trees.write(target / "mine", "mine")
    trees.write(target / "left.tmp", "left out")
    settled = promote(target)
    assert settled.whole
    assert (target / "mine").exists()
    assert (target / "left.tmp").exists()
