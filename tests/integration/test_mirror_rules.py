"""Rules: what is left out is not sent, and on the target it is left alone."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import time
from pathlib import Path

import pytest

from storagemirror.entry import View
from storagemirror.errors import BadInput, Held, Passing
from storagemirror.fs.manifest import parts_of
from storagemirror.fs.scan import Scanner
from storagemirror.fs.selection import Selection
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.requests import Changes
from storagemirror.terms import Rule, Terms
from tests.support import trees
from tests.support.engine import Pair, expectation, joined, mirror


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


def terms(*lines: str | bytes) -> Terms:
    """Lines of a .gitignore."""
    told = [os.fsencode(line) for line in lines]
    return Terms(tuple(Rule(line[:1] == b"!", line.removeprefix(b"!")) for line in told))


RULES = terms("*.tmp", "cache/", "!keep.tmp", "/only/here", b"odd\xff*")


def rsync_says(source: Path, target: Path, *filters: str) -> str:
    """rsync's own filter, where it means the same: the first that matches counts there."""
    words = ["rsync", "-anciHAX", "--delete", "--exclude=/.storagemirror", "--exclude=/lost+found", *filters]
    return subprocess.run([*words, f"{source}/", f"{target}/"], check=True, capture_output=True, text=True).stdout


FILTERS = ("--include=keep.tmp", "--exclude=*.tmp", "--exclude=cache/", "--exclude=/only/here", "--exclude=odd\udcff*")


def filled(root: Path) -> None:
    trees.many(root, 60)
    for name in ("a.tmp", "keep.tmp", "d0/b.tmp", "d0/cache/deep/file", "cache/x", "only/here/x", "d0/only/here"):
        trees.write(root / name, name)
    trees.write(os.fsencode(root) + b"/odd\xff\xfe", "odd")
    trees.write(os.fsencode(root) + b"/odd", "odd")
    trees.write(root / "d0/real/cache", "a file of that name")


def test_what_is_left_out_is_not_sent_and_the_rest_is_equal(source: Path, target: Path) -> None:
    filled(source)
    result = mirror(source, target, terms=RULES)
    assert rsync_says(source, target, *FILTERS) == ""
    assert not (target / "a.tmp").exists()
    assert not (target / "cache").exists()
    assert not os.path.lexists(os.fsencode(target) + b"/odd\xff\xfe")
    assert (target / "keep.tmp").exists()
    assert (target / "d0/only/here").exists()
    assert (target / "d0/real/cache").is_file()
    again = mirror(source, target, terms=RULES)
    assert (again.files_sent, again.metadata_sent, again.deleted) == (0, 0, 0)
    assert again.wire_bytes < 1000, "equal directories have equal digests, whatever is left out in them"
    assert again.entries == result.entries


def test_what_is_left_out_is_left_alone_on_the_target_even_in_a_directory_that_goes(source: Path, target: Path) -> None:
    filled(source)
    trees.write(source / "goes/with/file", "x")
    mirror(source, target, terms=RULES)
    for name in ("mine.tmp", "cache/mine", "goes/cache/mine", "goes/with/mine.tmp"):
        trees.write(target / name, "mine")
    subprocess.run(["rm", "-r", source / "goes"], check=True)
    for _ in range(2):
        result = mirror(source, target, terms=RULES)
        for name in ("mine.tmp", "cache/mine", "goes/cache/mine", "goes/with/mine.tmp"):
            assert (target / name).read_text() == "mine"
        assert not (target / "goes/with/file").exists()
    assert result.deleted == 0, "directories that lead to it are no orphans that are deleted again and again"
    subprocess.run(["rm", "-r", target / "goes/cache"], check=True)
    (target / "goes/with/mine.tmp").unlink()
    mirror(source, target, terms=RULES)
    assert not (target / "goes").exists()


def test_what_is_left_out_is_not_counted_by_the_guard(source: Path, target: Path) -> None:
    for number in range(20):
        trees.write(source / f"f{number}", "x")
    assert mirror(source, target, terms=terms("*")).entries == 0
    for number in range(20):
        trees.write(target / f"cache/f{number}", "x")
    assert mirror(source, target, terms=RULES).entries == 20
    for number in range(12):
        (source / f"f{number}").unlink()
    with pytest.raises(Held, match="12 of the 20"):
        mirror(source, target, terms=RULES)


def test_what_rules_leave_alone_is_not_replaced_by_something_of_another_type(source: Path, target: Path) -> None:
    trees.write(source / "place", "a file")
    trees.write(source / "fine", "x")
    mirror(source, target, terms=terms("place"))
    trees.write(target / "place/inner", "left alone, as a directory")
    result = mirror(source, target, terms=terms("place/"))
    assert result.failed == 1
    assert (target / "place/inner").read_text() == "left alone, as a directory"
    assert (target / "fine").exists()


def test_a_rule_that_is_taken_away_brings_the_rest(source: Path, target: Path) -> None:
    filled(source)
    mirror(source, target, terms=RULES)
    mirror(source, target)
    assert trees.rsync_differences(source, target) == ""
    mirror(source, target, terms=RULES)
    assert trees.rsync_differences(source, target) == "", "what was there before it was left out stays"


def test_rules_that_cannot_be_meant_are_refused_before_anything_happens(source: Path, target: Path) -> None:
    with pytest.raises(BadInput, match="cannot be meant"):
        mirror(source, target, terms=terms("[a"))
    assert os.listdir(target) == []


def test_sides_that_were_told_of_other_terms_wait_for_each_other(source: Path, target: Path) -> None:
    trees.write(target / "mine", "x")
    expect = expectation()
    with pytest.raises(Passing) as refused, joined(source, target, dataclasses.replace(expect, terms=RULES)):
        pass
    assert refused.value.reason == "TermsDiffer"
    assert os.listdir(target) == ["mine"]


# -- live


def changed(pair: Pair, *paths: str, renames: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    pair.source.apply(Changes(paths=frozenset(map(os.fsencode, paths)), renames=renames))
    pair.source.mark(1)


def test_live_changes_obey_rules(source: Path, target: Path) -> None:
    filled(source)
    with joined(source, target, terms=RULES) as pair:
        pair.mirror()
        trees.write(source / "new.tmp", "x")
        trees.write(source / "cache/new", "x")
        trees.write(source / "new", "x")
        trees.write(source / "dir/cache/x", "x")
        trees.write(source / "dir/file", "x")
        changed(pair, "", "new.tmp", "cache/new", "cache", "new", "dir", "dir/cache/x", "dir/file")
        assert rsync_says(source, target, *FILTERS) == ""
        assert not (target / "new.tmp").exists()
        assert not (target / "dir/cache").exists()
        (source / "new.tmp").unlink()
        trees.write(target / "new.tmp", "mine")
        trees.write(target / "dir/cache/mine", "mine")
        subprocess.run(["rm", "-r", source / "dir"], check=True)
        changed(pair, "", "new.tmp", "dir")
        assert (target / "new.tmp").read_text() == "mine"
        assert (target / "dir/cache/mine").read_text() == "mine"
        assert not (target / "dir/file").exists()


def test_live_renames_obey_rules(source: Path, target: Path) -> None:
    for name in ("in.txt", "out.tmp", "plain/file", "mixed/file", "mixed/cache/x"):
        trees.write(source / name, name)
    with joined(source, target, terms=RULES) as pair:
        pair.mirror()
        trees.write(target / "mixed/cache/mine", "mine")
        pairs = (("in.txt", "in.tmp"), ("out.tmp", "out.txt"), ("plain", "moved"), ("mixed", "also-moved"))
        for old, new in pairs:
            os.rename(source / old, source / new)
        names = [name for names in pairs for name in names]
        changed(pair, "", *names, renames=tuple((a.encode(), b.encode()) for a, b in pairs))
        assert not (target / "in.txt").exists()
        assert not (target / "in.tmp").exists()
        assert (target / "out.txt").read_text() == "out.tmp"
        assert (target / "moved/file").read_text() == "plain/file"
        assert (target / "also-moved/file").exists()
        assert (target / "mixed/cache/mine").read_text() == "mine", "it is left alone where it is"
        assert rsync_says(source, target, *FILTERS, "--exclude=/mixed") == ""


def test_what_was_renamed_while_nobody_watched_obeys_rules(source: Path, target: Path) -> None:
    for name in ("plain/file", "mixed/file", "mixed/cache/x", "to/be"):
        trees.write(source / name, name * 1000)
    mirror(source, target, terms=RULES)
    trees.write(target / "mixed/cache/mine", "mine")
    for old, new in (("plain", "moved"), ("mixed", "also-moved"), ("to", "cache")):
        os.rename(source / old, source / new)
    trees.write(source / "moved/left.tmp", "left out")
    mirror(source, target, terms=RULES)
    assert (target / "mixed/cache/mine").read_text() == "mine", "it is left alone where it is"
    assert not (target / "moved/left.tmp").exists()
    assert not (target / "cache").exists()
    assert not (target / "to").exists()
    assert rsync_says(source, target, *FILTERS, "--exclude=/mixed") == ""


def test_many_rules_cost_less_than_the_look_itself(source: Path) -> None:
    trees.many(source, 1_000, size=10)
    many = terms(*(f"*.x{n}" for n in range(50)), *(f"name{n}" for n in range(50)), "a*b*c", "dir/*/x", "**/y/z")

    def seconds(selection: Selection | None) -> float:
        with SourceVolume.open(str(source)) as volume:
            best = 99.0
            for _ in range(3):
                began = time.process_time()
                for _ in parts_of(Scanner(volume.tree, View(), selection=selection)):
                    pass
                best = min(best, time.process_time() - began)
        return best

    assert seconds(Selection(many.rules)) < 2 * seconds(None)
