"""The demo runs where a person says, moves the application there, and what it says at the end is so."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from demo.manifests import HOME, MOVE, NAMESPACE, PAIR
from demo.place import CHECKOUT
from tests.cluster.cluster import Cluster
from tests.cluster.tools import tool_directory
from tests.image import build
from tests.support.product import Product

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

VOLUMES = {"demo-test-n1": "n1", "demo-test-n2": "n2"}


def demo(verb: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`make demo` or `make demo-down`, without make."""
    path = f"{tool_directory('kubectl')}:{tool_directory('helm')}:{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "demo", verb],
        cwd=CHECKOUT,
        env={**os.environ, "PATH": path, **environment},
        text=True,
        capture_output=True,
        check=False,
    )


@pytest.fixture
def environment(product: Product) -> Iterator[dict[str, str]]:
    """What a person with a cluster sets. Afterwards the product is installed again, for the tests that follow."""
    cluster = product.cluster
    image = build.demo()
    cluster.load(image.archive)
    for name, node in VOLUMES.items():
        cluster.add_volume(node, name, "1Gi")
    yield {
        "KUBECONFIG": str(cluster.kubeconfig),
        "IMAGE": product.image.reference,
        "DEMO_IMAGE": image.reference,
        "STORAGE_CLASS": "local",
    }
    cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=90s", timeout=100)
    for name in VOLUMES:
        cluster.remove_volume(name)
    product.install()


def test_on_a_cluster_of_ones_own_it_mirrors_compares_moves_comes_home_and_goes(
    cluster: Cluster, environment: dict[str, str]
) -> None:
    up = demo("up", environment)
    assert up.returncode == 0, up.stdout + up.stderr
    assert "✗" not in up.stdout
    equal = re.findall(r"equal: ([\d,]+) files", up.stdout)
    assert len(equal) == 2, "it compares once before it moves, and once at home"
    assert all(int(files.replace(",", "")) > 3000 for files in equal)
    assert len(re.findall(r"\+ *[\d.]+ s  Completed", up.stdout)) == 2, up.stdout
    assert "the Source side is closed to new pods" in up.stdout
    assert "What the old volume held and the copy did not: nothing" in up.stdout
    nothing = "nothing (rpoSeconds: 0)"
    assert re.search(rf"lost \(RPO\) +{re.escape(nothing)} +{re.escape(nothing)}\n", up.stdout), up.stdout
    assert re.search(r"away \(RTO\) +[\d.]+ s \(rtoSeconds: \d+\) +[\d.]+ s \(rtoSeconds: \d+\)\n", up.stdout)
    assert completed(cluster, "failover", MOVE)["approvedBy"]
    assert completed(cluster, "restore", HOME)["epoch"] == 3
    assert "make demo-down" in up.stdout
    assert_looking_around_works(up.stdout, Path(environment["KUBECONFIG"]))
    down = demo("down", environment)
    assert down.returncode == 0, down.stdout + down.stderr
    gone = cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found").stdout
    assert gone == ""
    assert "mirrorpairs" in cluster.kubectl("get", "crd", "-o", "name").stdout


def completed(cluster: Cluster, kind: str, name: str) -> dict[str, Any]:
    """The status of a Failover or Restore of the demo, which must have completed."""
    found = json.loads(cluster.kubectl("-n", NAMESPACE, "get", kind, name, "-o", "json").stdout)
    status: dict[str, Any] = found["status"]
    assert status["phase"] == "Completed"
    return status


def assert_looking_around_works(said: str, kubeconfig: Path) -> None:
    """Every command that the demo offers at its end is one that works."""
    offered = [line.strip() for line in said.splitlines() if line.startswith("  kubectl ")]
    assert any(PAIR in command for command in offered)
    path = f"{tool_directory('kubectl')}:{os.environ['PATH']}"
    for command in offered:
        done = subprocess.run(
            ["bash", "-c", command.replace("--watch", "")],
            env={**os.environ, "PATH": path, "KUBECONFIG": str(kubeconfig)},
            text=True,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout.strip(), command
