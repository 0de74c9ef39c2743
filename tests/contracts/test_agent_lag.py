"""What a source says about the bytes that are not yet on the target."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.agent.lag import MOST_NAMES, Unsettled
from storagemirror.fs.tree import Tree
from storagemirror.sync.watch import TreeWatch, WatchOptions


@pytest.fixture
def unsettled(tmp_path: Path) -> Iterator[Unsettled]:
    tree = Tree(str(tmp_path))
    with TreeWatch(tree, WatchOptions(quiet=0.001, latency=0.01)) as watch:
        watch.start()
        yield Unsettled(tree, watch)
    tree.close()


def test_before_everything_was_compared_the_lag_is_not_known(unsettled: Unsettled) -> None:
    assert unsettled.lag_bytes() is None
    unsettled.settled()
    assert unsettled.lag_bytes() == 0


def test_changed_files_count_with_their_size_until_they_are_settled(unsettled: Unsettled, tmp_path: Path) -> None:
    unsettled.settled()
    (tmp_path / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"x" * 50)
    assert unsettled.drain(1.0)
    (tmp_path / "b").write_bytes(b"x" * 60)
    unsettled.drain(1.0)
    assert unsettled.lag_bytes() == 160
    unsettled.marking()
    assert unsettled.lag_bytes() == 160
    unsettled.settled()
    assert unsettled.lag_bytes() == 0


def test_what_is_gone_by_now_counts_nothing(unsettled: Unsettled, tmp_path: Path) -> None:
    unsettled.settled()
    (tmp_path / "a").write_bytes(b"x" * 100)
    unsettled.drain(1.0)
    (tmp_path / "a").unlink()
    assert unsettled.lag_bytes() == 0


def test_what_must_be_compared_as_a_tree_is_not_known_in_bytes(unsettled: Unsettled, tmp_path: Path) -> None:
    unsettled.settled()
    (tmp_path / "new").mkdir()
    assert unsettled.drain(1.0).trees
    assert unsettled.lag_bytes() is None


def test_more_names_than_are_measured_are_not_known_in_bytes(unsettled: Unsettled, tmp_path: Path) -> None:
    unsettled.settled()
    for i in range(MOST_NAMES + 1):
        (tmp_path / str(i)).touch()
    unsettled.drain(1.0)
    unsettled.drain(0.1)
    assert unsettled.lag_bytes() is None


def test_what_no_mark_has_settled_is_named_again_after_a_break(unsettled: Unsettled, tmp_path: Path) -> None:
    unsettled.settled()
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert b"a" in unsettled.drain(1.0).paths
    unsettled.unsettle()
    assert unsettled.lag_bytes() == 100
    assert b"a" in unsettled.drain(1.0).paths
    unsettled.marking()
    unsettled.settled()
    unsettled.unsettle()
    assert not unsettled.drain(0.0)


def test_a_mark_settles_what_was_drained_before_it_was_begun(unsettled: Unsettled, tmp_path: Path) -> None:
    unsettled.settled()
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert b"a" in unsettled.drain(1.0).paths
    unsettled.marking()
    (tmp_path / "b").write_bytes(b"x" * 10)
    assert b"b" in unsettled.drain(1.0).paths
    assert unsettled.lag_bytes() == 110
    unsettled.settled()
    assert unsettled.lag_bytes() == 10
    unsettled.unsettle()
    again = unsettled.drain(1.0).paths
    assert b"b" in again
    assert b"a" not in again


def test_what_an_open_mark_would_settle_is_named_again_after_a_break(unsettled: Unsettled, tmp_path: Path) -> None:
    unsettled.settled()
    (tmp_path / "a").write_bytes(b"x" * 100)
    unsettled.drain(1.0)
    unsettled.marking()
    (tmp_path / "b").write_bytes(b"x" * 10)
    unsettled.drain(1.0)
    unsettled.unsettle()
    assert unsettled.names == 0
    assert unsettled.drain(1.0).paths >= {b"a", b"b"}
