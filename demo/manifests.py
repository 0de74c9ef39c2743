"""The objects the demo makes: the YAML files beside this one, with the images and storage class of the place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]

HERE = Path(__file__).resolve().parent
NAMESPACE = "storagemirror-demo"
PAIR = "web"
VOLUME = "docs"
SOURCE_CLAIM = "web-data"
TARGET_CLAIM = "web-standby"


@dataclass(frozen=True)
class Images:
    """What the demo's pods run: the product, a web server, and a system with Debian's documentation."""

    product: str
    web: str
    docs: str


def load(name: str) -> list[Json]:
    """The objects of one file."""
    return [o for o in yaml.safe_load_all((HERE / "objects" / f"{name}.yaml").read_text()) if o]


def namespace() -> Json:
    """Where everything of the demo is."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def scripts() -> Json:
    """The programs of `pods/`, for the pods to mount."""
    data = {path.name: path.read_text() for path in sorted((HERE / "pods").glob("*.py"))}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts"}, "data": data}


def web(images: Images, storage_class: str | None) -> list[Json]:
    """The application: claim, server, writer."""
    objects = load("web")
    for one in objects:
        if one["kind"] == "PersistentVolumeClaim" and storage_class:
            one["spec"]["storageClassName"] = storage_class
        if one["kind"] == "Deployment":
            pod = one["spec"]["template"]["spec"]
            by_name = {"fill": images.docs, "nginx": images.web, "writer": images.product}
            for container in [*pod["initContainers"], *pod["containers"]]:
                container["image"] = by_name[container["name"]]
    return objects


def pair(storage_class: str | None) -> Json:
    """The MirrorPair."""
    (one,) = load("pair")
    if storage_class:
        one["spec"]["volumes"][0]["target"]["claimTemplate"]["storageClassName"] = storage_class
    return one


def compare(images: Images, node: str) -> Json:
    """A pod that sees the copy, on the node that holds it."""
    (one,) = load("compare")
    one["spec"]["containers"][0]["image"] = images.product
    here = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [here]}}
    one["spec"]["affinity"] = {"nodeAffinity": required}
    return one


def text(one: Json) -> str:
    """As a person would write it."""
    return yaml.safe_dump(one, sort_keys=False)
