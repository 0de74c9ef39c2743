"""What the cluster's programs are told, and what its tools are called."""

from __future__ import annotations

import json
import tarfile
import tomllib
from pathlib import Path

import pytest

from tests.cluster.boot import Boot, BootVolume, format_boot, parse_boot
from tests.cluster.cli import build_parser, split_foreign
from tests.cluster.control_plane import apiserver_flags, corefile
from tests.cluster.delay import attribute, message, messages, packet_number
from tests.cluster.errors import BadName, ClusterError
from tests.cluster.faults import Slowness, loss_rules
from tests.cluster.filesystems import FileSystem
from tests.cluster.images import PAUSE, keep_archive, missing_images, read_archive, write_archive
from tests.cluster.node import namespace_pid
from tests.cluster.node_config import cni_conflist, containerd_toml, kubelet_config, proxy_config
from tests.cluster.packages import missing_packages
from tests.cluster.pki import API_NAMES, kubeconfig, token_file, users
from tests.cluster.tools import cache_directory, go_is_new_enough, hyperkube_key
from tests.cluster.volume import Volume, persistent_volume, quantity, split_claim


def test_containerd_starts_pods_from_the_image_that_is_loaded_with_every_cluster() -> None:
    config = tomllib.loads(containerd_toml())
    assert config["plugins"]["io.containerd.grpc.v1.cri"]["sandbox_image"] == PAUSE


def test_a_kubelet_keeps_its_pods_in_the_nodes_own_cgroup() -> None:
    config = json.loads(kubelet_config("sm-n2"))
    assert config["cgroupRoot"] == "/sm-n2"
    assert config["authentication"]["anonymous"] == {"enabled": False}


def test_every_node_gives_its_own_addresses_to_pods() -> None:
    plugin = json.loads(cni_conflist(7))["plugins"][0]
    assert plugin["ipam"]["ranges"] == [[{"subnet": "10.244.7.0/24"}]]
    assert json.loads(proxy_config(7))["hostnameOverride"] == "n7"


def test_the_api_servers_certificate_is_good_for_every_way_to_it() -> None:
    assert {"127.0.0.1", "10.89.0.10", "10.96.0.1", "kubernetes.default.svc"} <= set(API_NAMES)
    assert "--authorization-mode=Node,RBAC" in apiserver_flags(Path("/pki"))


def test_names_of_the_cluster_are_asked_before_all_others() -> None:
    blocks = corefile(Path("/k"))
    assert blocks.index("cluster.local:53") < blocks.index(".:53 {")


def test_every_user_has_a_token_and_nodes_are_nodes() -> None:
    tokens = {short: f"t-{short}" for short in users()}
    lines = token_file(tokens).splitlines()
    assert 't-n1,system:node:n1,n1,"system:nodes"' in lines
    assert 't-admin,admin,admin,"system:masters"' in lines
    assert len(lines) == len(tokens)


def test_a_kubeconfig_needs_no_other_file() -> None:
    config = json.loads(kubeconfig("https://x:1", b"CA", "secret"))
    assert config["clusters"][0]["cluster"] == {"server": "https://x:1", "certificate-authority-data": "Q0E="}
    assert config["users"][0]["user"] == {"token": "secret"}


def test_what_a_node_is_told_arrives_whole() -> None:
    boot = Boot("n1", "10.89.0.11", "/h", (BootVolume("/v", "ext4", "/dev/loop1"),), ("a.tar",), ("/needed",))
    assert parse_boot(format_boot(boot)) == boot


def test_a_local_volume_is_pinned_to_its_node_and_a_movable_one_is_not() -> None:
    local = persistent_volume(Volume("d", 400 << 20, FileSystem.XFS, "n2", "ns/c"))
    spec = local["spec"]
    assert isinstance(spec, dict)
    assert spec["storageClassName"] == "local"
    assert spec["claimRef"] == {"namespace": "ns", "name": "c"}
    terms = spec["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert terms == [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}]
    movable = persistent_volume(Volume("m", 400 << 20, FileSystem.EXT4, None))["spec"]
    assert isinstance(movable, dict)
    assert "nodeAffinity" not in movable
    assert "claimRef" not in movable
    assert movable["storageClassName"] == "movable"


def test_sizes_are_told_to_kubernetes_in_its_own_words() -> None:
    assert quantity(400 << 20) == "400Mi"
    assert quantity((400 << 20) + 1) == "419430401"


@pytest.mark.parametrize("claim", ["", "a", "a/", "/b", "a/b/c"])
def test_what_names_no_claim_is_refused(claim: str) -> None:
    with pytest.raises(BadName, match="NAMESPACE/NAME"):
        split_claim(claim)


@pytest.mark.parametrize("how", [Slowness(rate="fast"), Slowness(rate="10"), Slowness(loss=1.0), Slowness(delay=-1)])
def test_a_slowness_that_cannot_be_meant_is_refused(how: Slowness) -> None:
    with pytest.raises(BadName):
        how.check()


def test_loss_is_put_on_both_directions_and_taken_off_again() -> None:
    on = loss_rules("n1", 0.05)
    assert on.count("numgen random mod 10000 < 500 drop") == 2
    assert loss_rules("n1", 0.0) == "table bridge loss-n1\ndelete table bridge loss-n1\n"


def test_packets_are_known_by_their_numbers() -> None:
    told = b"".join(
        message(3 << 8, 7460, attribute(10, b"odd"), attribute(1, number.to_bytes(4, "big") + b"\x08\x00\x03"))
        for number in (7, 8)
    )
    assert [packet_number(body) for _, body in messages(told)] == [7, 8]
    assert packet_number(b"\0\0\0\0") is None
    assert list(messages(told[:10])) == []


def test_a_nodes_first_process_is_told_from_a_containers() -> None:
    assert namespace_pid("Name:\tx\nNSpid:\t400\t1\n") == (400, 1)
    assert namespace_pid("NSpid:\t400\t77\t1\n") == (400, 77, 1)
    assert namespace_pid("Name:\tx\n") == ()


def test_an_image_archive_is_read_back_with_its_name(tmp_path: Path) -> None:
    layer, out = tmp_path / "layer.tar", tmp_path / "image.tar"
    with tarfile.open(layer, "w") as tar:
        tar.add(__file__, "file")
    write_archive(layer, "example.local/box:1", out, ["/file"])
    archive = read_archive(out)
    assert archive.names == ("example.local/box:1",)
    assert archive.file_name.startswith("example.local-box-1@")


def test_what_is_no_image_archive_is_refused_with_a_way_to_make_one(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_text("no tar")
    with pytest.raises(ClusterError) as refused:
        read_archive(tmp_path / "x.tar")
    assert "buildah push" in refused.value.hint


def test_a_newer_archive_takes_the_place_of_an_older_one_and_is_imported_once(tmp_path: Path) -> None:
    kept, imported = tmp_path / "images", tmp_path / "imported"
    for content in ("one", "two"):
        layer, out = tmp_path / "layer.tar", tmp_path / f"{content}.tar"
        (tmp_path / "file").write_text(content)
        with tarfile.open(layer, "w") as tar:
            tar.add(tmp_path / "file", "file")
        write_archive(layer, "example.local/box:1", out, ["/file"])
        last = keep_archive(read_archive(out), kept)
    assert list(kept.iterdir()) == [last]
    assert missing_images(kept, imported) == [last]
    imported.write_text(last.name + "\n")
    assert missing_images(kept, imported) == []


def test_tools_are_kept_in_the_users_cache() -> None:
    assert cache_directory({"XDG_CACHE_HOME": "/c", "HOME": "/h"}) == Path("/c/storagemirror")
    assert cache_directory({"HOME": "/h"}) == Path("/h/.cache/storagemirror")


def test_hyperkube_is_built_anew_when_its_sources_change(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main")
    before = hyperkube_key(tmp_path)
    (tmp_path / "main.go").write_text("package main // changed")
    assert hyperkube_key(tmp_path) != before


@pytest.mark.parametrize(
    ("version", "enough"), [("go1.26.0", True), ("go1.27", True), ("go1.25.9", False), ("", False)]
)
def test_an_old_go_is_not_used(version: str, enough: bool) -> None:
    assert go_is_new_enough(version) is enough


def test_a_missing_program_names_its_package() -> None:
    assert missing_packages({"sh": "dash", "no-such-program": "some-package", "/no/such": "other"}) == [
        "other",
        "some-package",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["up", "--nodes", "2"],
        ["--prefix", "x", "down"],
        ["volume", "add", "n1", "d", "--size", "1Gi", "--fs", "xfs", "--claim", "a/b", "--no-remount"],
        ["volume", "add-movable", "d"],
        ["kubectl"],
        ["apiserver", "503", "off"],
        ["slow", "n1", "--rate", "10mbit", "--loss", "5"],
    ],
)
def test_the_command_line_is_understood(words: list[str]) -> None:
    assert callable(build_parser().parse_args(words).run)


@pytest.mark.parametrize(
    ("own", "foreign"),
    [
        (["kubectl"], ["-n", "x", "get", "pods", "--help"]),
        (["--prefix", "a", "kubectl"], ["--version"]),
        (["--prefix=kubectl", "exec", "n1"], ["ls", "-l"]),
        (["up", "--nodes", "2"], []),
        (["--help"], []),
        ([], []),
    ],
)
def test_words_for_another_program_are_left_to_it(own: list[str], foreign: list[str]) -> None:
    assert split_foreign([*own, *foreign]) == (own, foreign)
