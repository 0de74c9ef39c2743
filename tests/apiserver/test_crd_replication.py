"""What the API server says to spec.replication: its defaults, and what it refuses by name."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.apiserver import ApiServer
from tests.support.manifests import create, created, pair

pytestmark = pytest.mark.apiserver


def replication(**fields: Any) -> dict[str, Any]:
    return pair(replication=fields)


def test_what_is_left_out_is_filled_in(apiserver: ApiServer, namespace: str) -> None:
    assert created(apiserver, namespace, replication(mode="Manual"))["spec"]["replication"] == {
        "mode": "Manual",
        "timeZone": "UTC",
        "consistency": "Live",
        "pointInterval": "5s",
        "maxStall": "200ms",
        "queue": {"memory": "64Mi", "disk": "1Gi", "alertPercent": 50},
    }


GOOD = {
    "by the clock": replication(mode="Scheduled", schedule="*/15 8-18 * * MON-FRI", timeZone="Europe/Berlin"),
    "by the clock, and once now": replication(mode="Scheduled", schedule="0 3 * * *", trigger="before the upgrade"),
    "when somebody asks": replication(mode="Manual", trigger="2026-03-10T12:00:00Z"),
    "when somebody asks, and nobody has": replication(mode="Manual"),
    "another queue": replication(queue={"memory": "8Mi", "disk": 0, "alertPercent": 90}, remirror="Checksum"),
    "points by the clock": replication(mode="Scheduled", schedule="0 * * * *", consistency="Point"),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_it_takes(apiserver: ApiServer, namespace: str, body: dict[str, Any]) -> None:
    created(apiserver, namespace, body)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no schedule": (replication(mode="Scheduled"), "mode Scheduled needs a schedule"),
    "a schedule that nobody keeps": (replication(schedule="0 3 * * *"), "a schedule is only kept with mode Scheduled"),
    "a schedule by hand": (
        replication(mode="Manual", schedule="0 3 * * *"),
        "a schedule is only kept with mode Scheduled",
    ),
    "a trigger of nothing": (replication(trigger="now"), "mode Continuous has none"),
    "an empty trigger": (replication(mode="Manual", trigger=""), "spec.replication.trigger"),
    "a trigger without end": (replication(mode="Manual", trigger="x" * 254), "spec.replication.trigger"),
    "a word for a schedule": (replication(mode="Scheduled", schedule="@hourly!!"), "spec.replication.schedule"),
    "six fields": (replication(mode="Scheduled", schedule="0 0 3 * * *"), "spec.replication.schedule"),
    "a zone that is none": (
        replication(mode="Scheduled", schedule="0 3 * * *", timeZone="Europe/Atlantis"),
        "spec.replication",
    ),
    "a queue of nothing": (replication(queue={"memory": "1Mi"}), "memory must be at least 4Mi"),
    "a queue of less than nothing": (replication(queue={"disk": "-1Gi"}), "disk must not be negative"),
    "a queue that the agent has no room for": (
        replication(queue={"memory": "512Mi"}),
        "replication.queue.memory must be less than agents.resources.limits.memory",
    ),
    "an alert that never comes": (replication(queue={"alertPercent": 101}), "spec.replication.queue.alertPercent"),
    "a remirror by what is newer": (replication(remirror="Newer"), 'supported values: "SizeAndTime", "Checksum"'),
    "a remirror of what is left alone": (
        pair(replication={"remirror": "Checksum"}, mirror={"compare": "Newer"}),
        "remirror Checksum would send again what mirror.compare Newer leaves alone",
    ),
    "a mode that is none": (replication(mode="Hourly"), 'supported values: "Continuous", "Scheduled", "Manual"'),
}


@pytest.mark.parametrize(("body", "why"), BAD.values(), ids=BAD.keys())
def test_it_refuses(apiserver: ApiServer, namespace: str, body: dict[str, Any], why: str) -> None:
    answer = create(apiserver, namespace, body)
    assert (answer.status in {400, 422}, why in answer.message) == (True, True), answer.message
