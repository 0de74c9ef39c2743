"""A watch of a copy that changes follow to as they come: nothing that we write is taken for somebody else's, whatever
message brings it; and all that others do is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.fs.journal.others import CHANGED
from storagemirror.fs.target import TargetVolume
from storagemirror.terms import OrphanPolicy, Rule, Terms
from tests.cluster.layout import checkout
from tests.support.disks import disk
from tests.support.drifting import write_everywhere
from tests.support.followed import Followed, followed, storm
from tests.support.trees import write

CHANGES = {"Pack", "Begin", "Data", "End", "Delta", "Hole", "Copy", "Link", "Rename", "Moves", "Delete", "Flags"}
"""All that changes a copy."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Followed]:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for number in range(12):
        write(source / f"d{number % 3}/f{number}", os.urandom(9_000))
    with followed(source, target) as made:
        assert made.volume.watch.armed, made.volume.watch.reason
        yield made


def renamed_unseen(made: Followed, seed: int) -> None:
    """Found by the next comparison, as nobody watched."""
    write(made.source / f"unseen{seed}/file", os.urandom(3_000))
    made.follow()
    (made.source / f"unseen{seed}").rename(made.source / f"elsewhere{seed}")
    made.seen.drain(0.0)
    made.mirror()


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs"])
def test_a_storm_of_everything_raises_no_false_alarm(tmp_path: Path, kind: str) -> None:
    messages: set[str] = set()
    for seed in range(3):
        base = tmp_path / str(seed)
        base.mkdir()
        with (
            disk(base, "ext4", 600, "source") as source,
            disk(base, kind, 600, "target") as target,
            followed(source.path, target.path) as made,
        ):
            assert storm(made, seed, 50) == ""
            renamed_unseen(made, seed)
            made.mirror()
            made.follow()
            assert made.same() == ""
            assert made.volume.told == [], f"seed {seed}"
            messages |= set(made.messages)
            # It has not gone blind: what is in any directory is seen.
            expected = write_everywhere(target.path)
            assert made.others() == expected, f"seed {seed}"
    assert messages >= CHANGES


def test_neither_does_one_that_an_agent_without_privilege_applies(tmp_path: Path) -> None:
    """It must let itself into directories that are closed to it, and close them again."""
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", sys.executable, "-m", "tests.support.followed"]
    env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"}
    ended = subprocess.run(
        [*words, tmp_path, "0", "3"], env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_more_than_the_kernel_keeps_for_us_is_made_and_deleted_without_an_alarm(made: Followed) -> None:
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    many = made.source / "many"
    for number in range(limit + 2_000):
        write(many / f"{number % 7}/f{number}", "x")
    made.follow()
    assert made.same() == ""
    shutil.rmtree(many)
    made.follow()
    assert not (made.target / "many").exists()
    assert made.volume.told == []
    assert made.others() == set()


def test_directories_that_change_places_in_one_message_raise_none(made: Followed) -> None:
    """A place is known by its path, and each of these has been another's within the same message."""
    for turn in range(5):
        for number in range(3):
            write(made.source / f"d{number}/f{number}", f"{turn}")
        names = ("d0", "d1", "d2")
        (made.source / "d0/f0").rename(made.source / f"d0/g{turn}")
        (made.source / names[0]).rename(made.source / "d9")
        (made.source / names[1]).rename(made.source / names[0])
        (made.source / "d0/f1").rename(made.source / f"d0/h{turn}")
        (made.source / names[2]).rename(made.source / names[1])
        (made.source / "d9").rename(made.source / names[2])
        made.follow()
        assert made.same() == ""
    assert made.messages["Rename"]
    assert made.volume.told == []
    assert made.others() == set()


def test_what_others_do_is_told_without_anybody_asking(made: Followed) -> None:
    (made.target / "d1/f1").chmod(0o600)
    end = time.monotonic() + 3
    while not made.volume.told and time.monotonic() < end:
        time.sleep(0.01)
    assert [changed.first for changed in made.volume.told] == [(b"d1/f1",)]


def test_content_under_an_equal_size_and_time_is_mended_by_the_next_mirror(made: Followed) -> None:
    file = made.target / "d1/f1"
    before = file.stat()
    file.write_bytes(os.urandom(before.st_size))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert made.others() == {b"d1/f1"}
    made.mirror()
    assert made.same() == ""
    assert getattr(made.volume.promotable(), "reason", "") == CHANGED, "until that is durable"
    made.follow()
    assert getattr(made.volume.promotable(), "reason", "") == "NoPoint"
    assert made.others() == set(), "it counts anew"


def test_what_is_changed_while_a_mirror_runs_is_told_and_noted_for_the_next_one(made: Followed) -> None:
    file = made.target / "d1/f1"
    file.write_bytes(b"one")
    scan = made.volume.tree.open_directory
    done: list[bool] = []

    def meanwhile(path: bytes) -> int:
        """Once the root has been looked at, and before all is."""
        if path == b"d2" and not done:
            done.append(True)
            (made.target / "d0/f0").write_bytes(b"two")
        return scan(path)

    made.volume.tree.open_directory = meanwhile  # type: ignore[method-assign]
    made.mirror()
    made.volume.tree.open_directory = scan  # type: ignore[method-assign]
    made.follow()
    assert done
    assert made.others() == {b"d0/f0"}
    assert getattr(made.volume.promotable(), "reason", "") == CHANGED
    assert made.volume.journal.changed_since_ns
    made.mirror()
    made.follow()
    assert made.same() == ""
    assert getattr(made.volume.promotable(), "reason", "") == "NoPoint"


def test_where_orphans_stay_on_purpose_nothing_is_watched(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with followed(source, target, Terms(orphans=OrphanPolicy.REPORT)) as made:
        assert not made.volume.watch.armed
        assert not made.volume.watch.reason


def test_what_rules_leave_out_is_nobodys(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write(source / "cache/x", "x")
    write(source / "d/a.log", "x")
    write(source / "d/f", "x")
    target.mkdir()
    with followed(source, target, Terms(rules=(Rule(False, b"*.log"), Rule(False, b"/cache/")))) as made:
        (target / "cache").mkdir()
        (target / "cache/y").write_text("x")
        (target / "d/b.log").write_text("x")
        assert made.others() == set()
        (target / "d/f").write_text("y")
        assert made.others() == {b"d/f"}


def test_a_note_is_not_lost_with_the_process(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    write(source / "d/f", "x")
    target.mkdir()
    with followed(source, target) as made:
        (target / "d/f").write_text("y")
        changed = made.volume.watch.changed()
        assert changed is not None
        made.volume.journal.spoil_changed(changed)
    with TargetVolume.open(str(target)) as volume:
        assert getattr(volume.promotable(), "reason", "") == CHANGED
