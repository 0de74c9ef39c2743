"""Source agents of one pair whose points are of one moment: what the copies of two volumes hold together, and what they
never do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.layout import checkout
from tests.support.grouped import Grouped, Seen, grouped
from tests.support.smallapi import SmallApi


@pytest.fixture
def group(tmp_path: Path, api: SmallApi) -> Iterator[Grouped]:
    with grouped(tmp_path, api, "data", "wal") as made:
        yield made


@contextmanager
def writing(group: Grouped) -> Iterator[None]:
    """A writer of both volumes, in its order."""
    env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"}
    command = [sys.executable, "-m", "tests.support.inorder", *map(str, group.sources)]
    process = subprocess.Popen(command, cwd=checkout(), env=env)
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def in_order(seen: list[Seen]) -> bool:
    """Whether at each of these the copies are of one moment."""
    return all(second <= first <= second + 1 for _, first, second in seen)


def test_at_every_point_of_the_group_the_copies_are_of_one_moment(group: Grouped) -> None:
    with writing(group):
        group.start()
        seen = group.watch(12)
        assert in_order(seen), seen
        assert len({first for _, first, _ in seen}) == 12
        assert [number for number, _, _ in seen] == sorted({number for number, _, _ in seen})
