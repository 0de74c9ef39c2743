"""A Failover that cannot or must not be done says why, and touches nothing."""

from __future__ import annotations

import os
import re
import time

import pytest

from tests.cluster.faults import Slowness
from tests.support import failover_objects as objects
from tests.support import ledger_lines as ledger
from tests.support.case import Case
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.node_words import unattest
from tests.support.operations import seconds_of

pytestmark = pytest.mark.e2e

BEHIND = "3s"


def test_one_of_several_is_done_and_the_others_end_with_a_reason(case: Case, stages: Stages) -> None:
    """One that names no pair, one of a past epoch, one that is deleted before its promotion, two at once."""
    (stage,) = stages(Shape())
    user = case.kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    case.apply(objects.failover("lost", "no-such-pair", "Planned", 1, approved_by=user))
    stage.failover("later", epoch=7)
    assert stage.until_phase("later", "Superseded")["reason"] == "PastEpoch"

    stage.debug()
    stage.failover("cancelled")
    stage.until_phase("cancelled", "Fencing")
    stage.until("the source to be stopped", lambda: stage.replicas("source") == 0)
    case.kubectl("delete", "failover", "cancelled", "--timeout=60s")
    stage.until("it to be rolled back", lambda: stage.operation()["phase"] == "RolledBack")
    assert stage.operation()["reason"] == "Cancelled"
    stage.until_answers("source")
    status = stage.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Source", 1, ["Target"])
    assert stage.replicas("source") == 1
    assert "storagemirror.io/end-proof" not in case.kubectl("get", "pods", "-o", "yaml")

    stage.ready()
    for name in ("one", "two"):
        stage.failover(name)
    stage.until("one of them to wait in Fencing", lambda: "Fencing" in (stage.phase("one"), stage.phase("two")))
    first, second = ("one", "two") if stage.phase("one") == "Fencing" else ("two", "one")
    assert stage.phase(second) == "Pending"
    stage.until_reason(second, "AnotherRuns")
    case.kubectl("delete", "pod", "debug", "--timeout=60s")
    stage.until_phase(first, "Completed")
    stage.until_phase(second, "Superseded")
    stage.failover("from-git", epoch=1)
    assert stage.until_phase("from-git", "Superseded")["reason"] == "PastEpoch"
    assert stage.status()["epoch"] == 2
    stage.until_answers("target")

    def refused() -> str:
        return str((case.get("failover", "lost").get("status") or {}).get("phase"))

    stage.until("the one without a pair to be refused", lambda: refused() == "Failed", 70)
    assert case.get("failover", "lost")["status"]["reason"] == "PairMissing"


def test_a_copy_that_is_behind_is_promoted_only_by_a_person_who_accepts_it(case: Case, stages: Stages) -> None:
    """It counts how far the copy was behind when the source was last heard, and not how long that is ago."""
    behind, fresh = stages(behind=Shape(max_lag=BEHIND, size="96Mi"), fresh=Shape(max_lag=BEHIND))
    source = behind.nodes.source
    case.cluster.slow(source, Slowness(rate="8mbit"))
    (behind.source.path() / "bulk").write_bytes(os.urandom(48 << 20))
    behind.until("the copy to be behind", lambda: (behind.status().get("lagSeconds") or 0) >= 8)
    case.cluster.power_off(source)
    time.sleep(6)  # an outage of its own is no lag
    behind.attest()
    second = fresh.until_automatic()
    fresh.until_phase(second, "Completed")
    first = behind.until_automatic()
    message = behind.until_reason(first, "TargetBehind")
    told = [int(number) for number in re.findall(r"\b([0-9]+) ?s\b", message)]
    assert told, f"it does not say by how much: {message}"
    assert 6 <= max(told) <= 60
    assert behind.status()["closedSides"] == ["Target"]
    assert behind.replicas("source") == 1
    behind.approve(first, acceptLoss={"seconds": 600})
    done = behind.until_phase(first, "Completed")
    assert done["rpoSeconds"] >= 6
    behind.until_answers("target")
    kept = ledger.of("source", behind.target_lines())[-1]
    heard = [a for a in behind.client().answers() if a.side == "source" and a.number > kept.number]
    synced, last_word = seconds_of(done["syncedThrough"]), seconds_of(behind.volume()["sourceTime"])
    assert not [a for a in heard if a.written <= synced], f"{heard[0]} was synced, and is lost"
    assert last_word - kept.written <= done["rpoSeconds"] + 1, "more is lost than is admitted, up to the last word"
    # The link was full: the source's last words about its clock waited behind megabytes. What it wrote since counts.
    assert heard[-1].written - kept.written <= done["rpoSeconds"] + 3, "more is lost than is admitted, up to the cut"
    unattest(case.cluster, source)


def test_a_copy_that_was_never_whole_is_not_promoted(case: Case, stages: Stages) -> None:
    """The first mirror takes its time; a Failover waits for it without touching anything."""
    (stage,) = stages(Shape(size="96Mi"), paired=False)
    case.cluster.slow(stage.nodes.source, Slowness(rate="8mbit"))
    (stage.source.path() / "bulk").write_bytes(os.urandom(48 << 20))
    stage.join()
    stage.until("the pair to be known", lambda: "epoch" in stage.status())
    stage.failover("early", "Unplanned")
    stage.until_reason("early", "NotMirrored")
    time.sleep(3)
    assert stage.outcome("early")["phase"] == "Validating"
    assert stage.replicas("source") == 1
    case.cluster.slow(stage.nodes.source, Slowness())
    stage.until_phase("early", "Completed", seconds=90)
    stage.until_answers("target")
    ledger.never_two_writers(stage.source_lines(), stage.target_lines())
