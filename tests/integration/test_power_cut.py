"""What a target holds after its machine lost its power: real file systems, on a disk that forgets what was not flushed.

`make campaign-powercut` does the same many times.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.support.power_disk import power_disk
from tests.support.powercut import cut_and_repair, cut_while_repairing, tell


@pytest.mark.parametrize(
    ("kind", "mebibytes", "options"),
    [("ext4", 96, "defaults"), ("xfs", 320, "defaults"), ("ext4", 96, "data=writeback,commit=1")],
    ids=["ext4", "xfs", "ext4 that writes names before contents"],
)
def test_what_was_marked_survives_a_power_cut_and_the_next_run_repairs_the_rest(
    tmp_path: Path, kind: str, mebibytes: int, options: str
) -> None:
    rnd = random.Random()
    (tmp_path / "source").mkdir()
    with power_disk(tmp_path / "disk", kind, mebibytes, options) as disk:
        story = tell(disk, tmp_path / "source", rnd, steps=8)
    assert story.end > story.begin, "the disk was written"
    for _ in range(2):
        cut_and_repair(story, tmp_path, rnd)
    cut_while_repairing(story, tmp_path, rnd)
