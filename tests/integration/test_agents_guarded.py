"""A source agent beside its guards: it tells whether the volume can be frozen, and mirrors whatever the answer is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.contract import Freezing, Phase
from tests.support.agents import AgentPair, equal_soon, fill, wait_for
from tests.support.disks import disk
from tests.support.guards import Guards, guards


@pytest.fixture
def guarded(pair: AgentPair, tmp_path: Path) -> Iterator[Guards]:
    """The pair's source is a file system of its own."""
    with disk(tmp_path, "ext4", 64) as made, guards(tmp_path, made.path) as ours:
        pair.source.volume = made.path
        pair.source.settings["STORAGEMIRROR_GUARD_PATH"] = str(ours.shared)
        yield ours
        pair.close()


def test_an_agent_tells_whether_its_volume_can_be_frozen(pair: AgentPair, guarded: Guards) -> None:
    fill(pair.source.volume, 50)
    pair.start()
    wait_for(lambda: says(pair, "GuardNotReady"), "the agent to miss its guard", tell=pair.tell)
    guard, second = guarded.both()
    wait_for(lambda: freezing(pair) == Freezing(able=True), "the guard to be told", tell=pair.tell)
    guard.kill()  # nobody need notice: the second answers
    second.kill()
    wait_for(lambda: says(pair, "GuardNotReady"), "the agent to miss its guards", tell=pair.tell)
    pair.until(Phase.REPLICATING)
    equal_soon(pair)  # without any guard too


def test_without_guards_nothing_is_told(pair: AgentPair) -> None:
    pair.start()
    pair.until(Phase.REPLICATING)
    assert freezing(pair) is None


def freezing(pair: AgentPair) -> Freezing | None:
    report = pair.source.report()
    return report.freezing if report is not None else None


def says(pair: AgentPair, reason: str) -> bool:
    found = freezing(pair)
    return found is not None and not found.able and found.reason == reason
