"""Agents that make points by the kernel's trace where they may use it, and say why where they may not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from storagemirror.contract import Capture, Phase, Report
from tests.support.agents import AgentPair, wait_for
from tests.support.pointpair import POINTS, pointing, points, until_point

MIB = 1 << 20


def report(pair: AgentPair) -> Report:
    found = pair.source.report()
    assert found is not None
    return found


def test_an_agent_that_may_uses_the_trace_and_its_copy_is_right(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        large, copy = made.path / "large", pair.target.volume / "large"
        large.write_bytes(os.urandom(32 * MIB))
        pair.start(replication=POINTS)
        until_point(pair)
        for round_ in range(6):
            with large.open("r+b") as file:
                file.seek(round_ * 5 * MIB)
                file.write(b"%d" % round_ * 4096)
            time.sleep(1)
        wait_for(lambda: report(pair).capture is Capture.TRACE, "the trace", 10, pair.tell)
        made_now = points(pair)
        assert made_now is not None
        assert (made_now.untraced, made_now.missed) == ("", 0)
        wait_for(lambda: copy.read_bytes() == large.read_bytes(), "the copy to be equal", 10, pair.tell)


def test_an_agent_that_may_not_says_why_and_makes_points(pair: AgentPair, tmp_path: Path) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _):
        (made.path / "a").write_bytes(b"a")
        pair.target.give(replication=POINTS)
        pair.target.start()
        pair.source.give(replication=POINTS)
        without = ["setpriv", "--bounding-set=-sys_admin", "--"]
        pair.source.start(program=[*without, sys.executable, "-m", "storagemirror.cli.main", "agent"])
        pair.introduce()
        number = until_point(pair).number or 0
        (made.path / "a").write_bytes(b"changed")
        until_point(pair, number)
        found = points(pair)
        assert found is not None
        assert found.untraced.startswith("NoTracePrivilege: ")
        assert report(pair).capture is Capture.WATCH
        assert (pair.target.volume / "a").read_bytes() == b"changed"
        assert report(pair).phase is Phase.REPLICATING
