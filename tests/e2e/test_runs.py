"""Replication in runs on a real cluster: at the times of a schedule, and when somebody asks."""

from __future__ import annotations

import time

import pytest

from tests.support.case import Case, Claim

pytestmark = pytest.mark.e2e

EACH_MINUTE = {"mode": "Scheduled", "schedule": "* * * * *", "timeZone": "Asia/Kathmandu"}


def waiting(case: Case, runs: str = "") -> str:
    """Until the pair waits for its next run, and has had one later than `runs`; when the last one was."""
    case.until(
        f"a run after {runs or 'the beginning'}",
        lambda: case.status().get("phase") == "Waiting" and (case.status().get("lastRun") or "") > runs,
        100,
    )
    return str(case.status()["lastRun"])


def holds(claim: Claim, name: str, text: str) -> bool:
    path = claim.path() / name
    return path.exists() and path.read_text() == text


def test_by_hand_and_by_a_schedule_nothing_is_sent_between_runs(case: Case) -> None:
    source, target = case.claim("src", "n1"), case.claim("dst", "n2")
    (source.path() / "a").write_text("first")
    case.application("src")
    case.pair("src", "dst", replication={"mode": "Manual", "trigger": "one"})
    first = waiting(case)
    assert holds(target, "a", "first")
    assert case.status()["trigger"] == "one"

    (source.path() / "a").write_text("second")
    time.sleep(5)
    assert holds(target, "a", "first"), "it was sent without being asked for"
    print(case.kubectl("get", "mirrorpair", "p", "-o", "wide"))
    case.patch({"replication": {"trigger": "two"}})
    second = waiting(case, first)
    assert holds(target, "a", "second")
    assert case.status()["trigger"] == "two"

    case.patch({"replication": {**EACH_MINUTE, "trigger": None}})
    (source.path() / "a").write_text("third")
    case.until("the next run to be told", lambda: bool(case.status().get("nextRun")), 20)
    waiting(case, second)
    assert holds(target, "a", "third")
    case.equal(source, target)
    case.wait("OnSchedule", seconds=10)
