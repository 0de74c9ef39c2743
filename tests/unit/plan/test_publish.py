"""When a status is written, and what its figures say."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from storagemirror.clock import rfc3339
from storagemirror.contract import NotKept, Phase, Progress, Report, Role
from storagemirror.errors import BadInput
from storagemirror.plan.quantities import quantity
from storagemirror.plan.times import earliest, later
from tests.support.world import START, World


def say(world: World, *, at: float, **more: Any) -> None:
    """The source agent's report at `at` seconds after the start, and a pass."""
    base = world.agents(Role.SOURCE)[0]["metadata"]["name"].rpartition("-")[0]
    order = world.order(Role.SOURCE)
    world.clock.moment = START + timedelta(seconds=at)
    given: dict[str, Any] = {"phase": Phase.REPLICATING, "mirrored_at": "2026-01-02T03:04:30Z", "peer_connected": True}
    report = Report(instance=order.instance, epoch=order.epoch, revision=order.revision, **(given | more))
    world.say(Role.SOURCE, base, report)
    world.pass_once()


def quiet_pair() -> World:
    world = World()
    world.usual()
    world.settle()
    world.silent.update(Role)
    say(world, at=100, synced_through=at(100), lag_seconds=0.0, lag_bytes=0)
    say(world, at=140, synced_through=at(140), lag_seconds=0.0, lag_bytes=0)
    return world


def at(seconds: float) -> str:
    return rfc3339(int((START + timedelta(seconds=seconds)).timestamp() * 1e9))


def test_an_idle_pair_is_written_twice_a_minute() -> None:
    world = quiet_pair()
    before = world.api.writes
    for second in range(145, 265, 5):
        say(world, at=second, synced_through=at(second), lag_seconds=0.0, lag_bytes=0)
    assert world.api.writes - before == 4
    assert world.status()["syncedThrough"] == at(260)


def test_a_pair_whose_data_flows_is_written_each_ten_seconds() -> None:
    world = quiet_pair()
    before = world.api.writes
    for second in range(145, 205, 5):
        say(world, at=second, synced_through=at(second), lag_seconds=0.4, lag_bytes=4096)
    assert world.api.writes - before == 6
    assert (world.status()["lagSeconds"], world.status()["lag"]) == (1, "1s")


def test_progress_is_written_each_two_seconds() -> None:
    world = quiet_pair()
    done = 0
    before = world.api.writes
    for second in range(141, 161):
        done += 100
        progress = Progress(files_done=done, files_total=4000, bytes_done=done * 10, bytes_total=40000)
        say(world, at=second, phase=Phase.MIRRORING, progress=progress)
    assert world.api.writes - before in (10, 11)
    shown = world.status()["volumes"][0]
    assert shown["phase"] == "Mirroring"
    assert shown["progress"]["percent"] in (47, 50)


def test_what_people_act_on_is_written_at_once() -> None:
    world = quiet_pair()
    before = world.api.writes
    lost = (NotKept(kind="Xattr", count=3, first=("b'a'",)),)
    say(world, at=141, synced_through=at(141), lag_seconds=0.0, not_kept=lost)
    assert world.api.writes > before
    assert world.condition("EverythingKept") == ("False", "NotEverythingKept")
    assert world.status()["volumes"][0]["notKept"] == [{"kind": "Xattr", "count": 3, "first": ["b'a'"]}]


def test_what_was_safe_stays_safe_when_a_new_agent_knows_nothing_yet() -> None:
    world = quiet_pair()
    say(world, at=141, phase=Phase.CONNECTING, mirrored_at=None, peer_connected=False)
    assert world.status()["syncedThrough"] == at(140)
    assert world.status()["phase"] == "Disconnected"
    assert "lagSeconds" not in world.status()


def test_what_a_clock_said_that_was_set_back_since_is_not_kept() -> None:
    world = quiet_pair()
    world.source_ahead = 3600
    say(world, at=150, synced_through=at(150 + 3600), mirrored_at=at(150 + 3600), lag_seconds=0.0)
    assert world.status()["syncedThrough"] == at(150 + 3600)
    world.source_ahead = 0
    say(world, at=160, synced_through=at(160), mirrored_at=at(160), lag_seconds=0.0)
    say(world, at=195, synced_through=at(195), mirrored_at=at(160), lag_seconds=0.0)
    assert world.status()["syncedThrough"] == at(195)
    assert world.status()["volumes"][0]["lastFullMirror"] == at(160)
    say(world, at=200, phase=Phase.CONNECTING, mirrored_at=None, peer_connected=False)
    assert world.status()["syncedThrough"] == at(195)


def test_a_report_of_an_older_number_is_not_heard() -> None:
    world = quiet_pair()
    base = world.agents(Role.SOURCE)[0]["metadata"]["name"].rpartition("-")[0]
    stale = Report(instance=0, epoch=1, revision=1, phase=Phase.FAILED)
    world.say(Role.SOURCE, base, stale)
    world.pass_once()
    assert world.status()["volumes"][0]["source"].get("phase") is None


def test_a_transition_time_moves_only_when_the_status_flips() -> None:
    world = quiet_pair()
    before = next(c for c in world.status()["conditions"] if c["type"] == "Ready")["lastTransitionTime"]
    say(world, at=200, synced_through=at(200), lag_seconds=0.0)
    after = next(c for c in world.status()["conditions"] if c["type"] == "Ready")["lastTransitionTime"]
    assert before == after


@pytest.mark.parametrize(
    ("text", "number"),
    [("10Gi", 10 * 2**30), ("1G", 10**9), ("500m", 0.5), ("1e3", 1000), ("7", 7), (".5", 0.5), ("2Ei", 2**61)],
)
def test_quantities_are_numbers(text: str, number: float) -> None:
    assert float(quantity(text)) == number


@pytest.mark.parametrize("text", ["", "Gi", "10GiB", "ten", "1 Gi", "10Q"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        quantity(text)


def test_the_earliest_of_times_is_unknown_when_one_is() -> None:
    assert earliest(["2026-01-02T00:00:01Z", "2026-01-02T00:00:00Z"]) == "2026-01-02T00:00:00Z"
    assert earliest(["2026-01-02T00:00:01Z", None]) is None
    assert earliest([]) is None


def test_the_later_of_two_times_ignores_what_is_none() -> None:
    assert later(None, "2026-01-02T00:00:01Z") == "2026-01-02T00:00:01Z"
    assert later("2026-01-02T00:00:01+00:00", "nonsense") == "2026-01-02T00:00:01+00:00"
    assert later(None, None) is None
