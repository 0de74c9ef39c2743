"""Two agents that replicate in runs: what is sent, and when, and that nothing is between."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from storagemirror.clock import from_rfc3339
from storagemirror.contract import (
    BeatOrder,
    Consistency,
    PeerState,
    Phase,
    ProofStage,
    ProveOrder,
    ReplicationMode,
    ReplicationOrder,
    RunDone,
    VerifyOrder,
)
from tests.support.agents import AgentPair, equal_soon, fill, wait_for
from tests.support.pointpair import pointing

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
A_WHILE = 1.5
"""Seconds in which a continuous agent would have sent something several times."""


def order(run: str | None = None, consistency: Consistency = Consistency.LIVE) -> ReplicationOrder:
    return ReplicationOrder(mode=ReplicationMode.MANUAL, run=run, consistency=consistency, max_stall_seconds=2.0)


def resting(pair: AgentPair, files: int = 100) -> None:
    fill(pair.source.volume, files)
    pair.start(beat=QUICK, replication=order())
    pair.until(Phase.IDLE)


def run(pair: AgentPair, name: str, consistency: Consistency = Consistency.LIVE) -> RunDone:
    pair.source.give(replication=order(name, consistency))
    return ended(pair, name)


def ended(pair: AgentPair, name: str) -> RunDone:
    def there() -> RunDone | None:
        report = pair.source.report()
        found = report.run if report is not None else None
        return found if found is not None and found.run == name else None

    found = wait_for(there, f"the run {name}", 30, pair.tell)
    pair.until(Phase.IDLE)
    assert found is not None
    return found


def there(pair: AgentPair, name: str) -> Path:
    return pair.target.volume / name


def test_a_run_sends_everything_and_between_two_of_them_nothing_is_sent(pair: AgentPair) -> None:
    resting(pair)
    time.sleep(A_WHILE)
    assert not there(pair, "d0").exists(), "no run was asked for"
    one = run(pair, "one")
    assert (one.error, one.bytes_sent > 0) == ("", True)
    assert pair.equal()
    (pair.source.volume / "later").write_bytes(b"x" * 5000)
    (pair.source.volume / "d1/sub/f1").unlink()
    written = time.time()
    time.sleep(A_WHILE)
    assert not there(pair, "later").exists()
    assert there(pair, "d1/sub/f1").exists()

    def told() -> bool:
        report = pair.source.report()
        return bool(report and report.lag_bytes == 5000 and report.peer_connected)

    wait_for(told, "the lag in bytes to be known between two runs", 10, pair.tell)
    report, target = pair.source.report(), pair.target.report()
    assert report is not None
    assert target is not None
    assert report.synced_through is not None
    assert from_rfc3339(report.synced_through) / 1e9 < written, "what is not there does not count"
    assert report.lag_seconds is not None
    assert report.lag_seconds >= A_WHILE
    assert target.peer is not None
    assert target.peer.state is PeerState.CONNECTED
    run(pair, "two")
    assert pair.equal()


def test_what_kept_its_size_and_time_is_in_the_run_because_the_watch_named_it(pair: AgentPair) -> None:
    resting(pair)
    run(pair, "one")
    file = pair.source.volume / "d1/sub/f1"
    found, content = file.stat(), file.read_bytes()[::-1]
    file.write_bytes(content)
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    run(pair, "two")
    assert there(pair, "d1/sub/f1").read_bytes() == content


def test_a_run_is_done_once_and_what_it_does_not_say_is_not_done(pair: AgentPair) -> None:
    resting(pair)
    first = run(pair, "one")
    (pair.source.volume / "later").write_text("x")
    pair.source.give(replication=order("one"), beat=BeatOrder(interval_seconds=0.6, missed=4))
    time.sleep(A_WHILE)
    assert not there(pair, "later").exists()
    report = pair.source.report()
    assert report is not None
    assert report.run == first


def test_an_agent_that_dies_in_a_run_is_followed_by_one_that_does_it(pair: AgentPair) -> None:
    resting(pair, files=3000)
    pair.source.give(replication=order("one"))
    wait_for(there(pair, "d0").exists, "the run to have begun", 20, pair.tell)
    pair.source.kill(signal.SIGKILL)
    report = pair.source.report()
    assert report is not None
    assert report.run is None, "it was not in the middle"
    pair.source.start()
    ended(pair, "one")
    assert pair.equal()


def test_a_run_that_was_due_while_the_target_was_away_is_done_when_it_is_back(pair: AgentPair) -> None:
    resting(pair)
    pair.target.kill(signal.SIGKILL)
    pair.source.give(replication=order("one"))
    pair.until(Phase.CONNECTING)
    pair.target.start()
    pair.introduce()
    ended(pair, "one")
    assert pair.equal()


def test_a_new_agent_between_two_runs_sends_nothing(pair: AgentPair) -> None:
    resting(pair)
    run(pair, "one")
    pair.source.kill(signal.SIGTERM)
    (pair.source.volume / "later").write_text("x")
    pair.source.give(replication=order())
    pair.source.start()
    pair.until(Phase.IDLE)
    time.sleep(A_WHILE)
    assert not there(pair, "later").exists()


def test_a_proof_needs_no_run_and_afterwards_it_rests_again(pair: AgentPair) -> None:
    resting(pair)
    pair.source.give(prove=ProveOrder(attempt=1, stage=ProofStage.LIVE))

    def proven() -> bool:
        report = pair.source.report()
        return report is not None and report.proof is not None and report.proof.equal

    wait_for(proven, "the proof", 30, pair.tell)
    assert pair.source.phase() is Phase.REPLICATING
    (pair.source.volume / "live").write_text("x")
    wait_for(there(pair, "live").exists, "what is written while it proves", 10, pair.tell)
    pair.source.give(prove=None)
    pair.until(Phase.IDLE)


def test_a_verification_brings_the_copy_up_to_date_first(pair: AgentPair) -> None:
    resting(pair)
    run(pair, "one")
    (pair.source.volume / "later").write_text("x")
    pair.source.give(verify=VerifyOrder(run="v"))

    def verified() -> bool:
        report = pair.source.report()
        return report is not None and report.verification is not None and report.verification.differing == 0

    wait_for(verified, "the verification", 30, pair.tell)
    pair.until(Phase.IDLE)
    assert there(pair, "later").exists()


def test_a_run_that_turns_continuous_follows_and_back_again(pair: AgentPair) -> None:
    resting(pair)
    pair.source.give(replication=ReplicationOrder())
    pair.until(Phase.REPLICATING)
    (pair.source.volume / "live").write_text("x")
    equal_soon(pair)
    pair.source.give(replication=order())
    pair.until(Phase.IDLE)
    (pair.source.volume / "later").write_text("x")
    time.sleep(A_WHILE)
    assert not there(pair, "later").exists()


def test_with_points_a_run_is_one_point_and_the_next_needs_no_comparison(pair: AgentPair, tmp_path: Path) -> None:
    point = Consistency.POINT

    def number() -> int | None:
        report = pair.source.report()
        return report.points.number if report is not None and report.points is not None else None

    with pointing(pair, tmp_path, "ext4"):
        fill(pair.source.volume, 100)
        pair.start(beat=QUICK, replication=order(consistency=point))
        pair.until(Phase.IDLE)
        run(pair, "one", point)
        first = number()
        assert first is not None
        mirrored = pair.source.report()
        assert mirrored is not None
        (pair.source.volume / "later").write_text("x")
        time.sleep(A_WHILE)
        assert not there(pair, "later").exists()
        run(pair, "two", point)
        wait_for(lambda: number() == first + 1, "one point", 10, pair.tell)
        wait_for(there(pair, "later").exists, "it to be applied", 10, pair.tell)
        equal_soon(pair)
        report = pair.source.report()
        assert report is not None
        assert report.mirrored_at == mirrored.mirrored_at, "what the agent knows outlives a run"
        run(pair, "nothing new", point)
        assert number() == first + 1
