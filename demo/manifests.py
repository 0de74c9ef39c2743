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
WEB = "web"
"""The application's Deployment, and its Service."""
STANDBY = "web-standby"
"""The standby's Deployment."""
CLIENT = "client"
MOVE = "move"
"""The planned Failover."""
HOME = "home"
"""The Restore."""
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


def standby(images: Images) -> Json:
    """The application's standby: the same pods with other labels, on the copy, none of them yet."""
    (one,) = (o for o in web(images, None) if o["kind"] == "Deployment")
    labels = {"app": STANDBY}
    one["metadata"]["name"] = STANDBY
    one["spec"] |= {"replicas": 0, "selector": {"matchLabels": labels}}
    one["spec"]["template"]["metadata"]["labels"] = labels
    pod = one["spec"]["template"]["spec"]
    del pod["initContainers"]  # what they fill in is on the copy
    for volume in pod["volumes"]:
        if volume["name"] == "data":
            volume["persistentVolumeClaim"]["claimName"] = TARGET_CLAIM
    return one


def client(images: Images, *, source: str, target: str, apart: bool) -> Json:
    """Somebody who asks the application: on a third node if there is one. `apart`: never on the source's."""
    (one,) = load("client")
    one["spec"]["containers"][0]["image"] = images.product
    wishes = [{"weight": weight, "preference": _not_on(node)} for weight, node in ((100, source), (50, target))]
    affinity: Json = {"preferredDuringSchedulingIgnoredDuringExecution": wishes}
    if apart:
        affinity["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [_not_on(source)]}
    one["spec"]["affinity"] = {"nodeAffinity": affinity}
    return one


def _not_on(node: str) -> Json:
    return {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": [node]}]}


def move(epoch: int, user: str) -> Json:
    """The planned Failover, approved by the user who applies it."""
    (one,) = load("failover")
    one["spec"] |= {"fromEpoch": epoch, "approved": True, "approvedBy": user}
    return one


def home(epoch: int) -> Json:
    """The Restore."""
    (one,) = load("restore")
    one["spec"]["fromEpoch"] = epoch
    return one


def text(one: Json) -> str:
    """As a person would write it."""
    return yaml.safe_dump(one, sort_keys=False, default_flow_style=None, width=100)
