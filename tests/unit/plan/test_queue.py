"""What the pair tells of what waits for the target."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.contract import CompareBy, Queued, QueueOrder, Role
from tests.support.world import World


def world(queued: Queued | None, **replication: Any) -> World:
    made = World()
    made.usual(replication=replication)
    made.queue = queued
    made.settle()
    return made


def test_the_source_is_ordered_the_limits_in_bytes_and_the_kind_of_remirror() -> None:
    queue = {"memory": "8Mi", "disk": "1G", "alertPercent": 80}
    made = world(None, queue=queue, remirror="Checksum")
    order = made.order(Role.SOURCE).replication
    assert order.queue == QueueOrder(memory=8 << 20, disk=10**9)
    assert order.remirror is CompareBy.CHECKSUM
    assert world(None).order(Role.SOURCE).replication.queue == QueueOrder()
    assert world(None).order(Role.SOURCE).replication.remirror is None


@pytest.mark.parametrize(
    ("queued", "level", "told"),
    [
        (Queued(percent=49), "Normal", ("False", "QueueBelowAlert")),
        (Queued(percent=50, names=5), "Alert", ("True", "QueueFilling")),
        (Queued(percent=100, overflowed=True, overflows=1), "Overflowed", ("True", "QueueOverflowed")),
    ],
)
def test_it_is_a_condition_and_a_level(queued: Queued, level: str, told: tuple[str, str]) -> None:
    made = world(queued)
    assert made.condition("QueueAlert") == told
    assert made.condition("Ready")[0] == "True", "the copy follows all the same"
    found = made.status()["volumes"][0]["queue"]
    assert (found["level"], found["percent"], found["names"]) == (level, queued.percent, queued.names)
    warned = ("Warning", told[1]) in made.events()
    assert warned == (told[0] == "True")


def test_the_alert_goes_by_itself() -> None:
    made = world(Queued(percent=60), queue={"alertPercent": 60})
    assert made.condition("QueueAlert")[0] == "True"
    made.queue = Queued(percent=59)
    made.settle()
    assert made.condition("QueueAlert") == ("False", "QueueBelowAlert")


def test_figures_that_flow_are_not_written_at_each_beat() -> None:
    made = world(Queued(percent=1, memory_bytes=7))
    made.queue = Queued(percent=2, memory_bytes=8)
    made.settle()
    assert made.status()["volumes"][0]["queue"]["percent"] == 1


def test_where_no_agent_has_said_there_is_no_such_condition() -> None:
    made = world(None)
    assert "QueueAlert" not in {c["type"] for c in made.status()["conditions"]}
    assert "queue" not in made.status()["volumes"][0]
