"""Two agents as processes, and the bad luck that they must survive."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from storagemirror.contract import Action, MirrorOrder, Phase, Role, TargetPolicy
from tests.support.agents import VOLUME, AgentPair, equal_soon, files_in, fill, problem, reads, wait_for
from tests.support.smallapi import SmallApi


@pytest.mark.parametrize("victim", ["source", "target"])
def test_an_agent_killed_in_the_middle_of_a_mirror_goes_on_when_it_is_back(pair: AgentPair, victim: str) -> None:
    fill(pair.source.volume, 4000)
    with (pair.source.volume / "large").open("wb") as f:
        for _ in range(64):
            f.write(os.urandom(1 << 20))
    pair.start()
    wait_for(lambda: any(pair.target.volume.glob("d*/sub/f*")), "the first files", 20, pair.tell)
    agent = pair.source if victim == "source" else pair.target
    agent.kill()
    agent.start()
    if victim == "target":
        pair.introduce()
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)


@pytest.mark.parametrize("victim", ["source", "target"])
def test_an_agent_killed_while_changes_flow_loses_none(pair: AgentPair, victim: str) -> None:
    fill(pair.source.volume, 500)
    pair.start()
    pair.until(Phase.REPLICATING)
    agent = pair.source if victim == "source" else pair.target
    for i in range(100):
        (pair.source.volume / f"d{i % 10}/sub/f{i}").write_text(f"before {i}")
    agent.kill()
    for i in range(100):
        (pair.source.volume / f"d{i % 10}/sub/f{i + 100}").write_text(f"during {i}")
        (pair.source.volume / f"d{i % 10}/sub/f{i + 200}").unlink()
    agent.start()
    if victim == "target":
        wait_for(lambda: problem(pair) == "Disconnected", "the source to miss the target", 15, pair.tell)
        pair.introduce()
    wait_for(lambda: pair.target.phase() is Phase.REPLICATING, "the target to follow", 30, pair.tell)
    equal_soon(pair, 30)
    pair.until(Phase.REPLICATING)


def test_a_target_that_stops_answering_is_told_within_seconds_and_heals_by_itself(pair: AgentPair) -> None:
    fill(pair.source.volume, 200)
    pair.start()
    pair.until(Phase.REPLICATING)
    pair.target.kill(signal.SIGSTOP)
    (pair.source.volume / "d0/during").write_text("written while nobody answered")
    start = time.monotonic()
    wait_for(lambda: problem(pair) == "Disconnected", "the source to say so", 20, pair.tell)
    assert time.monotonic() - start < 12
    first = pair.source.report()
    assert first is not None
    assert first.lag_seconds is not None
    assert not first.peer_connected
    wait_for(lambda: _lag(pair) > first.lag_seconds + 3, "the lag to grow", 15, pair.tell)  # type: ignore[operator]
    pair.target.kill(signal.SIGCONT)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)
    wait_for(lambda: _lag(pair) < 3, "the lag to fall", 15, pair.tell)


def _lag(pair: AgentPair) -> float:
    report = pair.source.report()
    assert report is not None
    assert report.lag_seconds is not None
    return report.lag_seconds


def test_without_an_api_server_replication_goes_on(pair: AgentPair, api: SmallApi) -> None:
    fill(pair.source.volume, 200)
    pair.start()
    pair.until(Phase.REPLICATING)
    with api.outage():
        for i in range(30):
            (pair.source.volume / "d0/sub/f0").write_text(f"change {i}")
            wait_for(
                lambda i=i: reads(pair.target.volume / "d0/sub/f0", f"change {i}"),  # type: ignore[misc]
                "a change",
                5,
                pair.source.log,
            )
            time.sleep(1)
    pair.source.give(action=Action.PAUSE)
    pair.until(Phase.PAUSED)
    assert pair.source.log().count("heartbeat not delivered") == 1


def test_a_wiped_source_is_held_until_a_person_confirms(pair: AgentPair) -> None:
    fill(pair.source.volume, 200)
    pair.start()
    pair.until(Phase.REPLICATING)
    before = files_in(pair.target.volume)
    subprocess.run(["find", str(pair.source.volume), "-mindepth", "1", "-delete"], check=True)
    report = pair.until(Phase.HELD)
    assert report.problem is not None
    assert report.problem.reason == "MassDelete"
    assert report.problem.token
    wait_for(lambda: pair.target.phase() is Phase.HELD, "the target to hold", 10, pair.tell)
    assert files_in(pair.target.volume) >= before // 2
    order = MirrorOrder(confirm=report.problem.token)
    pair.target.give(mirror=order)
    pair.source.give(mirror=order)
    pair.until(Phase.REPLICATING, 60)
    equal_soon(pair)
    assert files_in(pair.target.volume) == 0


def test_another_file_system_under_the_source_is_never_taken_for_deletions(pair: AgentPair) -> None:
    volume = str(pair.source.volume)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "first", volume], check=True)
    try:
        fill(pair.source.volume, 100)
        pair.start()
        pair.until(Phase.REPLICATING)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "second", volume], check=True)
        try:
            report = pair.until(Phase.HELD)
            assert report.problem is not None
            assert report.problem.reason == "SourceReplaced"
            assert files_in(pair.target.volume) == 100
        finally:
            subprocess.run(["umount", "--lazy", volume], check=True)
        # The first one is back: nothing needs a person.
        pair.until(Phase.REPLICATING, 60)
        (pair.source.volume / "after").write_text("x")
        equal_soon(pair)
    finally:
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_a_full_target_is_told_and_goes_on_by_itself_when_it_has_grown(pair: AgentPair) -> None:
    volume = str(pair.target.volume)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "target", volume], check=True)
    try:
        fill(pair.source.volume, 100)  # so that what is freed below is no mass deletion
        for i in range(8):
            (pair.source.volume / f"large-{i}").write_bytes(os.urandom(1 << 20))
        pair.start()
        wait_for(lambda: problem(pair) == "TargetFull", "the source to say so", 20, pair.tell)
        told = pair.target.report()
        assert told is not None
        assert told.mirrored_at is None, "the copy is called whole, and lacks what did not fit"
        subprocess.run(["mount", "-o", "remount,size=32m", volume], check=True)
        pair.until(Phase.REPLICATING, 40)
        equal_soon(pair)
        assert problem(pair) == ""
        # And while changes flow.
        for i in range(30):
            (pair.source.volume / f"more-{i}").write_bytes(os.urandom(1 << 20))
        wait_for(lambda: problem(pair) == "TargetFull", "the source to say so again", 20, pair.tell)
        stood = pair.source.report()
        for i in range(30):
            (pair.source.volume / f"more-{i}").unlink()
        pair.until(Phase.REPLICATING, 40)
        equal_soon(pair)
        assert stood is not None
        assert stood.lag_seconds is not None
    finally:
        pair.close()
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_a_target_with_foreign_data_is_refused_until_adoption_is_said(pair: AgentPair) -> None:
    fill(pair.source.volume, 50)
    (pair.target.volume / "precious").write_text("not ours")
    pair.start()
    wait_for(lambda: problem(pair) == "TargetNotEmpty", "the refusal", 15, pair.tell)
    assert (pair.target.volume / "precious").read_text() == "not ours"
    adopt = MirrorOrder(target=TargetPolicy.ADOPT)
    pair.target.give(mirror=adopt)
    pair.source.give(mirror=adopt)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)


def test_a_peer_of_another_pair_is_refused_and_gets_nothing(pair: AgentPair, tmp_path: Path) -> None:
    fill(pair.source.volume, 10)
    pair.target.tls = pair.authority.write(tmp_path / "stranger", Role.TARGET, VOLUME, "another-pair")
    pair.start()
    wait_for(lambda: problem(pair) == "WrongPeer", "the refusal", 15, pair.tell)
    assert files_in(pair.target.volume) == 0
