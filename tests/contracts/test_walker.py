"""The target's walk, on a real tree."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from storagemirror.entry import PATH_LIMIT, View
from storagemirror.fs.scan import Scanner
from storagemirror.fs.tree import Tree
from storagemirror.sync.walker import Walker
from storagemirror.wire import messages as m


def test_a_walk_comes_to_its_end_where_paths_are_longer_than_we_carry(tmp_path: Path) -> None:
    """Else the source would wait for the rest of it for ever: a target that was adopted may be so deep."""
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(PATH_LIMIT // 256 + 2):
        os.mkdir("d" * 255, dir_fd=fd)
        deeper = os.open("d" * 255, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    tree = Tree(str(tmp_path))
    told: list[m.Message] = []
    walker = Walker(Scanner(tree, View()), (b"",), told.append)
    for _ in range(100):
        walker.credit(8)
    walker.start()
    for _ in range(1_000):
        if told and isinstance(told[-1], m.Digests) and told[-1].last:
            break
        time.sleep(0.01)
    walker.stop()
    tree.close()
    shutil.rmtree(tmp_path / ("d" * 255), ignore_errors=True)
    assert walker.finished
