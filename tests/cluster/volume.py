"""What a volume of the cluster is, and the PersistentVolume that offers it. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tests.cluster.errors import BadName
from tests.cluster.filesystems import FileSystem
from tests.cluster.layout import VOLUME_ROOT


@dataclass(frozen=True)
class Volume:
    """A volume of the cluster. `size` in bytes; `node` is None for a movable one; `claim` is "namespace/name" or
    empty; without `remount` its place stays a bare directory after a boot."""

    name: str
    size: int
    fs: FileSystem
    node: str | None
    claim: str = ""
    remount: bool = True

    @property
    def path(self) -> str:
        """Where it is mounted on a node."""
        return f"{VOLUME_ROOT}/{self.name}"


def parse_volume(text: str) -> Volume:
    """A volume from its record."""
    raw = json.loads(text)
    return Volume(**{**raw, "fs": FileSystem(raw["fs"])})


def persistent_volume(volume: Volume) -> dict[str, object]:
    """The PersistentVolume that offers it: local and pinned to its node, or hostPath on any."""
    spec: dict[str, object] = {
        "capacity": {"storage": quantity(volume.size)},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "movable" if volume.node is None else "local",
    }
    if volume.node is None:
        spec["hostPath"] = {"path": volume.path, "type": "Directory"}
    else:
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [volume.node]}
        spec["local"] = {"path": volume.path}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    if volume.claim:
        namespace, name = split_claim(volume.claim)
        spec["claimRef"] = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume.name}, "spec": spec}


def quantity(size: int) -> str:
    """Bytes as Kubernetes writes them: "400Mi" where that is exact."""
    return f"{size >> 20}Mi" if size % (1 << 20) == 0 else str(size)


def split_claim(claim: str) -> tuple[str, str]:
    """Namespace and name of "namespace/name"; raises BadName."""
    namespace, slash, name = claim.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise BadName(f"expected a claim as NAMESPACE/NAME, not {claim!r}")
    return namespace, name
