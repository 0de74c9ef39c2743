"""Points on a real cluster: a copy of a volume under an ordered writer is one moment of it, and says so."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

import pytest

from storagemirror.fs.trace.tracefs import PREFIX
from tests.support.case import Case, process_of
from tests.support.ordered import steps, written
from tests.support.running import running
from tests.support.tracers import instances

pytestmark = pytest.mark.e2e

PAGES = 4096
SYS_ADMIN, DAC_READ_SEARCH = 1 << 21, 1 << 2


def test_a_copy_under_an_ordered_writer_is_one_moment_of_its_source(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    source.path().chmod(0o700)
    os.chown(source.path(), 999, 999)  # as a database has its volume
    large = source.path() / "large"
    large.write_bytes(os.urandom(PAGES * mmap.PAGESIZE))
    case.kubectl("annotate", "namespace", case.namespace, "storagemirror.io/privileged-agents=true", "--overwrite")
    case.application("src")
    with running("-m", "tests.support.ordered", source.path()):
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
        changes_through_a_map_are_named(case, large, target.path() / "large")
        uid = case.agent("source")["metadata"]["uid"]
        assert PREFIX + uid in instances()
        at = case.kubectl("get", "mirrorpair", "p", "-o", "wide")
        print(at)
        before = written(source.path())
        # The pair goes, in the middle of the writing: the agents leave in good order, and the copy stays as it is.
        time.sleep(1.5)
        case.kubectl("delete", "mirrorpair", "p", "--wait=true")
        agents = ("pods", "-l", "app.kubernetes.io/component=agent")
        case.until("the agents to have gone", lambda: not case.get(*agents)["items"], 60)
        case.until("a new writer's step", lambda: written(source.path()) > before, 10)
        assert PREFIX + uid not in instances()
    held = steps(target.path())
    print(f"the copy holds {held} steps without a gap; five points before the end there were {before}")
    assert held >= 1


def changes_through_a_map_are_named(case: Case, large: Path, copy: Path) -> None:
    """By the trace that the tracer opened for an agent without CAP_SYS_ADMIN. Nothing is told by inotify: the file is
    not closed."""
    pod = case.agent("source")["metadata"]["name"]
    assert capabilities(process_of(pod, "tracer")) == SYS_ADMIN | DAC_READ_SEARCH
    assert not capabilities(process_of(pod, "agent")) & SYS_ADMIN
    with large.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        changed = 0

        def proven() -> bool:
            nonlocal changed
            changed += 1
            memory[changed % PAGES * mmap.PAGESIZE] ^= 1
            return bool(case.volume_status().get("capture") == "Trace")

        case.until("the trace to be proven", proven, 90)
        assert case.volume_status()["points"].get("untraced", "") == ""
        mark, at = os.urandom(16), PAGES // 2 * mmap.PAGESIZE + 100
        memory[at : at + 16] = mark
        stored = time.monotonic()

        def arrived() -> bool:
            with copy.open("rb") as there:
                return os.pread(there.fileno(), 16, at) == mark

        case.until("the page to be in a point", arrived, 30)
        print(
            f"a store through a map was in a point after {time.monotonic() - stored:.1f} s; proven by {changed} pages"
        )
        assert case.volume_status()["points"].get("missed", 0) == 0


def capabilities(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    resident = next(line for line in lines if line.startswith("VmRSS:"))
    print(f"process {process}: {resident}")
    return int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
