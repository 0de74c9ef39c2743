"""The old side wrote what the copy never got, and more is changed there by hand after its return: all of it is kept."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from demo.pods import tree
from tests.support import ledger_lines as ledger
from tests.support.case import Case
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.homeward import came_home
from tests.support.node_words import unattest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(500)]

WRITTEN = ("ledger", "after the cut", "changed after the cut", "new", "new/inside")
"""What differs from the copy when the old node loses its power."""
BY_HAND = ("by hand", "changed by hand", "mode only")
"""What somebody changes on the old volume after its return."""
DELETED = ("deleted by hand", "directory/deleted by hand")
AWAY = "made on the live side"


def fill(root: Path) -> None:
    """What both sides have."""
    (root / "directory").mkdir()
    for name in ("changed after the cut", "changed by hand", "mode only", "stays", *DELETED):
        (root / name).write_text(f"{name}, as it was")


def write_after_the_cut(root: Path) -> None:
    """What an application does that does not know that nobody hears it; made durable."""
    (root / "after the cut").write_bytes(os.urandom(100_000))
    (root / "changed after the cut").write_text("longer than it was before")
    (root / "new").mkdir(mode=0o2750)
    (root / "new" / "inside").write_text("in a directory that the copy does not know")
    os.chown(root / "new" / "inside", 1234, 4321)
    os.setxattr(root / "new" / "inside", "user.note", b"kept too")
    for directory, _, names in os.walk(root):
        for name in (directory, *(os.path.join(directory, n) for n in names)):
            descriptor = os.open(name, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)


def change_by_hand(root: Path) -> None:
    """What somebody does who has not heard that the application lives elsewhere."""
    (root / "by hand").write_text("a note of somebody")
    before = (root / "changed by hand").stat()
    (root / "changed by hand").write_text("changed by hand, AS IT IS")
    os.utime(root / "changed by hand", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    (root / "mode only").chmod(0o600)
    for name in DELETED:
        (root / name).unlink()


def entries(top: Path, *names: str) -> dict[str, dict[str, Any]]:
    """Everything there is to say of some paths: contents, attributes, times."""
    root = os.fsencode(top)
    return {name: tree.entry(os.path.join(root, name.encode()), root, {}) for name in names}


def cut_off(stage: Stage) -> None:
    """Its node is out of touch while it writes on; then the power goes."""
    cluster, root = stage.case.cluster, stage.source.path()
    cluster.cut(stage.nodes.source)
    length = len(stage.source_lines())
    write_after_the_cut(root)
    stage.until("the old side to write on", lambda: len(stage.source_lines()) > length + 20, 10)
    cluster.power_off(stage.nodes.source)
    stage.attest()


def test_what_the_old_side_wrote_is_kept_byte_for_byte_and_listed(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape(), paired=False)
    fill(stage.source.path())
    stage.join()
    stage.ready()
    stage.synced()
    cut_off(stage)
    stage.until_phase(stage.until_automatic(), "Completed")
    stage.until_answers("target")
    (stage.target.path() / AWAY).write_text("away from home")
    (stage.target.path() / "stays").write_text("changed on the live side as well")

    stage.restore("early")  # its node is still off
    assert stage.nodes.source in stage.until_reason("early", "OldSideInUse")
    case.kubectl("delete", "restore", "early")  # nothing may begin before everything was changed by hand
    unattest(case.cluster, stage.nodes.source)
    case.cluster.boot(stage.nodes.source)
    root = stage.source.path()
    change_by_hand(root)
    wanted = entries(root, *WRITTEN, *BY_HAND)
    old = stage.source_lines()
    since = time.time()
    stage.restore("home")
    done = stage.until_phase("home", "Completed", seconds=240)
    stage.until_answers("source")

    kept = stage.kept_aside(2)
    assert entries(kept, *WRITTEN, *BY_HAND) == wanted
    (told,) = done["diverged"]
    assert (told["epoch"], told["path"], told["complete"]) == (2, ".storagemirror/diverged/2", True)
    assert told["entries"] == len(wanted)
    assert told["bytes"] == sum(entry.get("size", 0) for entry in wanted.values())
    assert told["deleted"] == len(DELETED)
    assert set(told["first"]) <= {*wanted, *DELETED}
    assert set(told["first"])

    for name in DELETED:
        assert (root / name).read_text() == f"{name}, as it was", "what the live side has did not come back"
    assert (root / "changed by hand").read_text() == "changed by hand, as it was"
    assert (root / AWAY).read_text() == "away from home"
    assert not (root / "by hand").exists()
    assert ledger.read(kept / "ledger") == old
    came_home(stage, aside=old)
    silence = stage.client().longest_silence(since)
    assert silence < 30, f"nobody answered for {silence:.1f} s on the way home"
    stage.equal_at_rest()
