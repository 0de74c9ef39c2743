"""Agents that make points by the kernel's trace where they may use it, and say why where they may not."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from storagemirror.contract import Capture, Phase, Report
from tests.support.agents import AgentPair, wait_for
from tests.support.guards import until
from tests.support.pointpair import POINTS, pointing, points, start_without_trace, until_point
from tests.support.tracers import ENGINE, tracers

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
        start_without_trace(pair, POINTS)
        number = until_point(pair).number or 0
        (made.path / "a").write_bytes(b"changed")
        until_point(pair, number)
        found = points(pair)
        assert found is not None
        assert found.untraced.startswith("NoTracePrivilege: ")
        assert report(pair).capture is Capture.WATCH
        assert (pair.target.volume / "a").read_bytes() == b"changed"
        assert report(pair).phase is Phase.REPLICATING


def test_an_agent_without_the_privilege_has_the_trace_of_its_tracer_whoever_is_killed(
    pair: AgentPair, tmp_path: Path
) -> None:
    with pointing(pair, tmp_path, "ext4") as (made, _), tracers(tmp_path, made.path) as tracer:
        large, copy = made.path / "large", pair.target.volume / "large"
        large.write_bytes(os.urandom(32 * MIB))
        pair.source.settings["STORAGEMIRROR_TRACER_PATH"] = str(tracer.shared)
        agent = [*ENGINE, sys.executable, "-m", "storagemirror.cli.main", "agent"]
        pair.target.give(replication=POINTS)
        pair.target.start()
        pair.source.give(replication=POINTS)
        pair.source.start(program=agent)
        pair.introduce()
        until_point(pair)
        wait_for(lambda: why(pair).startswith("TracerNotReady: "), "no tracer to be told", 10, pair.tell)
        assert report(pair).capture is Capture.WATCH

        first = tracer.start()
        until_traced(pair, large)
        first.kill()
        first.wait()
        wait_for(lambda: why(pair).startswith("TracerNotReady: "), "the tracer to be missed", 10, pair.tell)
        with large.open("r+b") as file:
            file.seek(7 * MIB)
            file.write(b"while nobody traces")
        tracer.start()
        until_traced(pair, large)

        pair.source.kill()
        until(lambda: not tracer.instance, 5)
        pair.source.start(program=agent)
        until_point(pair)
        until_traced(pair, large)
        made_now = points(pair)
        assert made_now is not None
        assert made_now.missed == 0
        wait_for(lambda: copy.read_bytes() == large.read_bytes(), "the copy to be equal", 20, pair.tell)
        pair.close()
        until(lambda: not tracer.instance, 5)


def why(pair: AgentPair) -> str:
    """There is no trace."""
    found = points(pair)
    return found.untraced if found is not None else ""


def until_traced(pair: AgentPair, large: Path) -> None:
    """Write pages of `large`, which prove the trace, until it is."""

    def proven() -> bool:
        with large.open("r+b") as file:
            file.seek(time.monotonic_ns() % (32 * MIB - 4096))
            file.write(os.urandom(4096))
        time.sleep(0.2)
        return report(pair).capture is Capture.TRACE

    wait_for(proven, "the trace", 30, pair.tell)
