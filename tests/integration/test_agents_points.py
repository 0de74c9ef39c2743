"""Two agents that make points of a volume that is really frozen: what a copy holds, and what it never does."""

from __future__ import annotations

import random
import sqlite3
import time
from pathlib import Path

import pytest

from storagemirror.clock import from_rfc3339
from storagemirror.fs.target import TargetVolume
from tests.support.agents import AgentPair, wait_for
from tests.support.guards import frozen
from tests.support.ordered import steps
from tests.support.pointpair import POINTS, pointing, points, until_point
from tests.support.running import running

KINDS = ("ext4", "xfs", "btrfs")


def cut_off(pair: AgentPair) -> None:
    """Both agents are killed, wherever they are; then the target's volume is brought to a point, as whoever opens it
    next does."""
    pair.target.kill()
    pair.source.kill()
    with TargetVolume.open(str(pair.target.volume)) as volume:
        volume.claim()


def after_points(pair: AgentPair, count: int, chance: random.Random) -> None:
    """Let some points come, and a random moment of the next one."""
    number = until_point(pair).number or 0
    until_point(pair, number + count - 1)
    time.sleep(chance.random())


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_written_first_is_never_missing_where_what_came_later_is_there(
    pair: AgentPair, tmp_path: Path, kind: str
) -> None:
    with pointing(pair, tmp_path, kind) as (made, _), running("-m", "tests.support.ordered", str(made.path)):
        pair.start(replication=POINTS)
        done = 0
        for round_ in range(2 if kind == "ext4" else 1):
            after_points(pair, 3, random.Random(round_))
            cut_off(pair)
            now = steps(pair.target.volume)
            assert now > done
            done = now
            pair.target.start()
            pair.source.start()
            pair.introduce()


def acknowledged(said: Path) -> list[tuple[int, int]]:
    """What the writer said: number of a transaction, and when its commit had come back (ns since the Unix epoch)."""
    lines = [line.split() for line in said.read_text().splitlines()[:-1]]
    return [(int(number), int(when)) for number, when in lines]


def test_a_sqlite_database_starts_on_a_point_with_every_transaction_from_before_it(
    pair: AgentPair, tmp_path: Path
) -> None:
    with (
        pointing(pair, tmp_path, "ext4") as (made, _),
        running("-m", "tests.support.sqlitewriter", str(made.path / "db.sqlite"), said=tmp_path / "said"),
    ):
        pair.start(replication=POINTS)
        after_points(pair, 4, random.Random(1))
        point = points(pair)
        cut_off(pair)
        assert point is not None
        assert point.at is not None
        at_ns = from_rfc3339(point.at)
        copy = sqlite3.connect(pair.target.volume / "db.sqlite")
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        there = {number for (number,) in copy.execute("SELECT number FROM entries")}
        assert copy.execute("SELECT sum(amount) FROM accounts").fetchone() == (0,)
        promised = {number for number, when in acknowledged(tmp_path / "said") if when < at_ns}
        assert len(promised) > 20
        assert promised <= there
        assert there == set(range(1, len(there) + 1))


def test_a_broken_connection_goes_on_from_the_point_without_a_mirror(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _), running("-m", "tests.support.ordered", str(made.path)):
        pair.start(replication=POINTS)
        first = until_point(pair)
        report = pair.source.report()
        assert report is not None
        mirrored = report.mirrored_at
        pair.target.kill()
        time.sleep(0.5)
        pair.target.start(instance=1)
        pair.introduce()
        until_point(pair, (first.number or 0) + 3)
        report = pair.source.report()
        assert report is not None
        assert report.mirrored_at == mirrored
        assert "nothing needs to be compared" in pair.source.log()
        cut_off(pair)
        steps(pair.target.volume)


def test_a_source_agent_that_is_killed_leaves_its_volume_thawed(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        with running("-m", "tests.support.ordered", str(made.path)):
            pair.start(replication=POINTS)
            after_points(pair, 2, random.Random(3))
            pair.source.kill()
            time.sleep(1.0)
        assert not frozen(made.path)


def test_the_lag_is_told_and_an_idle_source_is_not_frozen(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        (made.path / "a").write_text("a")
        pair.start(replication=POINTS)
        until_point(pair)
        time.sleep(3)
        before = points(pair)
        time.sleep(2)
        after = points(pair)
        assert before is not None
        assert after is not None
        assert before.made == after.made
        report = pair.source.report()
        assert report is not None
        assert report.lag_seconds is not None
        assert report.lag_seconds < 3
        assert report.lag_bytes == 0
        (made.path / "a").write_text("changed")
        wait_for(lambda: (pair.target.volume / "a").read_text() == "changed", "the change", 10, pair.tell)
