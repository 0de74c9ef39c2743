"""What somebody changes on a copy that is kept by points: seen as it happens, told by name, and never believed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.contract import Drifted, MirrorOrder, ReplicationOrder
from storagemirror.fs.journal.others import CHANGED
from tests.support.agents import AgentPair, wait_for
from tests.support.disks import disk
from tests.support.drifting import CHANGES, drifted, promoted_in_doubt, same, until_drifted, write, write_unseen
from tests.support.pointpair import POINTS, pointing, until_point
from tests.support.running import running

OFTEN = ReplicationOrder(consistency=POINTS.consistency, interval_seconds=0.2, max_stall_seconds=2.0)
ANYTHING_GOES = MirrorOrder(max_delete_percent=100)
QUIET = "2"
"""Seconds without a finding after which the word of it ends."""


def until_promotable(pair: AgentPair, promotable: bool, seconds: float = 20.0) -> str:
    """Why not."""

    def there() -> str | None:
        report = pair.target.report()
        found = report.copy_point if report is not None else None
        return found.reason or "Point" if found is not None and found.promotable is promotable else None

    why = wait_for(there, f"promotable to be {promotable}", seconds, pair.tell)
    assert why is not None
    return why


@contextmanager
def following(pair: AgentPair, directory: Path) -> Iterator[Path]:
    """Both on ext4 of their own; the source has some files, and points flow. The source's volume."""
    with disk(directory, "ext4", 400, "copy") as copy, pointing(pair, directory, "ext4") as (made, _):
        pair.target.volume = copy.path
        pair.target.settings["STORAGEMIRROR_COMPARE_SECONDS"] = QUIET
        for number in range(40):
            where = made.path / f"d{number % 4}"
            where.mkdir(exist_ok=True)
            (where / f"f{number}").write_bytes(os.urandom(9_000))
        pair.start(replication=OFTEN, mirror=ANYTHING_GOES)
        until_point(pair)
        until_promotable(pair, True)
        try:
            yield made.path
        finally:
            pair.close()


@contextmanager
def busy(root: Path) -> Iterator[None]:
    """Somebody writes the source: another point each 0.2 s."""
    (root / "busy").mkdir()
    with running("-m", "tests.support.pointstorm", root / "busy", "1", "all"):
        yield


@pytest.mark.parametrize("flow", [False, True], ids=["idle", "busy"])
def test_each_kind_of_change_is_told_at_once_and_mended(pair: AgentPair, tmp_path: Path, flow: bool) -> None:
    with following(pair, tmp_path) as source:
        for change, names in CHANGES.items():
            until_promotable(pair, True)
            if flow:
                with busy(source):
                    until_point(pair, (until_point(pair).number or 0) + 2)
                    began = time.monotonic()
                    change(pair.target.volume)
                    found = until_drifted(pair, *names)
            else:
                began = time.monotonic()
                change(pair.target.volume)
                found = until_drifted(pair, *names)
            took = time.monotonic() - began
            assert found.count == len(names), found
            print(f"{change.__name__}: told after {took:.2f} s")
            # Mended by the mirror that follows, whatever its size and time look like.
            wait_for(lambda: same(source, pair.target.volume), "it to be mended", 20, pair.tell)
            until_promotable(pair, True)
            if flow:
                subprocess.run(["rm", "-rf", source / "busy"], check=True)
                wait_for(lambda: not (pair.target.volume / "busy").exists(), "the rest to go", 10, pair.tell)
        wait_for(lambda: drifted(pair) == Drifted(), "no word of what is over", 20, pair.tell)


def test_the_copy_is_no_point_until_it_is_mended(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path):
        pair.source.kill()  # nobody mends it
        write_unseen(pair.target.volume)
        until_drifted(pair, "d1/f5")
        assert until_promotable(pair, False) == CHANGED
        pair.target.kill()
        pair.target.start()
        wait_for(lambda: pair.target.report() is not None, "it to be back", 10)
        assert until_promotable(pair, False) == CHANGED, "the volume says it itself"
        pair.source.start()
        pair.introduce()
        assert until_promotable(pair, True, 30) == "Point"
        assert same(pair.source.volume, pair.target.volume)


def test_a_file_that_the_next_point_changes_too_is_told_before_it_is_overwritten(
    pair: AgentPair, tmp_path: Path
) -> None:
    """The blocks that a point brings would leave a file that is neither side's."""
    with following(pair, tmp_path) as source:
        hot = source / "d0/hot"
        hot.write_bytes(os.urandom(400_000))
        wait_for(lambda: same(source, pair.target.volume), "it to be there", 10, pair.tell)
        stop = threading.Event()

        def heat() -> None:
            with hot.open("r+b") as file:
                while not stop.wait(0.02):
                    file.write(os.urandom(100))
                    file.seek(0)

        writer = threading.Thread(target=heat)
        writer.start()
        try:
            until_point(pair, (until_point(pair).number or 0) + 3)
            there = os.open(pair.target.volume / "d0/hot", os.O_WRONLY)
            for _ in range(3):  # one of them may meet a point just then
                os.pwrite(there, b"by somebody", 300_000)
                time.sleep(0.07)
            os.close(there)
            until_drifted(pair, "d0/hot")
            until_point(pair, (until_point(pair).number or 0) + 3)
            until_promotable(pair, True)
        finally:
            stop.set()
            writer.join()
        wait_for(lambda: same(source, pair.target.volume), "it to be equal", 10, pair.tell)
        assert b"by somebody" not in (pair.target.volume / "d0/hot").read_bytes()


def test_a_source_that_changes_everything_raises_no_false_alarm(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path) as source:
        mirrored = mirrored_at(pair)
        with busy(source):
            before = until_point(pair).number or 0
            until_point(pair, before + 60, 90)
        time.sleep(1.0)
        found = drifted(pair)
        assert found is None or found == Drifted(), pair.tell()
        assert mirrored_at(pair) == mirrored, "nothing was mirrored anew"
        assert "somebody else has changed" not in pair.target.log()
        write(pair.target.volume)  # and it would have been seen
        until_drifted(pair, "d1/f1")


def test_agents_that_are_killed_in_the_midst_of_points_raise_no_false_alarm(pair: AgentPair, tmp_path: Path) -> None:
    chance = random.Random(1)
    with following(pair, tmp_path) as source, busy(source):
        for _ in range(4):
            until_point(pair, (until_point(pair).number or 0) + 2, 60)
            time.sleep(chance.random() * 0.4)
            pair.target.kill()
            pair.target.start()
            pair.introduce()
        until_point(pair, (until_point(pair).number or 0) + 2, 60)
        assert "somebody else has changed" not in pair.target.log()


def test_a_changed_copy_that_is_promoted_all_the_same_is_in_doubt(pair: AgentPair, tmp_path: Path) -> None:
    """However quickly the order follows the change."""
    with following(pair, tmp_path):
        problem = promoted_in_doubt(pair)
        assert CHANGED in problem.message
        assert "d1/f5" in problem.message


def mirrored_at(pair: AgentPair) -> str | None:
    report = pair.source.report()
    return report.mirrored_at if report is not None else None


def test_whoever_only_reads_is_not_taken_for_a_writer(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path):
        for file in pair.target.volume.glob("d*/f*"):
            file.read_bytes()
            file.stat()
        os.listdir(pair.target.volume)
        time.sleep(1.0)
        found = drifted(pair)
        assert found is None or found == Drifted()


def test_an_agent_that_begins_anew_watches_from_its_start(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path):
        pair.source.kill()
        pair.target.kill()
        pair.target.start()
        wait_for(lambda: "of it are watched" in pair.target.log(), "it to watch", 20, pair.tell)
        write(pair.target.volume)
        until_drifted(pair, "d1/f1")
        assert until_promotable(pair, False) == CHANGED


def test_more_events_than_the_kernel_keeps_are_told_as_such(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path) as source:
        pair.target.kill(signal.SIGSTOP)
        there = pair.target.volume / "d2"
        for number in range(9_000):  # each is made, written and closed
            (there / f"m{number}").write_text("x")
        pair.target.kill(signal.SIGCONT)
        found = until_drifted(pair, "d2/m0")
        assert found.count > 1_000
        assert "at least" in pair.target.log()
        wait_for(lambda: same(source, pair.target.volume), "it to be mended", 30, pair.tell)
        assert until_promotable(pair, True) == "Point"
