"""After a failover the application comes home with everything it has written, and can leave again."""

from __future__ import annotations

import shutil

import pytest

from tests.support.case import Case
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.homeward import came_home, go_away

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

WAY_HOME = [
    "Validating",
    "Mirroring",
    "Proving",
    "Fencing",
    "Draining",
    "Promoting",
    "Switching",
    "Verifying",
    "Completed",
]


def change_on_the_live_side(stage: Stage) -> None:
    """What an application does while it is away from home: it makes, changes and removes things."""
    root = stage.target.path()
    (root / "changed").write_text("as it is away from home")
    (root / "removed").unlink()
    shutil.rmtree(root / "directory" / "removed")
    (root / "directory" / "new").mkdir()
    (root / "directory" / "new" / "made").write_text("away from home")


def fill(stage: Stage) -> None:
    """What is there from the beginning."""
    root = stage.source.path()
    (root / "directory" / "removed").mkdir(parents=True)
    for name in ("stays", "changed", "removed", "directory/removed/with-it"):
        (root / name).write_text("as it was at home")


def test_every_kind_of_application_goes_and_comes_home_without_loss(case: Case, stages: Stages) -> None:
    everyone = stages(
        plain=Shape(), label=Shape(kind="StatefulSet", strategy="Label"), gate=Shape(start="Gate"), paired=False
    )
    gate = everyone[2]
    for stage in everyone:
        fill(stage)
    for stage in everyone:
        stage.join()
    for stage in everyone:
        stage.ready()
    go_away(*everyone)
    for stage in everyone:
        change_on_the_live_side(stage)
    gate.scale("source", 1)  # as it stands in Git
    for stage in everyone:
        stage.restore(f"{stage.name}-home")

    for stage in everyone:
        done = stage.until_phase(f"{stage.name}-home", "Completed", seconds=120)
        assert stage.timeline(f"{stage.name}-home") == WAY_HOME
        assert {proof["stage"] for proof in done["equality"]} == {"Live", "Final"}
        assert all(proof["digest"] for proof in done["equality"])
        assert {proof["grade"] for proof in done["proofs"]} == {"Proven"}
        assert (done["epoch"], done["rpoSeconds"]) == (3, 0)
        assert set(done["wholeOn"]) == {"Source", "Target"}
        kept = sum(one["entries"] + one["deleted"] for one in done.get("diverged") or [])
        assert kept == 0, f"nobody wrote at home after the cut, and something was kept aside: {done['diverged']}"
    gate.scale("target", 1)  # as it stands in Git: the gate keeps it away
    for stage in everyone:
        came_home(stage)
        assert (stage.source.path() / "changed").read_text() == "as it is away from home"
        assert not (stage.source.path() / "removed").exists()
        assert stage.status()["phase"] == "Replicating"
    assert gate.pods("target") == [], "the gate does not keep the standby away"
    everyone[0].equal_at_rest()

    for stage in everyone:
        stage.failover(f"{stage.name}-again")
    for stage in everyone:
        done = stage.until_phase(f"{stage.name}-again", "Completed", seconds=90)
        assert (done["epoch"], done["rpoSeconds"]) == (4, 0)
        stage.until_answers("target")
        assert not stage.missing("target")
