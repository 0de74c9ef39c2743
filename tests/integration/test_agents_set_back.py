"""The clock of the source's node is set back by an hour while it is replicated.

Nothing is lost, nobody is told for an hour that all is on the copy, and what is told of the lag stays true.
"""

from __future__ import annotations

import mmap
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from storagemirror.clock import from_rfc3339
from storagemirror.contract import BeatOrder, Phase, ReplicationOrder
from storagemirror.fs.target import TargetVolume
from tests.support.agents import Agent, AgentPair, equal_soon, wait_for
from tests.support.disks import disk
from tests.support.pointpair import POINTS, pointing, points, until_point
from tests.support.setclock import CLOCK_FILE, PROGRAM, set_clock

HOUR = 3600.0
QUICK = BeatOrder(interval_seconds=0.5, missed=4)


def start(pair: AgentPair, clock: Path, replication: ReplicationOrder | None = None) -> None:
    """As `AgentPair.start`; the source's clock is an hour ahead."""
    set_clock(clock, HOUR)
    pair.source.settings[CLOCK_FILE] = str(clock)
    pair.start_as(source=PROGRAM, beat=QUICK, replication=replication or ReplicationOrder())


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    return tmp_path / "clock"


@pytest.fixture
def followed(pair: AgentPair, tmp_path: Path, clock: Path) -> Iterator[AgentPair]:
    with disk(tmp_path, "ext4", 128) as made:
        pair.source.volume = made.path
        for number in range(100):
            (made.path / f"f{number}").write_bytes(b"x" * number)
        (made.path / "mapped").write_bytes(os.urandom(4096))
        start(pair, clock)
        pair.until(Phase.REPLICATING, 30)
        try:
            yield pair
        finally:
            pair.close()


def ahead(agent: Agent) -> float | None:
    """By how many seconds what it knows to be on the copy is later than now."""
    report = agent.report()
    if report is None or report.synced_through is None:
        return None
    return from_rfc3339(report.synced_through) / 1e9 - time.time()


def lag(pair: AgentPair) -> float:
    report = pair.source.report()
    assert report is not None
    assert report.lag_seconds is not None
    return report.lag_seconds


def source_clock(pair: AgentPair) -> float:
    """By how many seconds the source's clock, as the target's agent knows it, differs from ours."""
    report = pair.target.report()
    assert report is not None
    assert report.peer is not None
    return from_rfc3339(report.peer.source_time or "") / 1e9 - time.time()


def until_true_again(pair: AgentPair) -> None:
    """Both agents tell of a time that has come."""
    for agent in (pair.source, pair.target):
        wait_for(partial(tells_the_truth, agent), f"{agent.name} to tell a true time", 20, pair.tell)


def tells_the_truth(agent: Agent) -> bool:
    return (ahead(agent) or 0.0) < 1


def begins(file: Path, word: bytes) -> bool:
    return file.read_bytes().startswith(word)


def remembered(volume: Path) -> float:
    """By how many seconds what the volume itself says is later than now."""
    with TargetVolume.open(str(volume)) as opened:
        opened.claim()
        synced = opened.synced()
    assert synced is not None
    return synced.through_ns / 1e9 - time.time()


@contextmanager
def mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        yield memory


def test_changes_follow_and_what_is_told_is_true(followed: AgentPair, clock: Path) -> None:
    pair, root = followed, followed.source.volume
    wait_for(lambda: (ahead(pair.target) or 0) > HOUR - 60, "the copy to be of an hour ahead", 20, pair.tell)
    set_clock(clock, 0)
    (root / "after").write_bytes(b"written after")
    wait_for((pair.target.volume / "after").exists, "what is written afterwards", 10, pair.tell)
    until_true_again(pair)
    assert "clock was set back by 3600.0 s" in pair.source.log()
    assert abs(source_clock(pair)) < 10
    assert lag(pair) < 5
    # What raises no event is found although all looks older than the last look was.
    with mapped(root / "mapped") as memory:
        for number in range(3):
            word = b"word %d" % number
            memory[: len(word)] = word
            wait_for(partial(begins, pair.target.volume / "mapped", word), f"{word!r} on the target", 20, pair.tell)
    equal_soon(pair, 20)


def test_the_lag_grows_where_the_target_says_nothing_since(followed: AgentPair, clock: Path) -> None:
    pair = followed
    process = pair.target.running()
    process.send_signal(signal.SIGSTOP)
    try:
        set_clock(clock, 0)
        (pair.source.volume / "after").write_bytes(b"written after")
        most = 0.0
        until = time.monotonic() + 8
        while time.monotonic() < until:
            time.sleep(0.5)
            most = max(most, lag(pair))
    finally:
        process.send_signal(signal.SIGCONT)
    assert 4 < most < 60, "neither nothing nor an hour"
    equal_soon(pair, 30)
    until_true_again(pair)
    wait_for(lambda: lag(pair) < 3, "the lag to be small again", 20, pair.tell)


def test_the_volume_itself_remembers_a_true_time(followed: AgentPair, clock: Path) -> None:
    pair = followed
    wait_for(lambda: (ahead(pair.target) or 0) > HOUR - 60, "the copy to be of an hour ahead", 20, pair.tell)
    set_clock(clock, 0)
    (pair.source.volume / "after").write_bytes(b"written after")
    until_true_again(pair)
    equal_soon(pair, 20)
    pair.close()
    assert -60 < remembered(pair.target.volume) < 1


def test_points_go_on_and_bear_true_times(pair: AgentPair, tmp_path: Path, clock: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        (made.path / "file").write_bytes(os.urandom(1 << 20))
        start(pair, clock, POINTS)
        first = until_point(pair, seconds=60)
        assert from_rfc3339(first.at or "") / 1e9 > time.time() + HOUR - 60
        set_clock(clock, 0)
        number = first.number or 0
        for content in (b"one", b"other"):
            (made.path / "file").write_bytes(content)
            found = until_point(pair, number, 30)
            number = found.number or 0
        assert abs(from_rfc3339(found.at or "") / 1e9 - time.time()) < 10
        assert (points(pair) or found).missed == 0
        until_true_again(pair)
        assert lag(pair) < 5
        equal_soon(pair, 20)
        pair.target.kill()
        pair.source.kill()
        assert -60 < remembered(pair.target.volume) < 1
