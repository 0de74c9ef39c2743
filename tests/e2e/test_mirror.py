"""A volume is mirrored: the first copy, what changes afterwards, and what a user sees of it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.filesystems import FileSystem
from tests.support.case import Case
from tests.support.product import SYSTEM

pytestmark = pytest.mark.e2e


def fill_with_everything(root: Path) -> None:
    """One of each kind of thing that a copy must keep."""
    (root / "plain").write_bytes(b"hello\n")
    (root / "empty").touch()
    (root / "dir" / "deeper").mkdir(parents=True)
    (root / "dir" / "deeper" / "big").write_bytes(os.urandom(3_000_000))
    (root / "hard").hardlink_to(root / "plain")
    (root / "dir" / "hard-too").hardlink_to(root / "plain")
    (root / "link").symlink_to("plain")
    (root / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        here = os.open(root, os.O_DIRECTORY)
        try:
            s.bind(f"/proc/self/fd/{here}/socket")
        finally:
            os.close(here)
    (root / "setuid").write_bytes(b"#!/bin/sh\n")
    os.chown(root / "setuid", 1234, 2345)
    (root / "setuid").chmod(0o6755)
    (root / "dir").chmod(0o1777)
    os.chown(root / "link", 1, 2, follow_symlinks=False)
    os.setxattr(root / "plain", "user.note", b"\x00\xffbytes")
    subprocess.run(["setfacl", "-m", "u:1001:rw,g:1002:r", root / "empty"], check=True)
    subprocess.run(["setfacl", "-d", "-m", "u:1001:rwx", root / "dir"], check=True)
    subprocess.run(["setcap", "cap_net_bind_service+ep", root / "setuid"], check=True)
    with open(os.fsencode(root) + b"/not-utf8-\xff\xfe", "wb") as f:
        f.write(b"name of bytes")
    with (root / "sparse").open("wb") as f:
        f.seek(8 << 20)
        f.write(b"end")
    os.utime(root / "plain", ns=(1_000_000_001, 1_234_567_890_123_456_789))
    os.utime(root / "link", ns=(1, 999_999_999_999_999_999), follow_symlinks=False)
    os.utime(root / "dir" / "deeper", ns=(1, 1_500_000_000_000_000_007))


@pytest.mark.parametrize("fs", [FileSystem.EXT4, FileSystem.XFS])
def test_the_first_copy_keeps_everything_and_live_changes_follow(case: Case, fs: FileSystem) -> None:
    size = "64Mi" if fs is FileSystem.EXT4 else "320Mi"
    source, target = case.claim("src", "n1", size=size, fs=fs), case.claim("dst", "n2", size=size, fs=fs)
    fill_with_everything(source.path())
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.equal(source, target)
    assert (target.path() / "sparse").stat().st_blocks * 512 < 1 << 20
    assert (target.path() / "plain").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (target.path() / "link").lstat().st_mtime_ns == 999_999_999_999_999_999

    root = source.path()
    (root / "plain").write_bytes(b"changed\n")
    (root / "dir").rename(root / "renamed")
    (root / "link").unlink()
    (root / "new").mkdir()
    (root / "new" / "file").write_bytes(b"in a directory that was not there")
    os.chown(root / "empty", 7, 8)
    os.setxattr(root / "sparse", "user.late", b"1")
    case.equal(source, target)
    (root / "sparse").unlink()
    case.equal(source, target)
    assert not case.condition("EverythingKept") or case.condition("EverythingKept")["status"] == "True"


def test_a_writer_in_a_pod_is_followed_and_synced_through_moves(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    script = "for i in $(seq 1 200); do echo $i >> /data/log; echo $i > /data/f$((i % 20)); done; sync"
    case.kubectl("exec", "deploy/app", "--", "sh", "-c", script)
    case.synced_after(time.time())
    case.equal(source, target)
    assert (target.path() / "log").read_text().split()[-1] == "200"
    status = case.volume_status()
    assert status["lagSeconds"] < 30
    assert status["capture"] == "Watch"


def test_a_target_claim_is_made_from_its_template_on_another_node(case: Case) -> None:
    source = case.claim("src", "n1")
    case.application("src")
    (source.path() / "a").write_text("a")
    for node in ("n1", "n2"):
        volume = f"{case.namespace}-free-{node}"[:42]
        case.cluster.add_volume(node, volume, "96Mi")
        case.volumes.append(volume)
    pair = case.pair_object("p", ("data", "src", "dst"))
    pair["spec"]["volumes"][0]["target"]["claimTemplate"] = {
        "storageClassName": "local",
        "resources": {"requests": {"storage": "80Mi"}},
    }
    case.apply(pair)
    case.replicating()
    volume = case.get("pvc", "dst")["spec"]["volumeName"]
    assert volume.endswith("n2"), "the copy lies on the source's node"
    assert (case.cluster.volume_path(volume) / "a").read_text() == "a"
    assert case.condition("SeparateNodes")["status"] == "True"
    case.kubectl("delete", "mirrorpair", "p", "--timeout=30s")
    assert case.get("pvc", "dst")["metadata"].get("deletionTimestamp") is None, "the copy goes with the pair"


def test_both_sides_on_one_node_is_a_warning(case: Case) -> None:
    case.claim("src", "n1")
    case.claim("dst", "n1")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    condition = case.wait("SeparateNodes", "False", "SameNode")
    assert "n1" in condition["message"]


def test_several_volumes_are_carried_and_one_in_trouble_does_not_stop_the_other(case: Case) -> None:
    sources = [case.claim("src-a", "n1"), case.claim("src-b", "n1")]
    targets = [case.claim("dst-a", "n2"), case.claim("dst-b", "n2")]
    (targets[1].path() / "foreign").write_text("not ours")
    for number, source in enumerate(sources):
        case.application(source.name, f"app-{number}")
        (source.path() / "file").write_text(source.name)
    case.apply(case.pair_object("p", ("a", "src-a", "dst-a"), ("b", "src-b", "dst-b")))
    case.wait_reason("TargetNotEmpty")
    case.equal(sources[0], targets[0])
    assert (targets[1].path() / "foreign").read_text() == "not ours"
    assert case.condition("Ready")["status"] == "False"
    (targets[1].path() / "foreign").unlink()
    case.wait("Ready", seconds=90)
    case.equal(sources[1], targets[1])


def test_names_of_63_characters_work(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    (source.path() / "a").write_text("a")
    name, volume = "p" * 63, "v" * 63
    case.apply(case.pair_object(name, (volume, "src", "dst")))
    case.replicating(name)
    case.equal(source, target)
    assert case.volume_status(name)["name"] == volume


def test_a_pause_changes_nothing_on_the_target_and_what_was_missed_follows(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.patch({"paused": True})
    case.until("phase Paused", lambda: case.status().get("phase") == "Paused")
    (source.path() / "late").write_text("late")
    time.sleep(3)
    assert not (target.path() / "late").exists()
    case.patch({"paused": False})
    case.equal(source, target)
    case.replicating()


READ = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8081/metrics', timeout=5).read().decode())"


def metrics(case: Case) -> list[str]:
    """What Prometheus reads of each of the operator's pods."""
    words = ("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name")
    pods = case.cluster.kubectl(*words).stdout.split()
    return [case.cluster.kubectl("-n", SYSTEM, "exec", pod, "--", "python3", "-c", READ).stdout for pod in pods]


def test_a_user_sees_how_it_stands_with_kubectl_alone(case: Case) -> None:
    case.claim("src", "n1")
    case.claim("dst", "n2")
    case.application("src")
    case.pair("src", "dst")
    done = case.kubectl("wait", "mirrorpair/p", "--for=condition=Ready", "--timeout=90s")
    assert "condition met" in done
    header, row = case.kubectl("get", "mp").splitlines()
    assert header.split()[:6] == ["NAME", "PHASE", "LIVE", "EPOCH", "LAG", "READY"]
    assert row.split()[:4] == ["p", "Replicating", "Source", "1"]
    assert row.split()[5] == "True"
    described = case.kubectl("describe", "mirrorpair", "p")
    for word in ("Replicating", "Synced Through", "Events:"):
        assert word in described
    status = case.status()
    assert status["observedGeneration"] == case.get("mirrorpair", "p")["metadata"]["generation"]
    assert {c["type"] for c in status["conditions"]} >= {"Ready", "Reconciling", "Stalled", "Replicating"}
    assert case.condition("Reconciling")["status"] == "False"
    assert case.condition("Stalled")["status"] == "False"
    lag = f'storagemirror_lag_seconds{{namespace="{case.namespace}",pair="p",volume="data"}} '
    assert sum(lag in text for text in metrics(case)) == 1, "that of the leader alone"


def test_without_privilege_the_agents_run_as_the_application_and_say_what_is_not_kept(case: Case) -> None:
    level = "pod-security.kubernetes.io/enforce=restricted"
    case.cluster.kubectl("label", "namespace", case.namespace, level, "--overwrite")
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    for root in (source.path(), target.path()):
        os.chown(root, 1000, 1000)
    (source.path() / "mine").write_text("mine")
    os.chown(source.path() / "mine", 1000, 1000)
    (source.path() / "of-another").write_text("readable")
    (source.path() / "secret").write_text("unreadable")
    (source.path() / "secret").chmod(0o600)
    case.application("src", user=1000)
    case.pair("src", "dst", agents={"privilege": "Restricted"})
    case.replicating()
    assert (target.path() / "mine").read_text() == "mine"
    assert (target.path() / "of-another").read_text() == "readable"
    case.wait("EverythingKept", "False", "NotEverythingKept")
    kept = {entry["kind"]: entry for entry in case.volume_status()["notKept"]}
    assert kept["Owner"]["first"] == ["of-another"]
    assert kept["Unreadable"]["first"] == ["secret"]
    (source.path() / "mine").write_text("changed")
    case.until("the change to follow", lambda: (target.path() / "mine").read_text() == "changed", 20)
