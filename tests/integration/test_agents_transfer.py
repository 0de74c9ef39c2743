"""Limits in orders, taken up by agents at work; and nobody takes a slow source for a dead one."""

from __future__ import annotations

import os
import time

from storagemirror.agent.priority import LOWEST, priority_of
from storagemirror.contract import BandwidthWindow, BeatOrder, Compression, PeerState, Phase, TransferOrder
from tests.support.agents import AgentPair, equal_soon, wait_for

KIB, MIB = 1 << 10, 1 << 20


def limited(rate: int) -> TransferOrder:
    return TransferOrder(bandwidth=(BandwidthWindow(limit=rate),), compression=Compression.OFF)


def received(pair: AgentPair) -> int:
    """Bytes that have come into files on the target."""
    return sum(
        os.path.getsize(os.path.join(here, name)) for here, _, names in os.walk(pair.target.volume) for name in names
    )


def test_a_very_low_limit_is_no_death_and_a_new_one_holds_in_the_connection_that_is_there(pair: AgentPair) -> None:
    (pair.source.volume / "large").write_bytes(os.urandom(8 * MIB))
    beat = BeatOrder(interval_seconds=0.5, missed=3)
    pair.target.give(beat=beat)
    pair.target.start()
    pair.source.give(beat=beat, transfer=limited(2 * KIB))
    pair.source.start()
    pair.introduce()
    pair.until(Phase.MIRRORING)
    states = set()
    end = time.monotonic() + 9  # longer than any silence that is borne
    while time.monotonic() < end:
        report = pair.target.report()
        if report is not None and report.peer is not None:
            states.add(report.peer.state)
            last = report.peer
        time.sleep(0.1)
    assert states <= {PeerState.NEVER, PeerState.CONNECTED}, pair.tell()
    assert last.state is PeerState.CONNECTED
    assert last.source_time is not None
    assert received(pair) < MIB
    assert not pair.equal()

    pair.source.give(transfer=limited(4 * MIB))
    began = time.monotonic()
    pair.until(Phase.REPLICATING)
    took = time.monotonic() - began
    assert took > 1.0, "8 MiB at 4 MiB a second"
    equal_soon(pair)
    assert pair.source.log().count("connected to") == 1, "it took a new connection"


def test_a_wrong_time_zone_in_an_order_changes_nothing_of_what_holds(pair: AgentPair) -> None:
    (pair.source.volume / "a").write_bytes(b"a")
    pair.start()
    pair.until(Phase.REPLICATING)
    wrong = TransferOrder(bandwidth=(BandwidthWindow(limit=1),), time_zone="Europe/Atlantis")
    pair.source.give(transfer=wrong)
    wait_for(lambda: "Europe/Atlantis" in pair.source.log(), "the agent to say so", 10, pair.tell)
    (pair.source.volume / "b").write_bytes(b"b" * 100_000)
    equal_soon(pair)


def test_an_agent_that_reads_yields_to_the_application(pair: AgentPair) -> None:
    """Best effort, the lowest: the application's requests come first wherever the disk's scheduler knows priorities."""
    pair.start()
    pair.until(Phase.REPLICATING)
    tasks = os.listdir(f"/proc/{pair.source.running().pid}/task")
    assert len(tasks) > 1
    assert {priority_of(int(task)) for task in tasks} == {LOWEST}
