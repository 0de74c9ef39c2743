"""The tree of watches stays a tree, whatever is moved while events wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.inotify import Inotify
from storagemirror.fs.selection import Selection
from storagemirror.fs.tree import Tree
from storagemirror.sync.watchtree import WatchedTree
from storagemirror.terms import Rule


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[WatchedTree]:
    (tmp_path / "a" / "x").mkdir(parents=True)
    volume = Tree(os.fsencode(tmp_path))
    with Inotify() as inotify:
        tree = WatchedTree(inotify, volume, frozenset())
        tree.build()
        yield tree


def test_a_directory_moved_below_what_took_its_place_is_nowhere_until_that_is_told(
    watched: WatchedTree, tmp_path: Path
) -> None:
    """An event about a/x waits; meanwhile a becomes a/x of a new a. (Seen: a path without end, 13 GB of it.)"""
    root = watched.root
    assert root.children is not None
    old = root.children[b"a"]
    (tmp_path / "a").rename(tmp_path / "moved")
    (tmp_path / "a").mkdir()
    (tmp_path / "moved").rename(tmp_path / "a" / "x")
    watched.cover(old, b"x")
    assert watched.path(old) is None, "it would be a directory within itself"
    watched.cover(root, b"a")
    assert watched.path(old) == b"a/x"
    new = root.children[b"a"]
    assert new is not old
    assert watched.path(new) == b"a"


def test_what_is_left_out_is_not_watched_and_is_when_it_gets_another_name(tmp_path: Path) -> None:
    for name in ("in/deep", "cache/deep", "in/cache"):
        (tmp_path / name).mkdir(parents=True)
    volume = Tree(os.fsencode(tmp_path))
    with Inotify() as inotify:
        tree = WatchedTree(inotify, volume, frozenset(), Selection((Rule(False, b"cache/"),)))
        tree.build()
        assert len(tree) == 3, "the root, in, and in/deep"
        (tmp_path / "cache").rename(tmp_path / "kept")
        tree.cover(tree.root, b"kept")
        assert len(tree) == 5
        (tmp_path / "kept").rename(tmp_path / "in/cache/kept")
        tree.detach(tree.root, b"kept")
        tree.sweep()
        assert len(tree) == 3
        (tmp_path / "in").rename(tmp_path / "cache")
        tree.detach(tree.root, b"in")
        tree.cover(tree.root, b"cache")
        tree.sweep()
        assert len(tree) == 1
