"""A point of a group that is held back: whatever is killed or cut, the copy can be brought to either side of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storagemirror.fs.journal.journal import NotPromotable, Promotable
from storagemirror.fs.journal.others import CHANGED, Changed
from storagemirror.fs.journal.steps import Step
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from tests.support.disks import after_power_cut, disk
from tests.support.mortal import CHANGES, killed_at
from tests.support.points import hold, take
from tests.support.pointstage import MODULES, Stage, step_of

GROUP = 7
CLEAN = {"obj", "stage", "gone", "slots"}


def _hold(stage: Stage) -> None:
    """The next point, which leads to the other tree."""
    with TargetVolume.open(str(stage.target)) as volume:
        volume.claim()
        hold(volume.journal, stage.point_to(stage.other), stage.number + 1, GROUP)


def _settle(target: Path, *, apply: bool) -> None:
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        volume.journal.settle(apply=apply)


def _left(target: Path) -> set[str]:
    return set(os.listdir(target / ".storagemirror/journal")) - CLEAN


BEFORE, HELD, AFTER = "before", "held", "after"


def _look(stage: Stage, target: Path) -> str:
    """Where the next agent finds the volume; and it is true: it is that point, byte for byte, and nothing is left where
    none is held."""
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        at, held = volume.promotable(), volume.held
    assert isinstance(at, Promotable)
    assert held is None or (held.number, held.group, at.number) == (stage.number + 1, GROUP, stage.number)
    new = at.number == stage.number + 1
    assert new or at.number == stage.number
    assert stage.where(target, holds=held is not None) == (stage.other if new else 1 - stage.other)
    assert held is not None or not _left(target)
    return AFTER if new else BEFORE if held is None else HELD


@pytest.mark.parametrize("apply", [True, False], ids=["apply", "drop"])
@pytest.mark.parametrize(("kind", "stride"), [("ext4", 1), ("xfs", 2), ("btrfs", 3)])
def test_a_kill_before_any_call_leaves_both_sides_open_until_one_is_chosen(
    tmp_path: Path, kind: str, stride: int, apply: bool
) -> None:
    """Killed while it comes, while it is held, while it is applied or dropped; then the word is said again."""
    seen: set[tuple[Step | None, str]] = set()
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 400, "target") as made:
        stage = Stage(source.path, made.path)
        call, killed = 1, True
        while killed:
            killed, durable = _kill(stage, call, tmp_path, apply=apply)
            step = step_of(made.path)
            found = _look(stage, made.path)
            seen.add((step, found))
            assert found != AFTER or (apply and durable)
            assert found != BEFORE or not durable or not apply, "an acknowledged point is there"
            _settle(made.path, apply=apply)
            wanted = AFTER if apply and found != BEFORE else BEFORE
            assert _look(stage, made.path) == wanted
            _settle(made.path, apply=not apply)  # it is settled for good
            assert _look(stage, made.path) == wanted
            stage.goes_on(wanted == AFTER)
            call += stride if apply else 1
        assert call > 25
    assert {(None, HELD), (None, BEFORE)} <= seen, "never held, or never killed before it was whole"
    assert {step for step, _ in seen} == ({None, *Step} if apply else {None})


@pytest.mark.parametrize("apply", [True, False], ids=["apply", "drop"])
def test_a_power_cut_before_any_call_leaves_both_sides_open_until_one_is_chosen(tmp_path: Path, apply: bool) -> None:
    seen: set[str] = set()
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, "ext4", 320, "target") as made:
        stage = Stage(source.path, made.path)
        call, killed = 1, True
        while killed:
            killed, durable = _kill(stage, call, tmp_path, apply=apply)
            with after_power_cut(made, tmp_path) as cut:
                found = _look(stage, cut)
                seen.add(found)
                assert found != AFTER or (apply and durable)
                assert found != BEFORE or not durable or not apply, "an acknowledged point is there"
                _settle(cut, apply=apply)
                assert _look(stage, cut) == (AFTER if apply and found != BEFORE else BEFORE)
            _look(stage, made.path)
            _settle(made.path, apply=apply)
            stage.goes_on(_look(stage, made.path) == AFTER)
            call += 9 if apply else 2
    assert seen == ({BEFORE, HELD, AFTER} if apply else {BEFORE, HELD})


def test_what_was_dropped_does_not_come_back_with_a_power_cut(tmp_path: Path) -> None:
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, "ext4", 320, "target") as made:
        stage = Stage(source.path, made.path)
        _hold(stage)
        with TargetVolume.open(str(made.path)) as volume:
            volume.claim()
            volume.journal.settle(apply=False)
            with after_power_cut(made, tmp_path) as cut:  # before anything else has made it durable
                assert _look(stage, cut) == BEFORE


def _kill(stage: Stage, call: int, notes: Path, *, apply: bool) -> tuple[bool, bool]:
    """Whether it was killed, and had acknowledged the point before (and then begun to settle)."""
    durable = notes / "durable"
    durable.unlink(missing_ok=True)

    def work() -> None:
        with TargetVolume.open(str(stage.target)) as volume:
            volume.claim()
            hold(volume.journal, stage.point_to(stage.other), stage.number + 1, GROUP)
            durable.touch()
            volume.journal.settle(apply=apply)

    killed = killed_at(call, MODULES, work, CHANGES)
    return killed, durable.exists()


@pytest.mark.parametrize("apply", [True, False], ids=["apply", "drop"])
def test_it_is_held_over_many_agents_and_its_journal_stays(tmp_path: Path, apply: bool) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "target").mkdir()
    stage = Stage(tmp_path / "source", tmp_path / "target")
    _hold(stage)
    for _ in range(3):
        assert _look(stage, stage.target) == HELD
    with TargetVolume.open(str(stage.target)) as volume:
        assert volume.unlooked, "an agent that begins does not know that there is one"
        volume.claim()
        volume.claim()
        assert not volume.unlooked
        assert volume.held is not None
        assert volume.journal.settle(apply=apply) is apply
        assert volume.held is None
        assert volume.journal.settle(apply=not apply) is False
    assert _look(stage, stage.target) == (AFTER if apply else BEFORE)
    with TargetVolume.open(str(stage.target)) as volume:
        assert not volume.unlooked
        volume.claim()
        take(volume.journal, stage.point_to(1) if not apply else stage.point_to(0), 3)
    assert stage.where() == (0 if apply else 1)


def test_what_somebody_changed_meanwhile_is_not_written_over_by_a_point_that_does_not_fit(tmp_path: Path) -> None:
    for base, name in ((None, "on a point"), (MIRROR, "on a mirror")):
        (tmp_path / name / "source").mkdir(parents=True)
        (tmp_path / name / "target").mkdir()
        stage = Stage(tmp_path / name / "source", tmp_path / name / "target")
        with TargetVolume.open(str(stage.target)) as volume:
            volume.claim()
            if base == MIRROR:
                volume.journal.spoil("Mirroring", "it is mirrored")
            hold(volume.journal, stage.point_to(1), 2, GROUP, base)
            assert volume.held is not None
            os.unlink(stage.target / "seven")  # the point says that it is there
            volume.journal.spoil_changed(Changed(1, (b"seven",), 1))
            assert volume.held is None
        with TargetVolume.open(str(stage.target)) as volume:
            volume.claim()
            assert volume.journal.settle(apply=True) is False
            at = volume.promotable()
            assert isinstance(at, NotPromotable)
            assert at.reason == CHANGED
        assert not _left(stage.target)
        assert not (stage.target / "seven").exists()


def test_the_first_point_after_a_mirror_makes_the_copy_one_only_when_it_is_applied(tmp_path: Path) -> None:
    for apply in (True, False):
        where = tmp_path / str(apply)
        (where / "source").mkdir(parents=True)
        (where / "target").mkdir()
        stage = Stage(where / "source", where / "target")
        with TargetVolume.open(str(stage.target)) as volume:
            volume.claim()
            volume.journal.spoil("Mirroring", "it is mirrored")
            hold(volume.journal, stage.point_to(1), 2, GROUP, MIRROR)
            assert isinstance(volume.promotable(), NotPromotable)
        with TargetVolume.open(str(stage.target)) as volume:
            volume.claim()
            assert isinstance(volume.promotable(), NotPromotable)
            assert volume.held is not None
            volume.journal.settle(apply=apply)
            at = volume.promotable()
            assert isinstance(at, Promotable) is apply
        assert stage.where() == int(apply)
