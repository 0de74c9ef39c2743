"""The cluster's volumes, and its power cuts: what the other end-to-end tests stand on."""

from __future__ import annotations

import os
import time

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.command import run
from tests.cluster.errors import VolumeInUse
from tests.cluster.filesystems import FileSystem
from tests.support.cluster_kubectl import Kubectl, wait_for
from tests.support.cluster_objects import pod
from tests.support.cluster_storage import Storage

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("fs", list(FileSystem))
def test_a_power_cut_loses_what_was_not_synced_and_a_boot_brings_the_rest_back(
    cluster: Cluster, kubectl: Kubectl, storage: Storage, fs: FileSystem
) -> None:
    claimed = storage.claim("data", "n1", fs=fs)
    kubectl.apply(pod("writer", claims={"/data": "data"}))
    kubectl.wait_ready("writer")
    kubectl.exec(
        "writer", "sh", "-c", "echo kept > /data/synced && sync /data/synced /data && echo lost > /data/unsynced"
    )
    assert sorted(p.name for p in storage.path(claimed).glob("*synced")) == ["synced", "unsynced"]

    cluster.power_off("n1")
    cluster.boot("n1")

    path = storage.path(claimed)
    assert (path / "synced").read_text() == "kept\n"
    assert not (path / "unsynced").exists() or (path / "unsynced").read_text() == ""
    wait_for("the pod to write again", lambda: kubectl.exec("writer", "touch", "/data/again", check=True) == "", 60)
    assert (path / "again").exists()


@pytest.mark.parametrize("fs", list(FileSystem))
def test_a_frozen_volume_holds_up_neither_a_power_cut_nor_its_removal(
    cluster: Cluster, storage: Storage, fs: FileSystem
) -> None:
    claimed = storage.claim("data", "n3", size="64Mi", fs=fs)
    (storage.path(claimed) / "file").write_text("x")
    for _ in range(2):
        run("fsfreeze", "--freeze", storage.path(claimed))
        cluster.power_off("n3")
        cluster.boot("n3")
        assert (storage.path(claimed) / "file").read_text() == "x", "a freeze syncs"


def test_a_node_on_which_somebody_waits_for_a_frozen_volume_loses_its_power(
    cluster: Cluster, kubectl: Kubectl, storage: Storage
) -> None:
    claimed = storage.claim("data", "n3", size="64Mi", fs=FileSystem.XFS)
    kubectl.apply(pod("writer", claims={"/data": "data"}, node="n3"))
    kubectl.wait_ready("writer")
    kubectl.exec("writer", "sh", "-c", "(while echo x > /data/file; do sleep 0.05; done) >/dev/null 2>&1 &")
    time.sleep(0.5)
    run("fsfreeze", "--freeze", storage.path(claimed))
    time.sleep(0.5)
    cluster.power_off("n3")
    cluster.boot("n3")
    assert (storage.path(claimed) / "file").read_text() in ("x\n", "")


def test_a_volume_that_is_not_mounted_again_leaves_a_bare_directory(cluster: Cluster, storage: Storage) -> None:
    claimed = storage.claim("data", "n1", remount=False)
    (storage.path(claimed) / "file").write_text("x")
    cluster.power_off("n1")
    cluster.boot("n1")
    assert list(storage.path(claimed).iterdir()) == []
    cluster.mount_volume(claimed.volume)
    assert storage.path(claimed).is_mount()


def test_a_movable_volume_is_used_on_another_node_after_a_power_cut(
    cluster: Cluster, kubectl: Kubectl, storage: Storage
) -> None:
    storage.claim("data", None)
    kubectl.apply(pod("first", claims={"/data": "data"}, node="n1"))
    kubectl.wait_ready("first")
    kubectl.exec("first", "sh", "-c", "echo kept > /data/synced; sync; echo lost > /data/unsynced")
    cluster.power_off("n1")
    kubectl.apply(pod("second", claims={"/data": "data"}, node="n2"))
    kubectl.wait_ready("second")
    assert kubectl.exec("second", "cat", "/data/synced") == "kept\n"
    assert kubectl.exec("second", "cat", "/data/unsynced", check=False) == ""


def test_a_volume_grows_while_a_pod_uses_it_and_is_not_removed_under_it(
    cluster: Cluster, kubectl: Kubectl, storage: Storage
) -> None:
    claimed = storage.claim("data", "n2", size="64Mi", fs=FileSystem.XFS)
    kubectl.apply(pod("writer", claims={"/data": "data"}))
    kubectl.wait_ready("writer")
    before = int(kubectl.exec("writer", "stat", "-f", "-c", "%b", "/data"))
    cluster.grow_volume(claimed.volume, "160Mi")
    assert int(kubectl.exec("writer", "stat", "-f", "-c", "%b", "/data")) > before * 1.8
    assert kubectl.get("pv", claimed.volume)["spec"]["capacity"]["storage"] == "160Mi"
    with pytest.raises(VolumeInUse, match="n2"):
        cluster.remove_volume(claimed.volume)


def test_an_ext4_volume_grows_and_keeps_its_files(cluster: Cluster, storage: Storage) -> None:
    claimed = storage.claim("data", "n2", size="64Mi")
    (storage.path(claimed) / "file").write_text("x")
    cluster.grow_volume(claimed.volume, "128Mi")
    assert os.statvfs(storage.path(claimed)).f_blocks * 1024 > 100 << 20
    assert (storage.path(claimed) / "file").read_text() == "x"


def test_another_file_system_can_take_the_place_of_a_volume(cluster: Cluster, storage: Storage) -> None:
    claimed = storage.claim("data", "n1")
    (storage.path(claimed) / "file").write_text("x")
    cluster.unmount_volume(claimed.volume)
    assert list(storage.path(claimed).iterdir()) == []
    cluster.mount_volume(claimed.volume)
    assert (storage.path(claimed) / "file").read_text() == "x"
    cluster.reformat_volume(claimed.volume)
    assert [p.name for p in storage.path(claimed).iterdir()] == ["lost+found"]
