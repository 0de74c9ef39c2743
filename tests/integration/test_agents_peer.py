"""What a target agent tells of its source: two real processes, their signals, and the silence between them."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from storagemirror.clock import from_rfc3339
from storagemirror.contract import Action, BeatOrder, MirrorOrder, PeerSeen, PeerState, Phase
from tests.support.agents import AgentPair, equal_soon, fill, wait_for

QUICK = BeatOrder(interval_seconds=0.5, missed=4)
LIMIT = 2.0
LATE = 1.0
"""Beyond interval × missed: for the report, and for a machine that has other work."""


def peer(pair: AgentPair) -> PeerSeen:
    """What the target tells of its source."""
    report = pair.target.report()
    assert report is not None
    assert report.peer is not None
    return report.peer


def until(pair: AgentPair, state: PeerState, seconds: float = 15.0) -> PeerSeen:
    """Wait until the target tells this; what it told."""
    wait_for(lambda: peer(pair).state is state, f"the source to be {state}", seconds, pair.tell)
    return peer(pair)


def replicating(pair: AgentPair, beat: BeatOrder = QUICK, files: int = 20) -> None:
    fill(pair.source.volume, files)
    pair.start(beat=beat)
    pair.until(Phase.REPLICATING)
    until(pair, PeerState.CONNECTED)


def seconds_of(text: str | None) -> float:
    assert text is not None
    return from_rfc3339(text) / 1e9


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
@pytest.mark.parametrize("beat", [QUICK, BeatOrder()], ids=["2 s", "5 s"])
def test_a_source_that_dies_without_a_word_is_lost_in_time(
    pair: AgentPair, number: signal.Signals, beat: BeatOrder
) -> None:
    replicating(pair, beat)
    time.sleep(1)
    limit = beat.interval_seconds * beat.missed
    pair.source.kill(number)
    died, start = time.time(), time.monotonic()
    seen = until(pair, PeerState.LOST, limit + LATE)
    took = time.monotonic() - start
    print(f"\nlost {took:.2f} s after it died, {limit} s is the limit")
    assert took > limit - beat.interval_seconds - 0.3
    assert abs(seconds_of(seen.last_heard) - died) < beat.interval_seconds + 0.2
    assert abs(seconds_of(seen.source_time) - died) < beat.interval_seconds + 0.2
    assert seconds_of(seen.since) - seconds_of(seen.last_heard) == pytest.approx(limit, abs=0.3)
    before = pair.target.report()
    assert before is not None
    assert before.synced_through is not None
    assert 0 <= seconds_of(seen.source_time) - seconds_of(before.synced_through) < 2
    if number == signal.SIGSTOP:
        pair.source.kill(signal.SIGCONT)
    else:
        pair.source.start()
    until(pair, PeerState.CONNECTED)
    equal_soon(pair)


def test_a_source_that_is_told_to_end_says_goodbye(pair: AgentPair) -> None:
    replicating(pair)
    pair.source.kill(signal.SIGTERM)
    until(pair, PeerState.LEFT, 1.5)
    time.sleep(LIMIT + LATE)
    assert peer(pair).state is PeerState.LEFT


def test_a_source_that_is_told_to_end_in_the_middle_of_a_mirror_says_goodbye(pair: AgentPair) -> None:
    fill(pair.source.volume, 20_000, directories=200)
    for i in range(4):
        (pair.source.volume / f"large-{i}").write_bytes(bytes(range(256)) * (1 << 18))
    pair.start(beat=QUICK)
    wait_for(lambda: any(pair.target.volume.glob("d*/sub/f*")), "the first files", 20, pair.tell)
    pair.source.kill(signal.SIGTERM)
    assert pair.source.report().phase is Phase.STOPPED  # type: ignore[union-attr]
    until(pair, PeerState.LEFT, 3)
    time.sleep(LIMIT + LATE)
    assert peer(pair).state is PeerState.LEFT


@pytest.mark.parametrize("action", [Action.PAUSE, Action.DRAIN])
@pytest.mark.parametrize("then", [None, signal.SIGKILL], ids=["alive", "killed"])
def test_under_another_order_a_source_has_left_and_is_never_lost(
    pair: AgentPair, action: Action, then: signal.Signals | None
) -> None:
    replicating(pair)
    pair.target.give(action=action)
    until(pair, PeerState.LEFT)
    if then is not None:
        pair.source.kill(then)
    end = time.monotonic() + LIMIT + LATE
    while time.monotonic() < end:
        assert peer(pair).state is PeerState.LEFT
        time.sleep(0.1)
    if then is not None:
        pair.source.start()
    pair.target.give(action=Action.RUN)
    until(pair, PeerState.CONNECTED)


def test_a_source_that_is_paused_has_left_although_the_target_still_runs(pair: AgentPair) -> None:
    replicating(pair)
    pair.source.give(action=Action.PAUSE)
    until(pair, PeerState.LEFT, 2)
    time.sleep(LIMIT + LATE)
    assert peer(pair).state is PeerState.LEFT


def test_one_that_was_lost_has_left_once_the_target_is_drained(pair: AgentPair) -> None:
    replicating(pair)
    pair.source.kill()
    until(pair, PeerState.LOST)
    lost = peer(pair)
    pair.target.give(action=Action.DRAIN)
    seen = until(pair, PeerState.LEFT)
    assert seen.source_time == lost.source_time


def test_a_new_target_agent_has_never_seen_its_source_and_knows_what_the_volume_knows(pair: AgentPair) -> None:
    replicating(pair)
    (pair.source.volume / "d0/last").write_text("x")
    equal_soon(pair)
    time.sleep(1.5)
    pair.source.kill()
    until(pair, PeerState.LOST)
    before = pair.target.report()
    assert before is not None
    pair.target.kill()
    pair.target.start(instance=1, POD_NAME="another")
    wait_for(lambda: peer(pair).state is PeerState.NEVER, "the new one's report", 15, pair.tell)
    wait_for(lambda: pair.target.phase() is Phase.CONNECTING, "it to listen", 15, pair.tell)

    def opened() -> bool:
        found = pair.target.report()
        return found is not None and found.synced_through is not None

    wait_for(opened, "what the volume knows", 15, pair.tell)
    report = pair.target.report()
    assert report is not None
    assert report.mirrored_at is None
    assert report.peer is not None
    assert report.peer.last_heard is None
    assert abs(seconds_of(report.synced_through) - seconds_of(before.synced_through)) < 0.001
    time.sleep(LIMIT + LATE)
    assert peer(pair).state is PeerState.NEVER


def test_a_target_that_is_killed_while_all_is_quiet_knows_the_time_to_some_seconds(pair: AgentPair) -> None:
    replicating(pair)
    time.sleep(8)
    pair.target.kill()
    killed = time.time()
    pair.source.kill()
    pair.target.start()
    wait_for(lambda: peer(pair).state is PeerState.NEVER, "the new one's report", 15, pair.tell)
    wait_for(lambda: pair.target.phase() is Phase.CONNECTING, "it to listen", 15, pair.tell)
    report = pair.target.report()
    assert report is not None
    assert killed - seconds_of(report.synced_through) < 7.5


def test_a_busy_source_is_heard_and_tells_its_clock_all_the_time(pair: AgentPair) -> None:
    replicating(pair)
    for i in range(3):
        (pair.source.volume / f"large-{i}").write_bytes(bytes(range(256)) * (1 << 19))
    end, late, states = time.monotonic() + 6, 0.0, set()
    while time.monotonic() < end:
        seen = peer(pair)
        report_age = time.time() - max(seconds_of(seen.last_heard), seconds_of(seen.source_time))
        states.add(seen.state)
        late = max(late, abs(seconds_of(seen.last_heard) - seconds_of(seen.source_time)))
        assert report_age < 8
        time.sleep(0.05)
    assert states == {PeerState.CONNECTED}
    assert late < 1.0
    equal_soon(pair)


def test_a_beat_that_changes_while_running_counts_from_then_on(pair: AgentPair) -> None:
    replicating(pair, BeatOrder(interval_seconds=1.0, missed=30))
    pair.target.give(beat=QUICK)
    pair.source.give(beat=QUICK)
    time.sleep(1)
    assert peer(pair).state is PeerState.CONNECTED
    pair.source.kill()
    until(pair, PeerState.LOST, LIMIT + LATE)


def test_an_order_that_breaks_the_connection_is_no_loss(pair: AgentPair) -> None:
    replicating(pair)
    pair.target.give(mirror=MirrorOrder(max_delete_percent=60))
    states = set()
    end = time.monotonic() + LIMIT + LATE
    while time.monotonic() < end:
        states.add(peer(pair).state)
        time.sleep(0.02)
    assert PeerState.LOST not in states
    assert peer(pair).state is PeerState.CONNECTED


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_a_target_that_waits_for_its_disk_misses_nobody_who_speaks_and_everybody_who_does_not(
    pair: AgentPair, tmp_path: Path, dies: bool
) -> None:
    """The thread that receives is in a sync for longer than the limit; what came meanwhile, nobody has read."""
    slow = tmp_path / "slow"
    fill(pair.source.volume, 20)
    pair.target.give(beat=QUICK)
    program = [sys.executable, "-m", "tests.support.failing", "agent"]
    pair.target.start(program=program, SLOW_WHILE=str(slow), SLOW_SECONDS="7")
    pair.source.give(beat=QUICK)
    pair.source.start()
    pair.introduce()
    pair.until(Phase.REPLICATING)
    until(pair, PeerState.CONNECTED)
    slow.touch()
    (pair.source.volume / "d0/sub/f0").write_text("what makes it sync")
    time.sleep(1.5)
    if dies:
        pair.source.kill()
        until(pair, PeerState.LOST, LIMIT + LATE)
        # What it then reads is old, and no sign of life.
        end = time.monotonic() + 7
        while time.monotonic() < end:
            assert peer(pair).state is PeerState.LOST
            time.sleep(0.05)
        return
    states = set()
    end = time.monotonic() + 6
    while time.monotonic() < end:
        states.add(peer(pair).state)
        time.sleep(0.05)
    slow.unlink()
    assert states == {PeerState.CONNECTED}
