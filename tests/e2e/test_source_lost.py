"""A source that is wiped, unmounted or replaced never takes the copy with it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storagemirror.sync.deletions import FRESH_SECONDS
from tests.cluster.command import wait_for
from tests.support.case import Case, Claim

pytestmark = pytest.mark.e2e


@pytest.fixture
def mirrored(case: Case) -> tuple[Claim, Claim]:
    """A pair that replicates forty files."""
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    for i in range(40):
        (source.path() / f"f{i}").write_text(str(i))
    case.application("src")
    case.pair("src", "dst")
    case.replicating()
    case.equal(source, target)
    return source, target


def files(claim: Claim) -> int:
    return sum(1 for path in claim.path().glob("f*"))


def wipe(root: Path) -> None:
    for path in root.iterdir():
        if path.name == "lost+found":
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def test_a_wiped_source_is_held_live_and_its_token_lets_it_through(case: Case, mirrored: tuple[Claim, Claim]) -> None:
    source, target = mirrored
    wipe(source.path())
    condition = case.wait("Held", reason="MassDelete")
    assert "spec.mirror.confirm" in condition["message"]
    case.wait_event("MassDelete")
    assert files(target) >= 20, "more than half of the copy went"
    assert case.status()["phase"] == "Held"
    time.sleep(3)
    assert files(target) >= 20
    case.patch({"mirror": {"confirm": "not-the-token"}})
    time.sleep(3)
    assert files(target) >= 20
    case.patch({"mirror": {"confirm": case.volume_status()["hold"]["token"]}})
    case.wait("Ready", seconds=60)
    case.equal(source, target)
    assert files(target) == 0
    for i in range(40):
        (source.path() / f"f{i}").write_text(str(i))
    case.equal(source, target)
    time.sleep(FRESH_SECONDS + 2)
    wipe(source.path())
    case.wait("Held", reason="MassDelete")  # yesterday's token, still in the spec, must not let it through
    assert files(target) >= 20


def test_a_source_wiped_while_nobody_looked_is_held(case: Case, mirrored: tuple[Claim, Claim]) -> None:
    source, target = mirrored
    case.patch({"paused": True})
    case.until("phase Paused", lambda: case.status().get("phase") == "Paused")
    wipe(source.path())
    case.patch({"paused": False})
    case.wait("Held", reason="MassDelete")
    assert files(target) == 40
    for i in range(40):
        (source.path() / f"f{i}").write_text(str(i))
    case.wait("Ready", seconds=90)
    case.equal(source, target)


def test_a_few_deletions_are_not_held(case: Case, mirrored: tuple[Claim, Claim]) -> None:
    source, target = mirrored
    for i in range(8):
        (source.path() / f"f{i}").unlink()
    case.equal(source, target)
    assert case.condition("Held").get("status", "False") == "False"


def test_another_file_system_in_the_source_s_place_is_held_at_once(case: Case, mirrored: tuple[Claim, Claim]) -> None:
    source, target = mirrored
    with source_away(case, source):
        case.cluster.reformat_volume(source.volume)
        (source.path() / "stranger").write_text("stranger")
    condition = case.wait("Held", reason="SourceReplaced", seconds=90)
    assert condition["message"]
    case.wait_event("SourceReplaced")
    assert files(target) == 40
    assert not (target.path() / "stranger").exists()
    case.patch({"mirror": {"confirm": case.volume_status()["hold"]["token"], "maxDeletePercent": 100}})
    case.wait("Ready", seconds=90)
    case.equal(source, target)


def test_an_unmounted_source_leaves_the_copy_alone_and_goes_on_when_mounted(
    case: Case, mirrored: tuple[Claim, Claim]
) -> None:
    source, target = mirrored
    with source_away(case, source):
        case.cluster.unmount_volume(source.volume)
    case.until(
        "the pair to say so",
        lambda: (
            {c["reason"] for c in case.status().get("conditions", [])} & {"SourceReplaced", "SourceUnmounted"} != set()
        ),
        90,
    )
    assert files(target) == 40
    with source_away(case, source):
        case.cluster.mount_volume(source.volume)
    (source.path() / "back").write_text("back")
    case.wait("Ready", seconds=120)
    case.equal(source, target)
    assert files(target) == 40


@contextmanager
def source_away(case: Case, source: Claim) -> Iterator[None]:
    """While the application is stopped and no pod holds the source volume; afterwards all is started again."""
    case.product.scale(0)
    case.kubectl("scale", "deployment", "app", "--replicas=0")
    case.kubectl("wait", "--for=delete", "pod", "-l", "app=app", "--timeout=60s")
    case.kubectl("delete", "pod", case.agent("source")["metadata"]["name"], "--timeout=60s")
    wait_for("the node to let go of the source", lambda: f"local-volume/{source.volume}" not in mounts(case), 60)
    yield
    case.kubectl("scale", "deployment", "app", "--replicas=1")
    case.kubectl("rollout", "status", "deployment", "app", "--timeout=90s")
    case.product.scale(1)


def mounts(case: Case) -> str:
    """What is mounted on the source's node."""
    return case.cluster.exec("n1", "cat", "/proc/mounts").stdout
