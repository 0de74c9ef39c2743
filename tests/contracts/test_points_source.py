"""Points of a source on real file systems, really frozen, under writers of every kind: what a point tells is what the
volume held while it was frozen."""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.sync.freezing import FreezeLost, NotFrozen
from storagemirror.sync.pointmaker.making import PointRefused
from storagemirror.sync.pointmaker.queue import Room
from storagemirror.sync.pointmaker.standstill import Limits, PutOff
from storagemirror.wire import messages as m
from tests.support.disks import disk
from tests.support.freezing import FIFREEZE, FITHAW
from tests.support.pointrun import PATIENT, Run, storm, traced

COUNT = int(os.environ.get("STORAGEMIRROR_TEST_POINTS", "8"))
KINDS = ("ext4", "xfs", "btrfs")


def ioctl(path: Path, request: int) -> None:
    """Of a directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, request, 0)
    finally:
        os.close(fd)


@pytest.fixture(params=KINDS)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with disk(tmp_path, request.param, 400) as made:
        (made.path / "here").mkdir()
        yield made.path


anywhere = pytest.mark.parametrize("root", ["ext4"], indirect=True)
"""What does not depend on the file system is tried on one."""


@pytest.fixture(params=[Run, traced], ids=["watch", "trace"])
def run(request: pytest.FixtureRequest, root: Path) -> Iterator[Run]:
    made = request.param(root)
    yield made
    made.close()


@pytest.mark.parametrize("kinds", [("content", "content"), ("all", "all")], ids=["content", "all"])
def test_each_point_is_what_the_volume_held_while_frozen(run: Run, kinds: tuple[str, ...]) -> None:
    for number in range(30):
        (run.root / "here" / f"f{number}").write_bytes(os.urandom(1 + number * 7_000))
    with storm(run.root / "here", *kinds):
        time.sleep(0.5)
        run.mirror()
        run.prove()
        for _ in range(COUNT):
            time.sleep(0.1)
            assert run.point() == []
    run.maker.hear(run.model, 0.0)
    assert run.maker.durable is not None
    assert run.maker.figures.made >= COUNT
    if run.traced is not None:
        assert run.maker.figures.missed == 0
        assert not run.traced.broken


@anywhere
def test_nothing_is_frozen_where_nothing_has_changed(run: Run) -> None:
    (run.root / "here/a").write_bytes(b"a")
    run.mirror()
    assert run.point() == []
    time.sleep(1.1)
    run.maker.make(run.model)
    for _ in range(3):
        run.truth = None
        assert not run.maker.make(run.model)
        assert run.truth is None
    through = run.maker.through_ns
    assert through is not None
    assert run.clock.now_ns() - through < 1e9


@anywhere
def test_a_stall_that_would_be_too_long_is_put_off(run: Run) -> None:
    (run.root / "here/large").write_bytes(os.urandom(64 << 20))
    run.mirror()
    assert run.point() == []
    run.maker.limits = Limits(max_stall=0.05)
    run.maker._standstill._read_rate = 1e8
    run.maker._standstill._freeze_seconds = 0.0  # however busy the disk was at the first point
    (run.root / "here/large").open("r+b").write(b"changed")
    with pytest.raises(PutOff) as why:
        run.maker.make(run.model)
    assert why.value.reason == "TooMuchToRead"


@anywhere
def test_a_freeze_that_was_slow_once_keeps_no_points_away_for_good(run: Run) -> None:
    (run.root / "here/a").write_bytes(b"a")
    run.mirror()
    assert run.point() == []
    run.maker.limits = Limits(max_stall=0.5)
    run.maker._standstill._freeze_seconds = 0.6
    (run.root / "here/a").write_bytes(b"b")
    reasons = []
    for _ in range(20):
        try:
            assert run.maker.make(run.model)
            break
        except PutOff as e:
            reasons.append(e.reason)
    else:
        raise AssertionError("it is never tried again")
    assert set(reasons) == {"FreezeTooSlow"}


HINTS_ALONE = Limits(max_stall=30.0, look_seconds=-1.0)
"""As where there are so many objects that their ctimes cannot all be looked at while frozen."""


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    """Through a mapping that stays, so that no event tells of what is written."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 4096) as mapping:
        yield mapping


def test_a_page_that_was_dirty_and_is_written_again_after_the_pass_is_in_the_point(run: Run) -> None:
    path = run.root / "here/mapped"
    path.write_bytes(bytes(4096))
    time.sleep(1.2)  # it has settled: a pass may trust what it reads of it
    run.mirror()
    assert run.point() == []
    with mapped(path) as mapping:
        mapping[0:8] = b"first..."
        time.sleep(1.2)
        run.freezer.before_freeze = lambda: mapping.__setitem__(slice(0, 8), b"second..")
        assert run.point() == []
        run.freezer.before_freeze = lambda: None
    assert path.read_bytes()[:8] == b"second.."


@pytest.mark.parametrize("limits", [PATIENT, HINTS_ALONE], ids=["all ctimes", "hints alone"])
def test_what_happens_up_to_the_freeze_is_in_the_point(run: Run, limits: Limits) -> None:
    here = run.root / "here"
    for name in ("written", "gone", "moved", "changed"):
        (here / name).write_bytes(b"before")
    run.maker.limits = limits
    run.mirror()
    assert run.point() == []

    def late() -> None:
        with (here / "written").open("r+b") as file:
            file.write(b"after!")
        (here / "gone").unlink()
        (here / "moved").rename(here / "elsewhere")
        (here / "changed").chmod(0o600)
        (here / "new").mkdir()
        (here / "new/file").write_bytes(b"new")

    (here / "any").write_bytes(b"so that there is a point")
    run.freezer.before_freeze = late
    assert run.point() == []


@pytest.mark.parametrize("limits", [PATIENT, HINTS_ALONE], ids=["all ctimes", "hints alone"])
def test_a_file_that_got_the_inode_number_of_another_is_told_whole(run: Run, limits: Limits) -> None:
    here = run.root / "here"
    (here / "old").write_bytes(b"o" * 100_000)
    run.maker.limits = limits
    run.mirror()
    assert run.point() == []
    number = (here / "old").stat().st_ino
    reused = False
    for round_ in range(5):
        (here / "old").unlink()
        (here / f"new{round_}").write_bytes(b"o" * 50_000 + bytes([round_]) * 50_000)
        reused = reused or (here / f"new{round_}").stat().st_ino == number
        assert run.point() == []
        (here / f"new{round_}").rename(here / "old")
        number = (here / "old").stat().st_ino
    assert reused or run.kind != "ext4"


@anywhere
@pytest.mark.parametrize("run", [Run], indirect=True)
def test_a_change_that_nothing_hints_at_is_counted_and_in_the_next_point(run: Run) -> None:
    path = run.root / "here/mapped"
    path.write_bytes(bytes(4096))
    time.sleep(1.2)
    run.maker.limits = HINTS_ALONE
    run.mirror()
    assert run.point() == []
    time.sleep(1.2)
    with mapped(path) as mapping:
        (run.root / "here/other").write_bytes(b"so that there is a point")
        run.freezer.before_freeze = lambda: mapping.__setitem__(slice(0, 8), b"unseen..")
        assert run.point() != []
        run.freezer.before_freeze = lambda: None
        time.sleep(0.5)
        assert run.point() == []
        assert run.maker.figures.missed == 1
        # From now on it is looked at each time.
        (run.root / "here/other").write_bytes(b"again")
        run.freezer.before_freeze = lambda: mapping.__setitem__(slice(0, 8), b"seen....")
        assert run.point() == []
        assert run.maker.figures.missed == 1
        run.freezer.before_freeze = lambda: None


@anywhere
@pytest.mark.parametrize("run", [Run], indirect=True)
def test_a_file_that_is_only_closed_after_a_point_is_not_counted_as_missed(run: Run) -> None:
    path = run.root / "here/written"
    path.write_bytes(b"before")
    run.mirror()
    assert run.point() == []
    with path.open("r+b", buffering=0) as file:
        file.write(b"after!")
        assert run.point() == []
    # Closing is hinted at and changes nothing. The point that a pass has told of it by is put off.
    run.maker.limits = Limits(max_stall=0.0)
    with pytest.raises(PutOff):
        run.maker.make(run.model)
    run.maker.limits = PATIENT
    run.maker._passes.everywhere.again = 0.0
    assert run.point() == []
    assert run.maker.figures.missed == 0


@anywhere
@pytest.mark.parametrize("taken", ["unlinked", "replaced", "its directory is gone"])
def test_a_file_that_loses_one_of_its_names_is_not_counted_as_missed(run: Run, taken: str) -> None:
    (run.root / "here/beside").mkdir()
    path, second = run.root / "here/file", run.root / "here/beside/second"
    path.write_bytes(b"content")
    os.link(path, second)
    run.maker.limits = HINTS_ALONE
    run.mirror()
    assert run.point() == []
    run.maker._passes.everywhere.again = math.inf
    # Its ctime moves, and what is hinted is the name that it has no more.
    match taken:
        case "unlinked":
            second.unlink()
        case "replaced":
            (run.root / "here/other").write_bytes(b"other")
            (run.root / "here/other").rename(second)
        case _:
            shutil.rmtree(run.root / "here/beside")
    assert run.point() == []
    run.maker._passes.everywhere.again = 0.0
    (run.root / "here/further").write_bytes(b"so that there is a point")
    assert run.point() == []
    assert run.maker.figures.missed == 0


@anywhere
def test_a_point_whose_volume_was_thawed_by_another_is_thrown_away(run: Run) -> None:
    (run.root / "here/a").write_bytes(b"a")
    run.mirror()
    assert run.point() == []
    at = list(run.model.at_ns)
    (run.root / "here/a").write_bytes(b"changed")
    run.freezer.before_thaw = lambda: ioctl(run.root, FITHAW)
    with pytest.raises(FreezeLost):
        run.maker.make(run.model)
    assert run.model.at_ns == at
    assert run.maker.figures.lost == 1
    run.freezer.before_thaw = run.see
    (run.root / "here/a").write_bytes(b"and again")
    assert run.point() == []


@anywhere
def test_a_volume_that_another_has_frozen_is_put_off_and_goes_on_by_itself(run: Run) -> None:
    (run.root / "here/a").write_bytes(b"a")
    run.mirror()
    assert run.point() == []
    (run.root / "here/a").write_bytes(b"changed")
    run.freezer.before_freeze = lambda: ioctl(run.root, FIFREEZE)
    with pytest.raises(NotFrozen) as why:
        run.maker.make(run.model)
    assert why.value.reason == "FrozenByAnother"
    assert run.maker.figures.put_off == {"FrozenByAnother": 1}
    run.freezer.before_freeze = lambda: None
    ioctl(run.root, FITHAW)
    assert run.point() == []


@anywhere
@pytest.mark.parametrize("bad", ["lost", "lost and not kept", "refused"])
def test_a_point_that_has_not_come_is_told_again_with_the_next(run: Run, bad: str) -> None:
    here = run.root / "here"
    for name in ("a", "b", "c", "d"):
        (here / name).write_bytes(name.encode() * 200_000)
    time.sleep(1.2)
    run.mirror()
    assert run.point() == []
    (here / "a").write_bytes(b"changed")
    (here / "b").rename(here / "moved")
    (here / "c").unlink()
    (here / "new").write_bytes(b"new" * 100_000)
    with (here / "d").open("r+b") as file:
        file.write(b"x")
    if bad == "lost and not kept":
        run.maker.queue.room = Room(memory=100_000, disk=0)
    if bad.startswith("lost"):
        run.model.lose = True
        run.maker.make(run.model)
        (here / "moved").rename(here / "moved again")
        assert run.maker.go_on(run.model)
        assert run.maker.figures.told_again == (bad == "lost")
    else:
        run.model.refuse = m.FailureReason.FULL
        run.maker.make(run.model)
        (here / "moved").rename(here / "moved again")
        with pytest.raises(PointRefused):
            run.maker.make(run.model)
    assert run.point() == []
    assert (run.maker.through_ns or 0) < run.model.at_ns[-1]
    run.maker.hear(run.model, 0.0)
    assert run.maker.through_ns == run.model.at_ns[-1]


@anywhere
def test_ten_thousand_files_come_and_go_within_one_interval(run: Run) -> None:
    run.mirror()
    assert run.point() == []
    for number in range(10_000):
        path = run.root / "here" / f"t{number % 100}"
        path.write_bytes(b"t")
        path.unlink()
    (run.root / "here/stays").write_bytes(b"s")
    assert run.point() == []


def test_a_directory_that_leaves_the_volume_and_comes_back_is_whole(run: Run, tmp_path: Path) -> None:
    here = run.root / "here"
    (here / "d/e").mkdir(parents=True)
    (here / "d/e/f").write_bytes(b"f")
    run.mirror()
    assert run.point() == []
    (here / "d").rename(run.root / "lost+found-not")
    (run.root / "lost+found-not/e/f").write_bytes(b"changed")
    assert run.point() == []
    (run.root / "lost+found-not").rename(here / "d")
    (here / "d/e/g").write_bytes(b"g")
    assert run.point() == []
