"""A cluster comes, goes and leaves nothing, beside another one, and whatever is killed in between."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.command import run
from tests.cluster.images import ensure_testbox
from tests.cluster.layout import checkout
from tests.support.cluster_kubectl import Kubectl, condition
from tests.support.cluster_objects import claim, pod

pytestmark = pytest.mark.e2e

PREFIX = "smt"


@dataclass(frozen=True)
class Machine:
    """What of the second cluster can be seen on this machine, looked for without the cluster's own code."""

    processes: frozenset[str]
    cgroups: frozenset[str]
    mounts: frozenset[str]
    loops: frozenset[str]
    networks: frozenset[str]
    files: frozenset[str]


def look() -> Machine:
    """Everything that names the prefix: command lines, cgroups, mounts, loop devices, network namespaces, files."""
    mine = f"/storagemirror-cluster/{PREFIX}"
    processes = set()
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups = (directory / "cgroup").read_text()
            if f"/{PREFIX}-" in groups or mine.encode() in (directory / "cmdline").read_bytes():
                processes.add(directory.name)
    return Machine(
        processes=frozenset(processes),
        cgroups=frozenset(run("find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", f"{PREFIX}-*").stdout.split()),
        mounts=frozenset(line for line in Path("/proc/self/mountinfo").read_text().splitlines() if mine in line),
        loops=frozenset(line for line in run("losetup", "-a").stdout.splitlines() if mine in line),
        networks=frozenset(line for line in run("lsns", "-t", "net", "-n").stdout.splitlines() if mine in line),
        files=frozenset(str(path) for path in Path("/var/lib/storagemirror-cluster").glob(f"{PREFIX}*")),
    )


NOTHING = Machine(frozenset(), frozenset(), frozenset(), frozenset(), frozenset(), frozenset())


@pytest.fixture
def second() -> Iterator[Cluster]:
    """The name of a cluster beside the session's; taken down afterwards, whatever happened."""
    if os.environ.get("STORAGEMIRROR_CLUSTER_STATE"):
        pytest.skip("looks into the usual place of the state, which STORAGEMIRROR_CLUSTER_STATE has moved")
    made = Cluster(PREFIX)
    made.down()
    yield made
    made.down()


def test_a_second_cluster_runs_beside_the_first_and_leaves_nothing(cluster: Cluster, second: Cluster) -> None:
    assert look() == NOTHING
    second.up(nodes=1)
    second.load(ensure_testbox())
    second.add_volume("n1", "data", "64Mi")
    second.add_movable_volume("moving", "64Mi")
    kubectl = Kubectl(second, "default")
    kubectl.apply(claim("data", size="32Mi", volume="data"), pod("writer", claims={"/data": "data"}))
    kubectl.wait_ready("writer")
    kubectl.exec("writer", "sh", "-c", "echo here > /data/file")
    assert Kubectl(cluster).find("pv", "data") is None, "the first cluster knows nothing of it"
    assert all(node.ready for node in cluster.status())
    seen = look()
    assert all((seen.processes, seen.cgroups, seen.mounts, seen.loops, seen.networks, seen.files))

    second.down()

    assert look() == NOTHING
    assert not second.leftovers()
    assert all(node.ready for node in cluster.status())


@pytest.mark.parametrize("after", [0.3, 3.0])
def test_up_copes_with_an_up_that_was_killed_half_way(second: Cluster, after: float) -> None:
    words = [sys.executable, "-m", "tests.cluster", "--prefix", PREFIX, "up", "--nodes", "1"]
    killed = subprocess.Popen(words, cwd=checkout(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(after)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    second.up(nodes=1)
    assert condition(Kubectl(second).get("node", "n1"), "Ready") == "True"
    second.down()
    assert look() == NOTHING


def test_up_mends_what_is_broken_and_adds_nodes(second: Cluster) -> None:
    second.up(nodes=1)
    second.power_off("n1")
    second.stop_apiserver()
    second.cut("cp")
    second.up(nodes=2)
    assert [(node.name, node.power, node.cable, node.ready) for node in second.status()] == [
        ("n1", True, True, True),
        ("n2", True, True, True),
    ]


def test_a_running_cluster_is_up_again_within_seconds(cluster: Cluster) -> None:
    started = time.monotonic()
    cluster.up()
    assert time.monotonic() - started < 5
