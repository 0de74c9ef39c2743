"""What somebody changes on a copy that cannot be watched: found by full comparisons, told by name, and told apart from
what changed on the source."""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.contract import BeatOrder, Drifted, Phase, ReplicationMode, ReplicationOrder, RunDone
from tests.support.agents import AgentPair, fill, wait_for
from tests.support.disks import disk
from tests.support.drifting import start_unwatched

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
OLD = 2.2
"""Seconds after which a change time is surely of before: one is left for clocks of whole seconds."""


def drifted(pair: AgentPair) -> Drifted | None:
    report = pair.source.report()
    return report.drifted if report is not None else None


def run(pair: AgentPair, name: str) -> RunDone:
    pair.source.give(replication=ReplicationOrder(mode=ReplicationMode.MANUAL, run=name))

    def there() -> RunDone | None:
        report = pair.source.report()
        found = report.run if report is not None else None
        return found if found is not None and found.run == name else None

    found = wait_for(there, f"the run {name}", 30, pair.tell)
    assert found is not None
    return found


def settled(pair: AgentPair) -> None:
    fill(pair.source.volume, 100)
    time.sleep(OLD)
    start_unwatched(pair, beat=QUICK, replication=ReplicationOrder(mode=ReplicationMode.MANUAL))
    run(pair, "one")
    assert pair.equal()


@contextmanager
def changed_unseen(file: Path) -> Iterator[None]:
    """Another content, through a memory map: no watch names it while the file is open."""
    fd = os.open(file, os.O_RDWR)
    try:
        with mmap.mmap(fd, 0) as mapped:
            mapped[0:1] = b"#"
            mapped.flush()
            yield
    finally:
        os.close(fd)


def change_everything_on(root: Path) -> None:
    """On the source: what is changed there is no drift, whatever old times it has."""
    (root / "d1/sub/f1").write_text("changed")
    (root / "d1/sub/f11").unlink()
    (root / "d1/sub/new").write_text("new")
    # A directory in the place of another: all that is in it has old times.
    (root / "d2").rename(root / "old")
    (root / "d3").rename(root / "d2")
    (root / "d4/sub/f4").chmod(0o600)
    times = (root / "d4").stat()
    (root / "d4/sub/f14").rename(root / "d4/moved")
    os.utime(root / "d4", ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_what_was_changed_on_the_target_is_told_by_name_and_nothing_else_is(
    pair: AgentPair, tmp_path: Path, kind: str
) -> None:
    with disk(tmp_path, kind, 300, "source") as made:
        pair.source.volume = made.path
        try:
            settled(pair)
            there = pair.target.volume
            (there / "d5/sub/f5").write_text("by somebody")
            (there / "d6/sub/f6").unlink()
            (there / "d7/sub/mine").write_text("by somebody")
            (there / "d8/sub/f8").chmod(0o600)
            (there / "d0/sub").rename(there / "d0/gone")
            change_everything_on(pair.source.volume)
            with changed_unseen(made.path / "d4/sub/f24"):
                run(pair, "two")
            assert pair.equal(), "the source's word holds"
            wait_for(lambda: drifted(pair) is not None and drifted(pair), "a word of it", 10, pair.tell)
            found = drifted(pair)
            assert found is not None
            assert set(found.first) == {"d5/sub/f5", "d6/sub/f6", "d7/sub/mine", "d8/sub/f8", "d0/sub", "d0/gone"}
            assert found.count == 6
            run(pair, "three")
            wait_for(lambda: drifted(pair) == Drifted(), "no word of what is mended", 10, pair.tell)
        finally:
            pair.close()


def test_a_copy_that_follows_is_looked_at_by_each_full_comparison(pair: AgentPair) -> None:
    fill(pair.source.volume, 50)
    pair.source.settings["STORAGEMIRROR_COMPARE_SECONDS"] = "1"
    time.sleep(OLD)
    start_unwatched(pair, beat=QUICK)
    pair.until(Phase.REPLICATING)
    wait_for(lambda: drifted(pair) == Drifted(), "the second comparison", 20, pair.tell)
    (pair.target.volume / "d1/sub/f1").write_text("by somebody")

    def told() -> Drifted | None:
        found = drifted(pair)
        return found if found is not None and found.count else None

    wait_for(told, "it to be found", 20, pair.tell)
    assert "were changed there, not by us" in pair.source.log()
    wait_for(pair.equal, "it to be mended", 10, pair.tell)


def test_after_a_break_of_the_connection_nothing_is_said_that_is_not_known(pair: AgentPair) -> None:
    settled(pair)
    pair.target.kill(signal.SIGKILL)
    (pair.target.volume / "d5/sub/f5").write_text("by somebody")
    pair.target.start()
    pair.introduce()
    run(pair, "two")
    assert pair.equal()
    assert drifted(pair) is None
