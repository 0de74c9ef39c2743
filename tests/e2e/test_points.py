"""Points on a real cluster: a copy of a volume under an ordered writer is one moment of it, and says so."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.layout import checkout
from tests.support.case import Case
from tests.support.ordered import steps, written

pytestmark = pytest.mark.e2e


@contextmanager
def ordered(directory: Path) -> Iterator[None]:
    """Something writes there in an order, each step durable before the next."""
    env = {**os.environ, "PYTHONPATH": f"{checkout() / 'operator'}:{checkout()}"}
    process = subprocess.Popen([sys.executable, "-m", "tests.support.ordered", str(directory)], cwd=checkout(), env=env)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def test_a_copy_under_an_ordered_writer_is_one_moment_of_its_source(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.kubectl("annotate", "namespace", case.namespace, "storagemirror.io/privileged-agents=true", "--overwrite")
    case.application("src")
    with ordered(source.path()):
        case.pair(
            "src",
            "dst",
            agents={"privilege": "Freeze"},
            replication={"consistency": "Point", "pointInterval": "1s"},
        )
        case.wait("CrashConsistent", "True", seconds=120)
        first = case.volume_status()["points"]["number"]
        case.until("points to come", lambda: case.volume_status()["points"]["number"] >= first + 5, 60)
        points = case.volume_status()["points"]
        print(f"points: {points}")
        assert points.get("missed", 0) == 0
        at = case.kubectl("get", "mirrorpair", "p", "-o", "wide")
        print(at)
        before = written(source.path())
        # The pair goes, in the middle of the writing: the agents leave in good order, and the copy stays as it is.
        time.sleep(1.5)
        case.kubectl("delete", "mirrorpair", "p", "--wait=true")
        agents = ("pods", "-l", "app.kubernetes.io/component=agent")
        case.until("the agents to have gone", lambda: not case.get(*agents)["items"], 60)
        case.until("a new writer's step", lambda: written(source.path()) > before, 10)
    held = steps(target.path())
    print(f"the copy holds {held} steps without a gap; five points before the end there were {before}")
    assert held >= 1
