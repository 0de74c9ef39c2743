"""What was renamed while nobody watched is renamed on the target, and only what is the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storagemirror.sync.requests import MirrorResult
from storagemirror.terms import OrphanPolicy, Rule, Terms
from tests.support import trees
from tests.support.engine import expectation, joined, mirror


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "target"
    path.mkdir()
    return path


def equal(source: Path, target: Path) -> None:
    assert trees.differences(source, target) == []
    assert trees.rsync_differences(source, target) == ""


def again(source: Path, target: Path) -> MirrorResult:
    """A mirror, and that one after it finds nothing to do."""
    result = mirror(source, target)
    equal(source, target)
    after = mirror(source, target)
    assert (after.files_sent, after.metadata_sent, after.deleted) == (0, 0, 0)
    assert after.entries == result.entries
    assert after.bytes_total == result.bytes_total
    return result


def test_renamed_files_are_not_sent_and_not_deleted(source: Path, target: Path) -> None:
    trees.many(source, 300)
    mirror(source, target)
    files = sorted(path for path in source.rglob("*") if path.is_file())
    for number, path in enumerate(files[:150]):
        path.rename(path.parent / f"renamed {number}")
    (source / "new/inner").mkdir(parents=True)
    for number, path in enumerate(files[150:200]):
        path.rename(source / "new/inner" / f"moved {number}")
    result = again(source, target)
    assert (result.files_sent, result.deleted) == (0, 0)


def test_a_moved_directory_is_moved_with_all_that_is_in_it(source: Path, target: Path) -> None:
    trees.many(source / "a/tree", 300)
    trees.write(source / "elsewhere/file", "x")
    mirror(source, target)
    inode = os.stat(target / "a/tree").st_ino
    (source / "a/tree").rename(source / "elsewhere/moved tree")
    result = again(source, target)
    assert (result.files_sent, result.deleted) == (0, 0)
    assert os.stat(target / "elsewhere/moved tree").st_ino == inode


def test_of_a_moved_directory_in_which_something_changed_the_rest_is_not_sent(source: Path, target: Path) -> None:
    for name in ("same", "other", "changed"):
        trees.many(source / "tree" / name, 60)
    trees.write(source / "tree/changed/grown", "a")
    trees.write(source / "tree/file", "top")
    trees.write(source / "stays", "stays")
    mirror(source, target)
    inode = os.stat(target / "tree/same").st_ino
    (source / "tree").rename(source / "new name")
    trees.write(source / "new name/changed/grown", "ab")
    result = again(source, target)
    assert result.files_sent == 1
    assert os.stat(target / "new name/same").st_ino == inode


def test_a_move_of_everything_is_not_held_for_a_deletion(source: Path, target: Path) -> None:
    for number in range(30):
        trees.many(source / f"dir{number}", 5)
    mirror(source, target)
    (source / "all of it").mkdir()
    for path in list(source.iterdir()):
        if path.name != "all of it":
            path.rename(source / "all of it" / path.name)
    result = again(source, target)
    assert (result.files_sent, result.deleted) == (0, 0)


def test_what_only_looks_the_same_is_sent(source: Path, target: Path) -> None:
    for number in range(20):
        trees.write(source / f"old {number}", f"content {number:3}", mtime_ns=10**18)
    mirror(source, target)
    for number in range(20):
        os.unlink(source / f"old {number}")
        trees.write(source / f"new {number}", f"another {number:3}", mtime_ns=10**18)
    trees.write(source / "keeps the guard content", "x")
    mirror(source, target, expectation(max_delete_percent=100))
    equal(source, target)


def test_a_directory_that_only_looks_the_same_is_sent(source: Path, target: Path) -> None:
    for content, name in (("one", "old"), ("two", "new")):
        trees.write(source / name / "file", content, mtime_ns=10**18)
        os.utime(source / name, ns=(10**18, 10**18))
        if name == "old":
            mirror(source, target)
            shutil.rmtree(source / name)
    mirror(source, target)
    equal(source, target)


def test_several_that_look_the_same_each_get_their_own(source: Path, target: Path) -> None:
    for number in range(30):
        trees.write(source / f"old/{number}", f"content {number:3}", mtime_ns=10**18)
    mirror(source, target)
    (source / "new").mkdir()
    for number in range(30):
        (source / f"old/{number}").rename(source / f"new/{number}")
    trees.write(source / "old/stays", "x")
    result = again(source, target)
    assert result.files_sent == 1


def test_swaps_cycles_and_names_that_are_taken_end_right(source: Path, target: Path) -> None:
    for name in ("a", "b", "c", "d", "e"):
        trees.write(source / name, name * 100)
        trees.write(source / f"dir {name}/file", name * 50)
    mirror(source, target)
    for left, right in (("a", "b"), ("dir a", "dir b")):
        (source / left).rename(source / "tmp")
        (source / right).rename(source / left)
        (source / "tmp").rename(source / right)
    (source / "e").rename(source / "f")
    (source / "d").rename(source / "e")
    (source / "c").rename(source / "d")
    (source / "dir e").rename(source / "dir f")
    (source / "dir d").rename(source / "dir e")
    (source / "dir e").rename(source / "dir f/inside")
    shutil.rmtree(source / "dir c")
    (source / "c").symlink_to("nowhere")
    trees.write(source / "dir c", "a file by now")
    again(source, target)


def test_a_directory_moved_into_one_of_its_own_old_name(source: Path, target: Path) -> None:
    trees.many(source / "a", 50)
    mirror(source, target)
    (source / "a").rename(source / "tmp")
    (source / "a").mkdir()
    (source / "tmp").rename(source / "a/a")
    result = again(source, target)
    assert result.files_sent == 0


def test_hard_links_and_empty_files_are_right_after_a_move(source: Path, target: Path) -> None:
    trees.write(source / "old/one", "linked")
    os.link(source / "old/one", source / "old/two")
    os.link(source / "old/one", source / "stays")
    trees.write(source / "old/empty", "")
    trees.write(source / "lone", "alone")
    mirror(source, target)
    (source / "old").rename(source / "new")
    (source / "lone").rename(source / "new/lone")
    again(source, target)


def test_a_file_that_somebody_changed_on_the_target_is_not_renamed(source: Path, target: Path) -> None:
    trees.write(source / "old", "content")
    trees.write(source / "stays", "stays")
    mirror(source, target)
    before = os.stat(target / "old")
    (target / "old").write_text("CONTENT")
    os.utime(target / "old", ns=(before.st_atime_ns, before.st_mtime_ns))
    (source / "old").rename(source / "new")
    result = mirror(source, target)
    equal(source, target)
    assert (result.files_sent, result.deleted) == (1, 1)


def test_a_renamed_large_file_is_not_sent(source: Path, target: Path) -> None:
    trees.write(source / "old", os.urandom(3_000_000))
    mirror(source, target)
    (source / "old").rename(source / "new")
    with joined(source, target) as pair:
        before = pair.source.wire_bytes
        pair.mirror()
        assert pair.source.wire_bytes - before < 1_000
    equal(source, target)


NAMES = st.sampled_from(["a", "b", "c", "file0", "file4", "file1"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("move"), PATHS, PATHS),
        st.tuples(st.just("write"), PATHS, st.sampled_from(["1", "2", "3"])),
        st.tuples(st.just("link"), PATHS, PATHS),
        st.tuples(st.just("remove"), PATHS, st.just("")),
    ),
    min_size=1,
    max_size=25,
)


def _step(root: Path, kind: str, path: str, other: str) -> None:
    try:
        if kind == "move":
            (root / other).parent.mkdir(parents=True, exist_ok=True)
            (root / path).rename(root / other)
        elif kind == "write":
            # What is written anew under the same size and time nobody sees: so each content has a time of its own.
            trees.write(root / path, other, mtime_ns=10**18 + 1 + ord(other))
        elif kind == "link":
            os.link(root / path, root / other)
        elif (root / path).is_dir():
            shutil.rmtree(root / path)
        else:
            os.unlink(root / path)
    except OSError:
        return


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=STEPS, then=STEPS)
def test_whatever_was_moved_the_target_is_equal(
    tmp_path_factory: pytest.TempPathFactory, first: list[tuple[str, str, str]], then: list[tuple[str, str, str]]
) -> None:
    place = tmp_path_factory.mktemp("moves")
    source, target = place / "source", place / "target"
    source.mkdir()
    target.mkdir()
    for number in range(8):  # all look the same, and are not
        trees.write(source / f"{'abcd'[number % 4]}/file{number}", f"{number}", mtime_ns=10**18)
    for step in first:
        _step(source, *step)
    mirror(source, target, expectation(max_delete_percent=100))
    held = trees.differences(source, target)
    assert held == []
    for step in then:
        _step(source, *step)
    mirror(source, target, expectation(max_delete_percent=100))
    assert trees.differences(source, target) == []
    shutil.rmtree(place)


def test_where_orphans_are_kept_nothing_is_renamed_away(source: Path, target: Path) -> None:
    terms = Terms(orphans=OrphanPolicy.KEEP)
    trees.write(source / "old", "content")
    trees.many(source / "tree", 20)
    mirror(source, target, terms=terms)
    (source / "old").rename(source / "new")
    (source / "tree").rename(source / "moved")
    mirror(source, target, terms=terms)
    assert (target / "old").read_text() == (target / "new").read_text() == "content"
    assert len(list((target / "tree").rglob("*"))) == len(list((target / "moved").rglob("*")))


def test_what_rules_leave_out_is_not_moved_along(source: Path, target: Path) -> None:
    terms = Terms(rules=(Rule(False, b"*.log"),))
    trees.many(source / "tree", 20)
    trees.write(source / "stays", "stays")
    mirror(source, target, terms=terms)
    trees.write(target / "tree/the target's own.log", "x")
    os.utime(target / "tree", ns=(0, os.stat(source / "tree").st_mtime_ns))
    (source / "tree").rename(source / "moved")
    mirror(source, target, expectation(max_delete_percent=100), terms=terms)
    assert (target / "tree/the target's own.log").read_text() == "x"
    assert trees.differences(source / "moved", target / "moved") == []
