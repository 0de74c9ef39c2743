"""A Restore that cannot or must not be done says why, and the live side serves; what waits for a person waits."""

from __future__ import annotations

import time

import pytest

from tests.support import failover_objects as objects
from tests.support.case import Case
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.homeward import came_home, go_away, serves_away

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

BULK = 40 << 20
SIZE = "96Mi"
TOO_SMALL = "24Mi"


def test_what_cannot_be_meant_is_refused_and_touches_nothing(stages: Stages) -> None:
    """Onto a side that is live; of a past epoch."""
    (stage,) = stages(Shape())
    watch = stage.watch_pair()
    stage.restore("early")
    ended = stage.until_phase("early", "Failed", "Superseded")
    assert ended["reason"] == "SideIsLive"
    stage.failover("go")
    stage.until_phase("go", "Completed")
    stage.restore("past", epoch=1)
    assert stage.until_phase("past", "Superseded")["reason"] == "PastEpoch"
    serves_away(stage)
    kinds = {(seen.object["status"].get("operation") or {}).get("kind") for seen in watch.history}
    assert "Restore" not in kinds, "a Restore that is refused was begun"


def test_a_home_that_is_gone_or_new_or_too_small_and_a_restore_that_is_deleted(case: Case, stages: Stages) -> None:
    gone, small, fenced, waiting = everyone = stages(
        gone=Shape(), small=Shape(size=SIZE), fenced=Shape(), waiting=Shape()
    )
    case.apply(objects.restore("lost", "no-such-pair", 1, "Automatic", None))
    go_away(*everyone)
    gone.lose_source()
    small.lose_source()
    small.renew_source(TOO_SMALL)
    (small.target.path() / "bulk").write_bytes(bytes(BULK))
    fenced.debug(side="target")
    for stage in everyone:
        stage.restore(f"{stage.name}-home", cut_over="Manual" if stage is waiting else "Automatic")

    # The original claim is gone: it says so and waits. One of that name comes, new and empty: it is seeded.
    assert gone.source.name in gone.until_reason("gone-home", "ClaimMissing")
    serves_away(gone)
    gone.renew_source(gone.shape.size)
    gone.until_phase("gone-home", "Completed", seconds=90)
    came_home(gone)

    # Smaller than the data: it says so, and the live side serves. Deleted, nothing is left of it; a better one goes on.
    small.until_reason("small-home", "TargetFull")
    assert small.outcome("small-home")["wholeOn"] == ["Target"]
    serves_away(small)
    case.kubectl("delete", "restore", "small-home", "--timeout=60s")
    small.until("it to be rolled back", lambda: small.operation()["phase"] == "RolledBack")
    small.until("phase FailedOver", lambda: small.status()["phase"] == "FailedOver")
    serves_away(small)
    small.lose_source()
    small.renew_source(SIZE)
    small.restore("again")

    # Deleted while both sides are closed: the live side is started again, and a later one brings it home.
    fenced.until_phase("fenced-home", "Fencing")
    fenced.until("the live side to be stopped", lambda: fenced.replicas("target") == 0)
    assert fenced.status()["closedSides"] == ["Source", "Target"]
    case.kubectl("delete", "restore", "fenced-home", "--timeout=60s")
    fenced.until("it to be rolled back", lambda: fenced.operation()["phase"] == "RolledBack")
    assert fenced.operation()["wholeOn"]
    assert fenced.replicas("target") == 1
    serves_away(fenced)
    case.kubectl("delete", "pod", "debug", "--grace-period=1", "--timeout=60s")  # time for its kubelet to say so
    fenced.restore("fenced-again")

    # It waits for a person, and home follows meanwhile.
    assert "approve" in waiting.until_reason("waiting-home", "AwaitingCutOver")
    (waiting.target.path() / "late").write_text("written while it waits")
    late = waiting.source.path() / "late"
    waiting.until("home to follow", lambda: late.exists() and late.read_text() == "written while it waits", 20)
    serves_away(waiting)
    time.sleep(3)
    assert waiting.phase("waiting-home") == "AwaitingCutOver"
    user = waiting.approve("waiting-home")
    done = waiting.until_phase("waiting-home", "Completed", seconds=90)
    assert done["approvedBy"] == user
    came_home(waiting)

    small.until_phase("again", "Completed", seconds=90)
    came_home(small, epoch=small.status()["epoch"])
    assert (small.source.path() / "bulk").stat().st_size == BULK
    done = fenced.until_phase("fenced-again", "Completed", seconds=90)
    # What the first attempt wrote in its last second cannot be told from what somebody wrote just after it.
    assert {name for one in done["diverged"] for name in one["first"]} <= {"ledger"}
    came_home(fenced, epoch=fenced.status()["epoch"])

    def lost() -> tuple[str, str]:
        status = case.get("restore", "lost")["status"]
        return status["phase"], status["reason"]

    case.until("the one without a pair to be given up, a minute after it was made", lambda: lost()[0] == "Failed")
    assert lost() == ("Failed", "PairMissing")
