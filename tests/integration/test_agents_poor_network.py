"""A network that is slow, loses packets, or resets what is connected: nothing is lost, and the copy goes on."""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from storagemirror.contract import Consistency, Phase, ReplicationOrder
from tests.support.agents import AgentPair, equal_soon, fill, problem, wait_for
from tests.support.pointpair import POINTS, pointing, until_point
from tests.support.poornet import poor_network, reset

MIB = 1 << 20
MODES = {mode.value: mode for mode in (Consistency.LIVE, Consistency.POINT)}


def begin(pair: AgentPair, mode: Consistency) -> None:
    """A pair that has its first copy of some files, and its first point."""
    fill(pair.source.volume, 500)
    (pair.source.volume / "large").write_bytes(os.urandom(4 * MIB))
    pair.start(replication=POINTS if mode is Consistency.POINT else ReplicationOrder(consistency=mode))
    pair.until(Phase.REPLICATING, 60)
    if mode is Consistency.POINT:
        until_point(pair, seconds=60)


def change(volume: Path, number: int) -> None:
    """A burst: files made, renamed and deleted, and a large one overwritten here and there."""
    here = volume / f"burst{number}"
    here.mkdir()
    for name in range(100):
        (here / f"f{name}").write_bytes(os.urandom(2000))
    for name in range(0, 100, 3):
        (here / f"f{name}").unlink()
    (here / "f1").rename(volume / f"moved{number}")
    with (volume / "large").open("r+b") as file:
        for _ in range(8):
            file.seek(int.from_bytes(os.urandom(2), "big") % 64 * 64 * 1024)
            file.write(os.urandom(5000))


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_with_50_ms_of_delay_and_1_percent_loss_it_keeps_up_without_a_break(
    pair: AgentPair, tmp_path: Path, mode: Consistency
) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        begin(pair, mode)
        port = pair.target.port()
        with poor_network(port, 0.05, 0.01) as network:
            began = time.monotonic()
            with closing(socket.create_connection(("127.0.0.1", port), 5)):
                assert time.monotonic() - began > 0.09, "the network is not slow"
            lines = pair.source.log().count("\n")
            for number in range(10):
                change(made.path, number)
                time.sleep(0.5)
            equal_soon(pair, 60)
            print(f"equal {time.monotonic() - began:.1f} s after the first burst, {network.dropped()} packets lost")
            # What was sent is too little to lose much of; so many packets are sure to lose some.
            (made.path / "more").write_bytes(os.urandom(48 * MIB))
            wait_for(pair.equal, "both trees to be equal", 90, pair.tell)
            assert network.dropped() > 0
            assert problem(pair) == ""
            since = "\n".join(pair.source.log().split("\n")[lines:])
            assert "Disconnected" not in since, since
        (made.path / "after").write_text("x")
        equal_soon(pair)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES.keys())
def test_a_connection_that_is_reset_every_second_loses_nothing_and_heals(
    pair: AgentPair, tmp_path: Path, mode: Consistency
) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        begin(pair, mode)
        port = pair.target.port()
        came = resets = 0
        for number in range(12):
            change(made.path, number)
            time.sleep(1.0)
            resets += reset(port)
            came += (pair.target.volume / f"moved{number}").exists() or (
                number > 0 and (pair.target.volume / f"moved{number - 1}").exists()
            )
        print(f"{came} of 12 bursts were on the copy within two seconds")
        assert resets >= 6, "it was hardly ever connected"
        equal_soon(pair, 60)
        wait_for(lambda: problem(pair) == "", "the problem to be over", 20, pair.tell)
        (made.path / "after").write_text("x")
        equal_soon(pair)
