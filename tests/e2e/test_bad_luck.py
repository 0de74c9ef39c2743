"""Things break in the middle: nothing is lost, it is visible, and it goes on by itself."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.cluster.faults import Slowness
from tests.cluster.filesystems import FileSystem
from tests.support.case import Case, Claim, process_of
from tests.support.product import SYSTEM

pytestmark = pytest.mark.e2e


def fill(source: Claim, files: int, size: int = 2000, name: str = "f") -> None:
    """Files in directories of a hundred."""
    for i in range(files):
        directory = source.path() / f"d{i // 100}"
        directory.mkdir(exist_ok=True)
        (directory / f"{name}{i}").write_bytes(os.urandom(size))


def until_in_the_middle(case: Case, target: Claim, at_least: int = 50) -> None:
    """Until a part of the first mirror has arrived."""
    case.until(
        f"{at_least} files to have arrived",
        lambda: sum(1 for path in target.path().glob("d*/*")) >= at_least,
    )


@pytest.mark.parametrize("role", ["source", "target"])
def test_an_agent_killed_in_the_middle_of_a_mirror_goes_on(case: Case, role: str) -> None:
    source, target = case.claim("src", "n1", size="128Mi"), case.claim("dst", "n2", size="128Mi")
    fill(source, 3000, 8000)
    case.application("src")
    case.cluster.slow("n1", Slowness(rate="40mbit"))
    try:
        case.pair("src", "dst")
        until_in_the_middle(case, target)
        assert case.differences(source, target), "the mirror was over before the kill"
        case.kill_agent(role)
    finally:
        case.cluster.slow("n1", Slowness())
    case.replicating(seconds=120)
    case.equal(source, target)
    (source.path() / "after").write_text("live changes flow again")
    case.equal(source, target)


def test_a_pair_deleted_in_the_middle_of_a_mirror_leaves_nothing_but_the_volumes(case: Case) -> None:
    source, target = case.claim("src", "n1", size="128Mi"), case.claim("dst", "n2", size="128Mi")
    fill(source, 3000, 8000)
    case.application("src")
    case.cluster.slow("n1", Slowness(rate="40mbit"))
    try:
        case.pair("src", "dst")
        until_in_the_middle(case, target)
        case.kubectl("delete", "mirrorpair", "p", "--timeout=20s")
    finally:
        case.cluster.slow("n1", Slowness())
    nothing_left(case)
    case.pair("src", "dst", "again", mirror={"target": "Adopt"})
    case.replicating("again")
    case.equal(source, target)


def nothing_left(case: Case) -> None:
    """Until no child of a pair is left."""
    kinds = "pods,configmaps,secrets,leases,serviceaccounts,roles,rolebindings"
    case.until(
        "all children to be gone",
        lambda: not case.get(kinds, "-l", "app.kubernetes.io/component=agent")["items"],
        90,
    )


def test_deleting_a_pair_with_the_operator_down_does_not_hang(case: Case) -> None:
    case.claim("src", "n1")
    case.claim("dst", "n2")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.product.scale(0)
    try:
        case.kubectl("delete", "mirrorpair", "p", "--timeout=20s")
        nothing_left(case)
    finally:
        case.product.scale(1)
    assert case.get("deployment", "app")["status"].get("readyReplicas") == 1


def test_replication_goes_on_without_the_operator_and_a_delete_it_missed_is_found(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.product.scale(0)
    try:
        (source.path() / "while-it-was-away").write_text("x")
        case.equal(source, target)
        victim = case.agent("target")["metadata"]["name"]
        case.kubectl("delete", "pod", victim, "--timeout=60s")
    finally:
        case.product.scale(1)
    case.until("a new target agent", lambda: bool(case.agent("target")))
    assert case.agent("target")["metadata"]["name"] != victim
    (source.path() / "afterwards").write_text("y")
    case.equal(source, target, 60)


def test_the_operator_killed_with_9_goes_on_from_the_api_server(case: Case) -> None:
    source, target = case.claim("src", "n1", size="128Mi"), case.claim("dst", "n2", size="128Mi")
    fill(source, 300)
    case.application("src")
    case.pair("src", "dst")
    for _ in range(3):
        pods = case.cluster.kubectl(
            "-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name"
        ).stdout.split()
        os.kill(process_of(pods[0].removeprefix("pod/"), "operator"), signal.SIGKILL)
        time.sleep(1.5)
    case.replicating(seconds=150)
    case.equal(source, target)


def test_a_cut_network_is_said_and_heals_by_itself(case: Case) -> None:
    one, two = case.without_operator()
    source, target = case.claim("src", one), case.claim("dst", two)
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.cluster.cut(two)
    try:
        (source.path() / "during-the-cut").write_text("x")
        case.wait("Ready", "False", seconds=45)
        case.until("phase Disconnected", lambda: case.status().get("phase") == "Disconnected", 45)
        through = case.status()["syncedThrough"]
        time.sleep(5)
        assert case.status()["syncedThrough"] == through, "nothing can have been synced over a cut cable"
    finally:
        case.cluster.heal(two)
    case.wait("Ready", seconds=120)
    case.equal(source, target)


@pytest.mark.parametrize(("how", "seconds"), [("stopped", 60), ("503", 80)])
def test_replication_goes_on_while_the_api_server_is_away(case: Case, how: str, seconds: int) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    operator = case.cluster.kubectl(
        "-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json"
    ).stdout
    started = time.monotonic()
    if how == "stopped":
        case.cluster.stop_apiserver()
    else:
        case.cluster.answer_503()
    try:
        number = 0
        while time.monotonic() - started < seconds:
            (source.path() / f"during-{number}").write_text(str(number))
            copied = target.path() / f"during-{number}"
            end = time.monotonic() + 5
            while not copied.exists() and time.monotonic() < end:
                time.sleep(0.1)
            assert copied.read_text() == str(number)
            number += 1
            time.sleep(5)
    finally:
        case.cluster.start_apiserver()
    case.synced_after(time.time() - 5, seconds=60)
    case.equal(source, target)
    after = case.cluster.kubectl(
        "-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json"
    ).stdout
    assert restarts(after) == restarts(operator), "the operator died of it"


def restarts(pods: str) -> dict[str, int]:
    """Container restarts by pod."""
    import json

    return {
        pod["metadata"]["name"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", []))
        for pod in json.loads(pods)["items"]
    }


def test_a_target_too_small_is_said_and_goes_on_when_it_has_grown(case: Case) -> None:
    source, target = case.claim("src", "n1", size="128Mi"), case.claim("dst", "n2", size="48Mi", fs=FileSystem.XFS)
    fill(source, 60, 1_000_000)
    case.application("src")
    case.pair("src", "dst")
    condition = case.wait_reason("TargetFull", seconds=90)
    assert condition["message"]
    case.wait_event("TargetFull")
    assert case.condition("Replicating")["status"] != "True"
    case.cluster.grow_volume(target.volume, "160Mi")
    case.replicating(seconds=120)
    case.equal(source, target)


def test_a_full_target_goes_on_when_the_source_is_freed(case: Case) -> None:
    source, target = case.claim("src", "n1", size="96Mi"), case.claim("dst", "n2", size="48Mi")
    (source.path() / "small").write_text("small")
    case.application("src")
    case.pair("src", "dst", mirror={"maxDeletePercent": 100})
    case.replicating()
    fill(source, 60, 1_000_000)
    case.wait_reason("TargetFull", seconds=90)
    for path in source.path().glob("d*/*"):
        path.unlink()
    case.wait("Ready", seconds=120)
    case.equal(source, target)


def test_the_node_of_the_source_loses_power_and_comes_back(case: Case) -> None:
    one, two = case.without_operator()
    source, target = case.claim("src", one), case.claim("dst", two)
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    (source.path() / "synced").write_text("synced")
    case.kubectl("exec", "deploy/app", "--", "sync")
    case.equal(source, target)
    case.cluster.power_off(one)
    try:
        case.wait("Ready", "False", seconds=60)
        assert (target.path() / "synced").read_text() == "synced"
    finally:
        case.cluster.boot(one)
    case.wait("Ready", seconds=180)
    (source.path() / "after").write_text("after")
    case.equal(source, target, 60)


def test_the_node_of_the_target_loses_power_and_comes_back(case: Case) -> None:
    one, two = case.without_operator()
    source, target = case.claim("src", one), case.claim("dst", two)
    fill(source, 200)
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.synced_after(time.time())
    case.cluster.power_off(two)
    try:
        (source.path() / "meanwhile").write_text("meanwhile")
        case.wait("Ready", "False", seconds=60)
    finally:
        case.cluster.boot(two)
    case.wait("Ready", seconds=180)
    case.equal(source, target, 60)
