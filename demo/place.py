"""Where the demo runs: on a cluster that it makes on this machine, or on the one that KUBECONFIG names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from demo.kube import Kube
from demo.manifests import NAMESPACE, Images
from demo.screen import Failed, Screen, Step

OWN = "demo"
"""Prefix of the demo's own cluster."""
OWN_STORAGE_CLASS = "local"
NODES = 3
VOLUME_NODES = ("n1", "n2")
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
PUBLIC_WEB = "docker.io/library/nginx:stable-bookworm"
PUBLIC_DOCS = "docker.io/library/debian:bookworm"
CHECKOUT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Place:
    """A cluster that the demo can run on."""

    kube: Kube
    images: Images
    storage_class: str | None
    own: bool
    pull_policy: str


@dataclass(frozen=True)
class Wish:
    """What the person who started the demo asked for; None where nothing was said."""

    kubeconfig: Path | None
    image: str | None
    demo_image: str | None
    storage_class: str | None


def wish(environment: dict[str, str], *, needs_image: bool) -> Wish:
    """From the environment: KUBECONFIG, IMAGE, DEMO_IMAGE, STORAGE_CLASS."""
    said = {name: environment.get(name) or None for name in ("KUBECONFIG", "IMAGE", "DEMO_IMAGE", "STORAGE_CLASS")}
    kubeconfig = Path(said["KUBECONFIG"]) if said["KUBECONFIG"] else None
    if kubeconfig and not kubeconfig.is_file():
        raise Failed(f"KUBECONFIG names {kubeconfig}, which is no file")
    if needs_image and kubeconfig and not said["IMAGE"]:
        raise Failed(
            "KUBECONFIG is set, so the demo runs on that cluster, and its nodes must be able to pull the product's "
            "image.\nPush it (`make image` builds it) and say IMAGE=registry/name:tag, or unset KUBECONFIG to have a "
            "cluster made on this machine."
        )
    if needs_image and said["IMAGE"] and not kubeconfig:
        raise Failed("IMAGE goes with KUBECONFIG: the demo's own cluster runs the image built from this checkout")
    return Wish(kubeconfig, said["IMAGE"], said["DEMO_IMAGE"], said["STORAGE_CLASS"])


def find(program: str) -> str:
    """kubectl or helm: the machine's, or the one that tests.cluster builds (minutes, once)."""
    here = shutil.which(program)
    if here:
        return here
    from tests.cluster.tools import ensure_tools

    return str(ensure_tools([program])[program])


def given(asked: Wish, screen: Screen) -> Place:
    """The cluster of KUBECONFIG."""
    assert asked.kubeconfig is not None
    assert asked.image is not None
    with screen.step("Cluster") as step:
        kube = Kube(find("kubectl"), find("helm"), asked.kubeconfig, NAMESPACE)
        nodes = kube.get("nodes")["items"]
        context = kube.run("config", "current-context").strip()
        step.result = f"{context}, {len(nodes)} nodes"
        if asked.storage_class is None:
            _require_default_class(kube)
    images = Images(asked.image, asked.demo_image or PUBLIC_WEB, asked.demo_image or PUBLIC_DOCS)
    return Place(kube, images, asked.storage_class, own=False, pull_policy="IfNotPresent")


def own(screen: Screen) -> Place:
    """A cluster on this machine, made or found, that holds the images of this checkout and two empty volumes."""
    from tests.image import build

    with screen.step("Images, from this checkout") as step:
        step.note("the first time this makes a small Debian and takes a minute or two")
        product, demo = build.product(), build.demo()
        step.result = product.reference
    with screen.step("Kubernetes on this machine") as step:
        step.note("the first time this builds Kubernetes and takes some minutes")
        cluster(step, "up", "--nodes", str(NODES))
        kube = Kube(find("kubectl"), find("helm"), own_kubeconfig(), NAMESPACE)
        nodes = kube.get("nodes")["items"]
        for node in nodes:
            call_in_service(kube, node["metadata"]["name"])
        version = nodes[0]["status"]["nodeInfo"]["kubeletVersion"]
        step.result = f"{version}, nodes {' '.join(n['metadata']['name'] for n in nodes)}"
    with screen.step("Images on every node") as step:
        for image in (product, demo):
            cluster(step, "load", str(image.archive))
        step.result = f"{len(nodes)} nodes"
    return Place(
        kube,
        Images(product.reference, demo.reference, demo.reference),
        OWN_STORAGE_CLASS,
        own=True,
        pull_policy="Never",
    )


def own_kubeconfig() -> Path:
    """The kubeconfig of the demo's own cluster, whether it is up or not."""
    from tests.cluster.layout import Layout

    return Layout.of(OWN).kubeconfig


def empty_volumes(place: Place, step: Step) -> None:
    """On the demo's own cluster: an empty volume on each of two nodes; those of an earlier run go."""
    there = {v["metadata"]["name"] for v in place.kube.get("pv")["items"]}
    for node in VOLUME_NODES:
        name = f"{OWN}-{node}"
        if name in there:
            cluster(step, "volume", "remove", name)
        cluster(step, "volume", "add", node, name, "--size", "1Gi")


def power_off(node: str) -> float:
    """Cut the power of a node of the demo's own cluster; nobody is told. When it was, in seconds since 1970."""
    from tests.cluster.cluster import Cluster

    start = time.time()
    Cluster(OWN).power_off(node)
    return start


def boot(node: str) -> None:
    """Give it its power back, and do not wait for it."""
    from tests.cluster.cluster import Cluster

    Cluster(OWN).boot(node, wait=0)


def call_off(kube: Kube, node: str) -> str:
    """Say what a fencing controller says: that node is off. The command that says it."""
    words = ("taint", "node", node, f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute", "--overwrite")
    kube.run(*words)
    return f"kubectl {' '.join(words[:-1])}"


def call_in_service(kube: Kube, node: str) -> None:
    """Take that word back, where it was given."""
    taints = kube.get("node", node)["spec"].get("taints") or []
    if any(taint["key"] == OUT_OF_SERVICE for taint in taints):
        kube.run("taint", "node", node, f"{OUT_OF_SERVICE}-")


def cluster(step: Step, *words: str) -> None:
    """Run a verb of tests.cluster, showing what it says; `Failed` with its last words if it fails."""
    command = [sys.executable, "-m", "tests.cluster", "--prefix", OWN, *words]
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last.append(line.rstrip())
            step.note(line.strip())
    if process.returncode:
        raise Failed(f"`{' '.join(['python', *command[1:]])}` failed:\n" + "\n".join(last))


def _require_default_class(kube: Kube) -> None:
    marker = "storageclass.kubernetes.io/is-default-class"
    classes = json.loads(kube.run("get", "storageclasses", "-o", "json"))["items"]
    if not any(c["metadata"].get("annotations", {}).get(marker) == "true" for c in classes):
        names = ", ".join(c["metadata"]["name"] for c in classes) or "none"
        raise Failed(f"the cluster has no default StorageClass; say STORAGE_CLASS=NAME, one of: {names}")
