"""A watch of a copy that is kept by points: everything that others do to it, and nothing that points do."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from storagemirror.clock import SystemClock
from storagemirror.fs.journal.journal import NotPromotable, Promotable
from storagemirror.fs.journal.others import CHANGED, Changed
from storagemirror.fs.selection import Selection
from storagemirror.fs.target import TargetVolume
from storagemirror.point import MIRROR
from storagemirror.sync import copywatch
from storagemirror.sync.copywatch import CopyWatch
from storagemirror.terms import Rule
from tests.cluster.layout import checkout
from tests.support.disks import disk
from tests.support.drifting import write_everywhere
from tests.support.points import Look, Tree, commit, copy, difference, feed, look, take


@dataclass
class Kept:
    """A copy that is kept by points, and its watch."""

    source: Path
    target: Path
    volume: TargetVolume
    watch: CopyWatch
    told: list[Changed]
    before: Look
    number: int = 0
    rnd: random.Random = field(default_factory=lambda: random.Random(1))

    def point(self) -> None:
        """Of what the source is now."""
        now = look(self.source)
        self.number += 1
        records = difference(self.before, now, self.rnd)
        take(self.volume.journal, records, self.number, MIRROR if self.number == 1 else None)
        self.before = now

    def others(self) -> set[bytes]:
        """What they have changed."""
        changed = self.watch.changed()
        return set(changed.first) if changed is not None else set()


@contextmanager
def kept(source: Path, target: Path) -> Iterator[Kept]:
    """Equal at first, and at a point."""
    copy(source, target)
    told: list[Changed] = []
    with TargetVolume.open(str(target)) as volume:
        volume.claim()
        watch = CopyWatch(volume.tree, SystemClock(), told.append)
        volume.others = watch
        made = Kept(source, target, volume, watch, told, look(source))
        watch.arm(None)
        assert watch.armed, watch.reason
        made.point()
        try:
            yield made
        finally:
            watch.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Kept]:
    source = tmp_path / "source"
    for number in range(12):
        where = source / f"d{number % 3}"
        where.mkdir(parents=True, exist_ok=True)
        (where / f"f{number}").write_bytes(b"x" * 5_000)
    with disk(tmp_path, "ext4", 64, "target") as target, kept(source, target.path) as made:
        yield made


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_points_of_every_kind_are_not_taken_for_others(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copywatch, "TOUCHED", 7)  # it is taken up and forgotten again within each point
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1 << 30)
    rnd = random.Random(seed)
    with disk(tmp_path, "ext4", 64, "source") as source, disk(tmp_path, kind, 400, "target") as target:
        tree = Tree(source.path, rnd)
        tree.grow(60)
        with kept(source.path, target.path) as made:
            for number in range(40):
                tree.grow(rnd.choice((1, 5, 40)))
                made.point()
                assert made.others() == set(), f"seed {seed}, point {number}"
            assert made.volume.promotable() == Promotable(made.number, made.number * 1_000_000_000)
            # It has not gone blind: what is in any directory is seen.
            expected = write_everywhere(target.path)
            assert made.others() == expected, f"seed {seed}"


def test_a_point_that_is_refused_or_dropped_is_not_taken_for_others(pair: Kept) -> None:
    (pair.source / "d0/f0").write_bytes(b"y" * 9_000)
    (pair.source / "d0/f3").rename(pair.source / "d1/g")
    records = difference(pair.before, look(pair.source))
    incoming = pair.volume.journal.begin(1, 9, pair.volume.journal.base)
    feed(incoming, records)
    pair.volume.journal.drop()
    assert pair.others() == set()


def test_a_program_that_runs_from_the_copy_has_the_point_refused_and_not_half_applied(pair: Kept) -> None:
    shutil.copy("/bin/sleep", pair.source / "d0/sleep")
    pair.point()
    with subprocess.Popen([pair.target / "d0/sleep", "60"]) as running:
        try:
            with (pair.source / "d0/sleep").open("r+b") as file:
                file.write(b"changed")
            with pytest.raises(OSError, match="busy"):
                pair.point()
            pair.volume.journal.drop()
        finally:
            running.kill()
    assert pair.others() == set(), "that it was tried is not taken for others"
    assert isinstance(pair.volume.promotable(), Promotable)
    pair.number += 1
    pair.point()
    assert pair.others() == set()
    assert (pair.target / "d0/sleep").read_bytes() == (pair.source / "d0/sleep").read_bytes()


def test_what_others_do_while_a_point_is_applied_is_seen_and_the_volume_is_no_point(pair: Kept) -> None:
    (pair.source / "d0/f0").write_bytes(b"y" * 9_000)
    (pair.source / "d0").rename(pair.source / "d9")
    now = look(pair.source)
    sync = pair.volume.journal.sync
    done: list[bool] = []

    def meanwhile() -> None:
        """Between two steps: another process would be as quick."""
        if not done:
            done.append(True)
            (pair.target / "d1/f1").write_bytes(b"by somebody")
        sync()

    pair.volume.journal.sync = meanwhile
    pair.volume.journal.apply(commit(pair.volume.journal, difference(pair.before, now), 2))
    assert pair.others() == {b"d1/f1"}
    found = pair.volume.promotable()
    assert isinstance(found, NotPromotable)
    assert found.reason == CHANGED
    assert "d1/f1" in found.message
    assert pair.volume.journal.base == MIRROR, "no point goes on from there"


def test_others_are_told_without_anybody_asking(pair: Kept) -> None:
    (pair.target / "d1/f1").chmod(0o600)
    end = time.monotonic() + 3
    while not pair.told and time.monotonic() < end:
        time.sleep(0.01)
    assert [changed.first for changed in pair.told] == [(b"d1/f1",)]


def test_each_way_of_changing_is_named(pair: Kept) -> None:
    there = pair.target
    (there / "d0/f0").write_bytes(b"w")
    (there / "d0/f3").unlink()
    (there / "d0/f6").rename(there / "d1/moved")
    (there / "d1/made").mkdir()
    os.link(there / "d1/f1", there / "d1/linked")
    os.setxattr(there / "d1/f4", "user.x", b"x")
    os.utime(there / "d1/f7", ns=(0, 0))
    shutil.rmtree(there / "d2")
    os.chmod(there, 0o701)
    within = {b"d2/f%d" % number for number in (2, 5, 8, 11)}
    named = {b"d0/f0", b"d0/f3", b"d0/f6", b"d1/moved", b"d1/made", b"d1/linked", b"d1/f4", b"d1/f7", b"d2", b""}
    assert pair.others() == named | within


def test_reading_and_what_is_ours_or_left_out_is_nothing(pair: Kept) -> None:
    pair.watch.disarm()
    pair.watch.arm(Selection((Rule(False, b"*.log"), Rule(False, b"/cache/"))))
    for file in pair.target.glob("d*/*"):
        file.read_bytes()
    (pair.target / ".storagemirror/mine").write_text("x")
    (pair.target / "lost+found/mine").write_text("x")
    (pair.target / "d0/a.log").write_text("x")
    (pair.target / "cache").mkdir()
    (pair.target / "cache/x").write_text("x")
    assert pair.others() == set()


def test_a_file_that_is_changed_has_no_ctime_of_before(pair: Kept) -> None:
    time.sleep(0.05)
    (pair.target / "d1/f1").write_bytes(b"by somebody")
    os.utime(pair.target / "d1/f1", ns=(0, 0))
    changed = pair.watch.changed()
    assert changed is not None
    assert changed.since_ns <= (pair.target / "d1/f1").stat().st_ctime_ns


def test_names_are_bounded_and_counted(pair: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copywatch, "REMEMBERED", 10)
    for number in range(50):
        os.mkfifo(pair.target / f"d0/p{number}")
    changed = pair.watch.changed()
    assert changed is not None
    assert (changed.count, len(changed.first), changed.lost) == (50, 10, False)


def test_more_events_than_the_kernel_keeps_are_no_silence(pair: Kept) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    held = pair.watch._lock  # so that nobody takes them meanwhile
    with held:
        for number in range(limit // 2 + 100):
            os.mkfifo(pair.target / f"d0/p{number}")
            os.chmod(pair.target / f"d0/p{number}", 0o600)
    changed = pair.watch.changed()
    assert changed is not None
    assert changed.lost
    assert "at least" in changed.sentence
    (pair.target / "d0/after").write_text("x")
    assert pair.watch.armed


def test_a_root_that_is_gone_is_not_watched_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "volume/d").mkdir(parents=True)
    with TargetVolume.open(str(tmp_path / "volume")) as volume:
        watch = CopyWatch(volume.tree, SystemClock(), lambda changed: None)
        watch.arm(None)
        shutil.rmtree(tmp_path / "volume")
        watch.changed()
        assert not watch.armed
        assert watch.reason
        watch.close()


@pytest.mark.parametrize(("kind", "before", "first"), [("instances", False, []), ("watches", True, ["one"])])
def test_without_watches_it_says_that_it_sees_nothing(
    tmp_path: Path, kind: str, before: bool, first: list[str]
) -> None:
    words = ["unshare", "--user", "--map-root-user", sys.executable, "-m", "tests.support.copywatch_limits"]
    env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"}
    ended = subprocess.run([*words, kind, tmp_path], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert f"no more inotify {kind}" in found.pop("reason")
    assert found == {"before": before, "after": False, "quiet": None, "first": first}, "what was seen stays"


def test_it_ends(pair: Kept) -> None:
    pair.watch.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "copywatch"]
