"""What the pair tells of how changes are seen, and why no better."""

from __future__ import annotations

import pytest

from storagemirror.contract import Capture, PointsMade
from tests.support.world import World

LIMIT = "no more watches: raise fs.inotify.max_user_watches on the node"


def world(capture: Capture, why: str = "", points: PointsMade | None = None) -> World:
    made = World()
    made.usual()
    made.capture, made.points = (capture, why), points
    made.settle()
    return made


def shown(made: World) -> tuple[str | None, str | None]:
    volume = made.status()["volumes"][0]
    return volume.get("capture"), volume.get("captureWhy")


def warnings(made: World) -> list[str]:
    return [e["message"] for e in made.api.all("events") if e["reason"] == "SourceUnwatched"]


def test_without_watches_it_says_why_and_warns_once() -> None:
    made = world(Capture.SCAN, LIMIT)
    assert shown(made) == ("Scan", LIMIT)
    made.settle()
    (said,) = warnings(made)
    assert LIMIT in said


def test_live_says_why_it_is_not_the_trace() -> None:
    capture, why = shown(world(Capture.WATCH))
    assert capture == "Watch"
    assert why is not None
    assert "Point" in why


@pytest.mark.parametrize("told", ["TraceUnproven: not yet", "NotPermitted: no CAP_SYS_ADMIN"])
def test_points_say_why_it_is_not_the_trace(told: str) -> None:
    points = PointsMade(number=1, at="2026-01-02T03:04:40Z", untraced="of before")
    assert shown(world(Capture.WATCH, told, points)) == ("Watch", told)
    assert shown(world(Capture.WATCH, "", points)) == ("Watch", "of before")


def test_of_the_trace_there_is_nothing_to_say() -> None:
    points = PointsMade(number=1, at="2026-01-02T03:04:40Z")
    made = world(Capture.TRACE, "", points)
    assert shown(made) == ("Trace", None)
    assert not warnings(made)
