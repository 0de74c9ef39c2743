"""The product as a user installs it: the image of this checkout and the chart, on a cluster of the tests."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.command import run
from tests.cluster.images import ensure_testbox
from tests.cluster.tools import ensure_tools
from tests.image import build

CHART = Path(__file__).resolve().parents[2] / "charts" / "storagemirror"
RELEASE = "storagemirror"
SYSTEM = "storagemirror-system"
"""The namespace of the operator."""


@dataclass(frozen=True)
class Product:
    """An installed release."""

    cluster: Cluster
    image: build.Image

    def helm(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run helm against the cluster."""
        helm = ensure_tools(["helm"])["helm"]
        return run(helm, "--kubeconfig", self.cluster.kubeconfig, *words, check=check, timeout=300)

    def install(self, *more: str) -> None:
        """Install or upgrade the release and wait until the operator is there. `more`: further words for helm."""
        values = {
            "image.repository": self.image.repository,
            "image.tag": self.image.tag,
            "image.pullPolicy": "Never",
            "replicas": "1",
            "logLevel": "debug",
        }
        pairs = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
        self.helm(
            *("upgrade", "--install", RELEASE, str(CHART), "--namespace", SYSTEM, "--create-namespace"),
            *(*pairs, "--wait", "--timeout", "120s", *more),
        )

    def uninstall(self) -> None:
        """Remove the release, as a user does."""
        self.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout", "60s")

    def scale(self, replicas: int) -> None:
        """Stop (0) or start (1) the operator, and wait for it."""
        self.cluster.kubectl("-n", SYSTEM, "scale", "deployment", RELEASE, f"--replicas={replicas}")
        if replicas:
            self.cluster.kubectl("-n", SYSTEM, "rollout", "status", "deployment", RELEASE, "--timeout=90s")
        else:
            self.cluster.kubectl(
                *("-n", SYSTEM, "wait", "--for=delete", "pod", "--timeout=60s"),
                *("-l", "app.kubernetes.io/component=operator"),
            )


def deliver(cluster: Cluster) -> Product:
    """Build the image of this checkout, bring it and the tests' own to every node, install the chart."""
    image = build.product()
    cluster.load(image.archive)
    cluster.load(ensure_testbox())
    product = Product(cluster, image)
    product.install()
    return product
