"""Volumes for one test: named for its namespace, and taken away after it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError, VolumeInUse
from tests.cluster.filesystems import FileSystem
from tests.support.cluster_kubectl import Kubectl, wait_for
from tests.support.cluster_objects import claim


@dataclass(frozen=True)
class Claimed:
    """A claim of the test's namespace, and the volume that it will get."""

    claim: str
    volume: str
    node: str | None


class Storage:
    """Makes claims with volumes behind them."""

    def __init__(self, cluster: Cluster, kubectl: Kubectl) -> None:
        self._cluster = cluster
        self._kubectl = kubectl
        self._made: list[str] = []

    def claim(
        self,
        name: str,
        node: str | None,
        *,
        size: str = "400Mi",
        fs: FileSystem = FileSystem.EXT4,
        remount: bool = True,
    ) -> Claimed:
        """A claim with a volume of its own on `node` (None: a movable one)."""
        volume = f"{self._kubectl.namespace}-{name}"
        reserved = f"{self._kubectl.namespace}/{name}"
        if node is None:
            self._cluster.add_movable_volume(volume, size, fs, claim=reserved)
        else:
            self._cluster.add_volume(node, volume, size, fs, claim=reserved, remount=remount)
        self._made.append(volume)
        storage_class = "movable" if node is None else "local"
        self._kubectl.apply(claim(name, storage_class=storage_class, volume=volume))
        wait_for(f"claim {name} to be bound", partial(self._bound, name), 30)
        return Claimed(name, volume, node)

    def path(self, claimed: Claimed, node: str | None = None) -> Path:
        """Where this machine sees the files of the volume."""
        return self._cluster.volume_path(claimed.volume, node)

    def remove_all(self) -> None:
        """Take the volumes away, when the pods that held them have let go."""
        for volume in self._made:
            wait_for(f"volume {volume} to be let go", partial(self._removed, volume), 60)
        self._made.clear()

    def _bound(self, name: str) -> bool:
        return bool(self._kubectl.get("pvc", name)["status"].get("phase") == "Bound")

    def _removed(self, volume: str) -> bool:
        try:
            self._cluster.remove_volume(volume)
        except VolumeInUse:
            return False
        except ClusterError as e:
            if "stays busy" in e.message:
                return False
            raise
        return True
