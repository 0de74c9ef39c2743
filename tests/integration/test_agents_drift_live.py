"""What somebody changes on a copy that changes follow to as they come: seen as it happens, told by name, and mended."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.contract import Drifted, MirrorOrder, Phase, ReplicationMode, ReplicationOrder
from storagemirror.fs.target import TargetVolume
from tests.support.agents import AgentPair, wait_for
from tests.support.disks import disk
from tests.support.drifting import (
    CHANGES,
    drifted,
    make,
    promoted_in_doubt,
    same,
    start_unwatched,
    until_drifted,
    write,
    write_unseen,
)
from tests.support.running import running

ANYTHING_GOES = MirrorOrder(max_delete_percent=100)
QUIET = "5"
"""Seconds without a finding after which the word of it ends."""
NEVER = "3600"
"""Seconds between two comparisons that nobody asks for."""


@contextmanager
def volumes(pair: AgentPair, directory: Path) -> Iterator[Path]:
    """Both on ext4 of their own; the source has some files. Nothing runs yet."""
    with disk(directory, "ext4", 400, "copy") as copy, disk(directory, "ext4", 400, "live") as made:
        pair.source.volume, pair.target.volume = made.path, copy.path
        for number in range(40):
            where = made.path / f"d{number % 4}"
            where.mkdir(exist_ok=True)
            (where / f"f{number}").write_bytes(os.urandom(9_000))
        pair.source.settings["STORAGEMIRROR_COMPARE_SECONDS"] = NEVER
        pair.target.settings["STORAGEMIRROR_COMPARE_SECONDS"] = QUIET
        try:
            yield made.path
        finally:
            pair.close()


@contextmanager
def following(pair: AgentPair, directory: Path) -> Iterator[Path]:
    """Changes follow. The source's volume."""
    with volumes(pair, directory) as source:
        pair.start(mirror=ANYTHING_GOES)
        until_following(pair)
        yield source


def until_following(pair: AgentPair) -> None:
    pair.until(Phase.REPLICATING)
    wait_for(lambda: same(pair.source.volume, pair.target.volume), "both to be equal", 30, pair.tell)
    time.sleep(1.0)  # the mark after it


@contextmanager
def busy(root: Path, what: str = "all") -> Iterator[None]:
    """Somebody writes the source without a pause."""
    (root / "busy").mkdir(exist_ok=True)
    with running("-m", "tests.support.pointstorm", root / "busy", "1", what):
        yield


def until_mended(pair: AgentPair, seconds: float = 20.0) -> None:
    wait_for(lambda: same(pair.source.volume, pair.target.volume), "it to be mended", seconds, pair.tell)


def noted(pair: AgentPair) -> bool:
    """Whether the volume itself says that somebody has changed it."""
    with TargetVolume.open(str(pair.target.volume)) as volume:
        found = volume.promotable()
    return getattr(found, "reason", "") == "TargetChanged"


@pytest.mark.parametrize("flow", [False, True], ids=["idle", "busy"])
def test_each_kind_of_change_is_told_at_once_and_mended(pair: AgentPair, tmp_path: Path, flow: bool) -> None:
    with following(pair, tmp_path) as source:
        for change, names in CHANGES.items():
            if flow:
                with busy(source):
                    time.sleep(1.0)
                    began = time.monotonic()
                    change(pair.target.volume)
                    found = until_drifted(pair, *names)
            else:
                began = time.monotonic()
                change(pair.target.volume)
                found = until_drifted(pair, *names)
            print(f"{change.__name__}: told after {time.monotonic() - began:.2f} s")
            assert set(found.first) == set(names), found
            # Soon, not with the next comparison; whatever its size and time look like.
            until_mended(pair)
            wait_for(lambda: not noted(pair), "the volume to know that", 20, pair.tell)
        wait_for(lambda: drifted(pair) == Drifted(), "no word of what is over", 20, pair.tell)
        assert "not by us" not in pair.source.log(), "it is told once"


def test_it_is_told_although_the_source_writes_the_same_file_all_the_time(pair: AgentPair, tmp_path: Path) -> None:
    """Where nobody looked at once, the next change of the source would overwrite it in silence."""
    with following(pair, tmp_path) as source:
        stop = threading.Event()

        def heat() -> None:
            while not stop.wait(0.02):
                (source / "d0/hot").write_bytes(os.urandom(5_000))

        writer = threading.Thread(target=heat)
        writer.start()
        try:
            wait_for((pair.target.volume / "d0/hot").exists, "it to be there", 10, pair.tell)
            time.sleep(0.5)
            for _ in range(5):  # one of them may meet a write of ours just then
                with (pair.target.volume / "d0/hot").open("r+b") as file:
                    file.write(b"by somebody")
                time.sleep(0.013)
            until_drifted(pair, "d0/hot")
        finally:
            stop.set()
            writer.join()
        until_mended(pair)


def test_what_the_source_overwrites_right_after_is_told_all_the_same(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path) as source:
        (pair.target.volume / "d1/f1").write_bytes(b"by somebody")
        (source / "d1/f1").write_bytes(b"by the application")
        until_drifted(pair, "d1/f1")
        until_mended(pair)
        (source / "d1/f5").write_bytes(b"by the application")
        until_mended(pair)
        (pair.target.volume / "d1/f5").write_bytes(b"by somebody")
        until_drifted(pair, "d1/f5")
        until_mended(pair)


def test_whoever_writes_the_copy_without_end_does_not_keep_it_from_following(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path) as source:
        stop = threading.Event()

        def meddle() -> None:
            number = 0
            while not stop.wait(0.05):
                number += 1
                (pair.target.volume / f"d2/mine{number % 7}").write_text("by somebody")

        writer = threading.Thread(target=meddle)
        writer.start()
        try:
            until_drifted(pair, "d2/mine1")
            for number in range(30):
                (source / f"d3/new{number}").write_text(f"{number}")
                time.sleep(0.2)
            last = pair.target.volume / "d3/new29"
            wait_for(last.exists, "what the source wrote to be there", 5, pair.tell)
            compared = pair.source.log().count("it was compared")
            assert 1 <= compared <= 4, "again and again, but not all the time"
            assert pair.source.log().count("connected to") == 1, "and the connection goes on"
        finally:
            stop.set()
            writer.join()
        until_mended(pair)


def test_a_source_that_changes_everything_raises_no_false_alarm(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path) as source:
        with busy(source):
            time.sleep(20)
        until_mended(pair, 30)
        found = drifted(pair)
        assert found is None or found == Drifted(), pair.tell()
        assert "somebody else has changed" not in pair.target.log()
        make(pair.target.volume)  # and it would have been seen
        until_drifted(pair, "d2/mine")


def test_agents_and_connections_that_die_in_the_midst_raise_no_false_alarm(pair: AgentPair, tmp_path: Path) -> None:
    chance = random.Random(1)
    with following(pair, tmp_path) as source, busy(source):
        for number in range(6):
            time.sleep(1 + chance.random())
            agent = pair.source if number % 2 else pair.target
            agent.kill()
            agent.start()
            pair.introduce()
            pair.until(Phase.REPLICATING, 60)
        time.sleep(1)
        assert "somebody else has changed" not in pair.target.log()


def test_it_is_told_without_a_source_and_between_connections(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path):
        pair.source.kill()
        write_unseen(pair.target.volume)
        until_drifted(pair, "d1/f5")
        wait_for(lambda: noted(pair), "the volume to say it itself", 10, pair.tell)
        time.sleep(float(QUIET) + 1)
        until_drifted(pair, "d1/f5")  # nobody has mended it
        pair.source.start()
        pair.introduce()
        until_mended(pair, 30)
        wait_for(lambda: not noted(pair), "the volume to know that", 20, pair.tell)
        wait_for(lambda: drifted(pair) == Drifted(), "no word of what is over", 20, pair.tell)


def test_what_was_noted_survives_an_agent_that_is_killed_before_it_is_mended(pair: AgentPair, tmp_path: Path) -> None:
    """The content differs under an equal size and time: no comparison would find it without the note."""
    with following(pair, tmp_path):
        pair.source.kill()  # nobody mends it
        write_unseen(pair.target.volume)
        until_drifted(pair, "d1/f5")
        pair.target.kill()
        assert noted(pair)
        pair.target.start()
        pair.source.start()
        pair.introduce()
        until_mended(pair, 30)
        wait_for(lambda: not noted(pair), "the volume to know that", 20, pair.tell)


def test_between_two_runs_it_is_told_and_the_next_run_mends_it(pair: AgentPair, tmp_path: Path) -> None:
    def run(name: str) -> None:
        pair.source.give(replication=ReplicationOrder(mode=ReplicationMode.MANUAL, run=name))

        def done() -> bool:
            report = pair.source.report()
            return report is not None and report.run is not None and report.run.run == name

        wait_for(done, f"the run {name}", 30, pair.tell)

    with volumes(pair, tmp_path) as source:
        pair.start(mirror=ANYTHING_GOES, replication=ReplicationOrder(mode=ReplicationMode.MANUAL))
        run("one")
        assert same(source, pair.target.volume)
        write_unseen(pair.target.volume)
        until_drifted(pair, "d1/f5")
        time.sleep(3)
        assert not same(source, pair.target.volume), "nothing is sent between two runs"
        run("two")
        assert same(source, pair.target.volume)


def test_a_changed_copy_that_is_promoted_all_the_same_is_in_doubt(pair: AgentPair, tmp_path: Path) -> None:
    """However quickly the order follows the change."""
    with following(pair, tmp_path):
        problem = promoted_in_doubt(pair)
        assert "somebody else has changed the copy (1 entries, the first: d1/f5)" in problem.message


def test_without_watches_it_says_so_and_comparisons_have_the_word(pair: AgentPair, tmp_path: Path) -> None:
    with volumes(pair, tmp_path) as source:
        pair.source.settings["STORAGEMIRROR_COMPARE_SECONDS"] = "1"
        time.sleep(2.2)  # what is older than a comparison is told from what the source changes
        start_unwatched(pair, mirror=ANYTHING_GOES)
        until_following(pair)
        found = wait_for(lambda: drifted(pair), "a word of it", 10, pair.tell)
        assert found is not None
        assert found.unwatched.startswith("WatchLimit: ")

        def compared() -> Drifted | None:
            report = pair.source.report()
            return report.drifted if report is not None else None

        wait_for(lambda: compared() == Drifted(), "the second comparison", 20, pair.tell)
        write(pair.target.volume)
        wait_for(lambda: (now := compared()) is not None and now.first == ("d1/f1",), "it to be found", 20, pair.tell)
        until_mended(pair)
        assert same(source, pair.target.volume)


def test_a_directory_that_came_later_is_watched_too(pair: AgentPair, tmp_path: Path) -> None:
    with following(pair, tmp_path) as source:
        subprocess.run(["cp", "-a", "/usr/lib/python3", source / "tree"], check=False)
        (source / "tree/of/directories").mkdir(parents=True)
        (source / "tree/of/directories/file").write_text("x")
        until_mended(pair)
        (source / "tree").rename(source / "moved")
        until_mended(pair)
        (pair.target.volume / "moved/of/directories/file").write_text("y")
        until_drifted(pair, "moved/of/directories/file")
        assert drifted(pair) is not None
        until_mended(pair)
