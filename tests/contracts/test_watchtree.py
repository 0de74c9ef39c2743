"""The tree of watches stays a tree, whatever is moved while events wait."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.inotify import Inotify
from storagemirror.fs.tree import Tree
from storagemirror.sync.watchtree import WatchedTree


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
