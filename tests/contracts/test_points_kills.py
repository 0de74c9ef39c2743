"""A target that is killed, or loses its power, at any step of a point: it ends at exactly one point, never between."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from storagemirror.fs.journal.journal import Promotable
from storagemirror.fs.journal.steps import Step
from storagemirror.fs.target import TargetVolume
from tests.support.disks import after_power_cut, disk
from tests.support.mortal import CHANGES, killed_at
from tests.support.points import Told, commit
from tests.support.pointstage import MODULES, Stage, step_of
from tests.support.power_disk import power_disk
from tests.support.powercut_points import cut_and_recover, tell_points


def _take(target: Path, records: list[Told], number: int, acknowledged: Callable[[], None]) -> None:
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        promised = commit(volume.journal, records, number)
        acknowledged()
        volume.journal.apply(promised)


def _kill_at(stage: Stage, call: int, acks: Path) -> tuple[bool, bool, int]:
    """Whether it was killed, and had promised; and where it was going."""
    other = 1 - stage.where()
    acks.unlink(missing_ok=True)
    killed = killed_at(
        call,
        MODULES,
        lambda: _take(stage.target, stage.point_to(other), stage.number + 1, acks.touch),
        CHANGES,
    )
    return killed, acks.exists(), other


def _recovered(stage: Stage, target: Path, other: int, *, promised: bool) -> bool:
    """Whether it went on to the new point."""
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        at = volume.journal.promotable()
        assert isinstance(at, Promotable)
        new = at.number == stage.number + 1
        assert stage.where(target) == (other if new else 1 - other)
        assert new or not promised, "an acknowledged point is there"
        left = os.listdir(target / ".storagemirror/journal")
        assert not [name for name in left if name not in ("obj", "stage", "gone", "slots")], left
    return new


@pytest.mark.parametrize("start", [0, 1], ids=["there", "back"])
@pytest.mark.parametrize(("kind", "stride"), [("ext4", 1), ("xfs", 3), ("btrfs", 5), ("tmpfs", 5)])
def test_a_kill_before_any_call_ends_at_one_point(tmp_path: Path, kind: str, stride: int, start: int) -> None:
    seen: set[tuple[Step | None, bool]] = set()
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 400, "target") as target:
        stage = Stage(source.path, target.path)
        if start:
            _take(target.path, stage.point_to(1), 2, lambda: None)
            stage.number = 2
        call, killed = 1, True
        while killed:
            killed, promised, other = _kill_at(stage, call, tmp_path / "yes")
            step = step_of(target.path)
            new = _recovered(stage, target.path, other, promised=promised)
            seen.add((step, new))
            stage.number += new
            call += stride
        assert call > 100
    assert seen == {(None, False), (None, True), *((step, True) for step in Step)}


@pytest.mark.parametrize(("kind", "stride"), [("ext4", 9), ("xfs", 25)])
def test_a_power_cut_before_any_call_ends_at_one_point(tmp_path: Path, kind: str, stride: int) -> None:
    seen: set[bool] = set()
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 320, "target") as target:
        stage = Stage(source.path, target.path)
        call, killed = 1, True
        while killed:
            killed, promised, other = _kill_at(stage, call, tmp_path / "yes")
            with after_power_cut(target, tmp_path) as cut:
                seen.add(_recovered(stage, cut, other, promised=promised))
            stage.number += _recovered(stage, target.path, other, promised=promised)
            call += stride
    assert seen == {False, True}


@pytest.mark.parametrize(("kind", "mebibytes"), [("ext4", 96), ("xfs", 320)])
def test_a_disk_that_forgets_what_was_not_flushed_leaves_one_point(tmp_path: Path, kind: str, mebibytes: int) -> None:
    """`make campaign-points` does the same many times."""
    rnd = random.Random()
    (tmp_path / "source").mkdir()
    with power_disk(tmp_path / "disk", kind, mebibytes, "defaults") as made:
        story = tell_points(made, tmp_path / "source", rnd, points=6)
    assert story.end > story.begin, "the disk was written"
    for _ in range(4):
        cut_and_recover(story, tmp_path, rnd)
