"""A copy that reads only what the trace names is equal at every point, under writers of every kind that never rest."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from storagemirror.fs.trace import open_trace
from tests.support.disks import disk
from tests.support.follower import Copy
from tests.support.freezing import frozen
from tests.support.truth import look, pages_that_differ
from tests.support.unrest import unrest

_POINTS = int(os.environ.get("STORAGEMIRROR_TEST_POINTS", "8"))


@pytest.mark.parametrize(("kind", "mebibytes"), [("ext4", 128), ("xfs", 400), ("btrfs", 400)])
def test_a_copy_by_hints_is_equal_at_every_point(kind: str, mebibytes: int, tmp_path: Path) -> None:
    seed = int(os.environ.get("STORAGEMIRROR_TEST_SEED", "1"))
    chance = random.Random(seed)
    with disk(tmp_path, kind, mebibytes) as made:
        place = made.path / "volume"
        place.mkdir()
        root = os.open(made.path, os.O_RDONLY)
        with open_trace(root, f"test-{os.getpid()}-follow") as trace:
            copy = Copy(place, root, trace)
            passes = 0
            with unrest(place, seed):
                for point in range(_POINTS):
                    for _ in range(chance.randrange(3)):
                        time.sleep(0.05)
                        copy.follow(frozen=False)
                        passes += 1
                    with frozen(root):
                        copy.follow(frozen=True)
                        truth = look(place)
                        wrong = {
                            file.name: pages_that_differ(file.content, copy.content[ino])[:5]
                            for ino, file in truth.items()
                            if file.content != copy.content[ino]
                        }
                    passes += 1
                    assert wrong == {}, (point, seed)
                    assert copy.content.keys() == truth.keys()
                    time.sleep(0.1)
            large = (place / "three/large").stat()
            assert 0 < copy.read[large.st_ino] < passes * large.st_size * 0.8
        os.close(root)
