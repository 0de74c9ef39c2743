"""The application moves, its node is drained, it is scaled to zero: the source agent follows, never in the way."""

from __future__ import annotations

import time

import pytest

from tests.support.case import Case

pytestmark = pytest.mark.e2e


def test_the_source_agent_follows_the_application_to_another_node(case: Case) -> None:
    source, target = case.claim("src", None), case.claim("dst", "n2")
    case.application("src", node="n1")
    case.pair("src", "dst")
    case.replicating()
    assert case.agent("source")["spec"]["nodeName"] == "n1"
    case.kubectl(
        "patch",
        "deployment",
        "app",
        "-p",
        '{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"n3"}}}}}',
    )
    case.kubectl("rollout", "status", "deployment", "app", "--timeout=90s")
    case.until(
        "the source agent to run on n3",
        lambda: case.agent("source").get("spec", {}).get("nodeName") == "n3",
        60,
    )
    case.kubectl("exec", "deploy/app", "--", "sh", "-c", "echo moved > /data/moved")
    case.equal(source, target, 60)
    case.wait("Ready", seconds=60)


def test_a_drain_of_the_application_s_node_goes_through_and_replication_goes_on(case: Case) -> None:
    source, target = case.claim("src", None), case.claim("dst", "n2")
    case.application("src", avoid="n2")
    case.pair("src", "dst")
    case.replicating()
    node = case.agent("source")["spec"]["nodeName"]
    try:
        case.cluster.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=90s", timeout=120
        )
        case.kubectl("rollout", "status", "deployment", "app", "--timeout=90s")
        case.kubectl("exec", "deploy/app", "--", "sh", "-c", "echo drained > /data/drained")
        case.equal(source, target, 90)
        assert case.agent("source")["spec"]["nodeName"] != node
    finally:
        case.cluster.kubectl("uncordon", node)
    case.wait("Ready", seconds=90)


def test_with_the_workload_at_zero_the_copy_stays_whole_and_goes_on_afterwards(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    (source.path() / "a").write_text("a")
    case.pair("src", "dst")
    case.replicating()
    (source.path() / "last").write_text("written just before")
    case.kubectl("scale", "deployment", "app", "--replicas=0")
    case.kubectl("wait", "--for=delete", "pod", "-l", "app=app", "--timeout=60s")
    case.equal(source, target)
    time.sleep(8)
    assert case.condition("Stalled")["status"] == "False"
    case.kubectl("scale", "deployment", "app", "--replicas=1")
    case.kubectl("rollout", "status", "deployment", "app", "--timeout=90s")
    (source.path() / "again").write_text("again")
    case.equal(source, target, 60)
    case.wait("Ready", seconds=60)


def test_a_source_that_no_pod_has_mounted_yet_is_mirrored_once_asked(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    (source.path() / "a").write_text("a")
    case.pair("src", "dst")
    case.equal(source, target, 90)
