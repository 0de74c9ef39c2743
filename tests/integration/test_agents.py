"""Two agents as processes: first mirror, live changes, and the bad luck that they must survive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from storagemirror.clock import from_rfc3339
from storagemirror.contract import Action, Capture, Phase
from tests.support.agents import AgentPair, equal_soon, fill, problem, reads, wait_for
from tests.support.smallapi import SmallApi
from tests.support.treemodel import Storm


def test_a_volume_is_mirrored_and_its_report_tells_what_is_known(pair: AgentPair) -> None:
    fill(pair.source.volume, 500)
    os.symlink("sub/f0", pair.source.volume / "d0/link")
    os.link(pair.source.volume / "d0/sub/f0", pair.source.volume / "d1/second-name")
    os.chmod(pair.source.volume / "d2", 0o2750)
    pair.start()
    pair.until(Phase.REPLICATING)
    assert pair.equal()
    wait_for(lambda: (r := pair.source.report()) and r.lag_bytes == 0, "the lag in bytes", 10, pair.tell)
    report = pair.source.report()
    assert report is not None
    assert report.mirrored_at
    assert report.synced_through
    assert abs(from_rfc3339(report.synced_through) / 1e9 - time.time()) < 10
    assert report.lag_seconds is not None
    assert report.lag_seconds < 3
    assert report.capture is Capture.WATCH
    assert report.peer_connected
    assert report.problem is None
    assert report.revision == pair.source.order.revision  # type: ignore[union-attr]
    assert report.pod_uid == "uid-Source-1"
    assert report.volume is not None
    assert report.volume.size > 0
    wait_for(lambda: pair.target.phase() is Phase.REPLICATING, "the target to say so too", 10, pair.tell)
    wait_for(lambda: (r := pair.target.report()) and r.synced_through, "its time", 10, pair.tell)
    theirs = pair.target.report()
    assert theirs is not None
    assert theirs.peer_connected


def test_a_changed_small_file_is_readable_on_the_target_within_a_second(pair: AgentPair) -> None:
    fill(pair.source.volume, 200)
    pair.start()
    pair.until(Phase.REPLICATING)
    took = []
    for i in range(100):
        name, text = f"d{i % 10}/sub/f{i % 20}", f"change {i} of many\n"
        start = time.perf_counter()
        (pair.source.volume / name).write_text(text)
        wait_for(lambda n=name, t=text: reads(pair.target.volume / n, t), "the change", 10, pair.tell)  # type: ignore[misc]
        took.append(time.perf_counter() - start)
    took.sort()
    print(
        f"\nchange to readable: median {took[50] * 1000:.0f} ms, p95 {took[95] * 1000:.0f} ms, worst {took[-1]:.3f} s"
    )
    assert took[95] < 1.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_storm_of_changes_ends_equal_without_another_comparison(pair: AgentPair, seed: int) -> None:
    fill(pair.source.volume, 300)
    pair.start()
    mirrored = pair.until(Phase.REPLICATING).mirrored_at
    storm = Storm(os.fsencode(pair.source.volume), seed)
    for _ in range(10):
        storm.run(100)
        time.sleep(0.1)
    storm.close()
    equal_soon(pair)
    report = pair.source.report()
    assert report is not None
    assert report.mirrored_at == mirrored


def test_a_pause_stops_everything_and_ends_without_loss(pair: AgentPair) -> None:
    fill(pair.source.volume, 200)
    pair.start()
    pair.until(Phase.REPLICATING)
    pair.source.give(action=Action.PAUSE)
    pair.target.give(action=Action.PAUSE)
    pair.until(Phase.PAUSED)
    wait_for(lambda: pair.target.phase() is Phase.PAUSED, "the target to pause", 10, pair.tell)
    (pair.source.volume / "d0/sub/f0").write_text("while paused")
    time.sleep(1.5)
    assert (pair.target.volume / "d0/sub/f0").read_text() == "0\n"
    pair.target.give(action=Action.RUN)
    pair.source.give(action=Action.RUN)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)


def test_an_agent_that_was_replaced_ends_and_says_so(pair: AgentPair) -> None:
    fill(pair.source.volume, 10)
    pair.start()
    pair.until(Phase.REPLICATING)
    process = pair.source.running()
    pair.source.give(instance=2)
    assert process.wait(5) == 0
    assert "the order is for number 2" in pair.source.log()
    pair.source.start(instance=1)
    assert pair.source.process is not None
    assert pair.source.process.wait(10) == 0
    pair.source.start(instance=2)
    wait_for(lambda: (r := pair.source.report()) and r.instance == 2, "the new one's report", 15, pair.tell)
    pair.until(Phase.REPLICATING)


def test_a_source_that_lost_its_api_server_is_told_by_the_target_that_it_was_replaced(
    pair: AgentPair, tmp_path: Path
) -> None:
    fill(pair.source.volume, 10)
    pair.start()
    pair.until(Phase.REPLICATING)
    forgotten = pair.source.running()
    api = SmallApi(tmp_path / "another")
    api.make_lease("shop", pair.source.name)
    old, pair.source.api = pair.source.api, api
    pair.source.give(instance=2)
    pair.source.start(instance=2)
    assert forgotten.wait(20) == 0
    assert "number 2 has taken over" in pair.source.log()
    pair.until(Phase.REPLICATING)
    pair.source.api = old
    api.stop()


def test_what_changed_just_before_the_end_is_sent_before_it(pair: AgentPair) -> None:
    fill(pair.source.volume, 10)
    pair.start()
    pair.until(Phase.REPLICATING)
    for i in range(200):
        (pair.source.volume / f"last-{i}").write_text(f"{i}")
    pair.source.kill(signal.SIGTERM)
    assert pair.equal()
    report = pair.source.report()
    assert report is not None
    assert report.phase is Phase.STOPPED
    assert report.lag_seconds is not None
    assert report.lag_seconds < 1


@pytest.mark.parametrize("role", ["source", "target"])
def test_an_agent_ends_within_two_seconds_when_told_to(pair: AgentPair, role: str) -> None:
    fill(pair.source.volume, 10)
    pair.start()
    pair.until(Phase.REPLICATING)
    agent = pair.source if role == "source" else pair.target
    start = time.monotonic()
    agent.kill(signal.SIGTERM)
    assert time.monotonic() - start < 2.5
    assert agent.process is not None
    assert agent.process.returncode == 0
    assert agent.phase() is Phase.STOPPED
    agent.start()
    agent.give(action=Action.STOP)
    assert agent.process.wait(10) == 0


def test_an_agent_without_an_order_waits_for_it(pair: AgentPair) -> None:
    pair.source.start()
    wait_for(lambda: pair.source.phase() is Phase.STARTING, "a report", 15, pair.source.log)
    wait_for(lambda: problem(pair) == "ApiRefused", "the reason", 15, pair.tell)
    assert "may not be there yet" in pair.source.log()
    pair.source.give()
    pair.until(Phase.CONNECTING)


def test_the_environment_says_what_is_missing() -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("STORAGEMIRROR", "KUBERNETES"))}
    words = [sys.executable, "-m", "storagemirror.cli.main", "agent"]
    ended = subprocess.run(words, env=env, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 1
    assert "STORAGEMIRROR_NAMESPACE" in ended.stderr


def test_idle_agents_are_lean(pair: AgentPair) -> None:
    fill(pair.source.volume, 10_000, directories=500)
    pair.start()
    pair.until(Phase.REPLICATING, 60)
    time.sleep(3)
    before = (pair.source.cpu_seconds(), pair.target.cpu_seconds())
    time.sleep(15)
    for agent, spent in zip((pair.source, pair.target), before, strict=True):
        share = (agent.cpu_seconds() - spent) / 15
        print(f"\nidle {agent.role} agent: {agent.resident() / 1e6:.1f} MB resident, {share:.2%} of a core")
        assert agent.resident() < 48e6
        assert share < 0.01
