"""What the pair tells of a copy that somebody else has changed."""

from __future__ import annotations

from storagemirror.contract import Drifted
from tests.support.world import World

FOUND = Drifted(at="2026-01-02T03:05:00Z", count=2, first=("a", "d/b"))


def world(drifted: Drifted | None) -> World:
    made = World()
    made.usual()
    made.drifted = drifted
    made.settle()
    return made


def test_it_is_a_condition_an_event_and_names_and_the_copy_follows_all_the_same() -> None:
    made = world(FOUND)
    assert made.condition("Drifted") == ("True", "TargetChanged")
    assert ("Warning", "TargetChanged") in made.events()
    assert made.status()["volumes"][0]["drift"] == {"lastTime": FOUND.at, "count": 2, "first": ["a", "d/b"]}
    said = next(c["message"] for c in made.status()["conditions"] if c["type"] == "Drifted")
    assert "d/b" in said
    assert "Look for who writes it" in said
    assert made.condition("Ready")[0] == "True"


def test_it_stays_told_until_a_comparison_finds_nothing_more() -> None:
    made = world(FOUND)
    made.drifted = None
    made.settle()
    assert made.condition("Drifted")[0] == "True", "a new agent has not compared yet"
    made.drifted = Drifted()
    made.settle()
    assert made.condition("Drifted") == ("False", "TargetUnchanged")
    assert made.status()["volumes"][0]["drift"] == {"lastTime": FOUND.at, "count": 0, "first": []}


def test_each_finding_has_an_event_of_its_own() -> None:
    made = world(FOUND)
    made.drifted = Drifted(at="2026-01-02T03:15:00Z", count=2, first=("c",))
    made.settle()
    said = [e["message"] for e in made.api.all("events") if e["reason"] == "TargetChanged"]
    assert any(": a" in text for text in said)
    assert any(": c" in text for text in said)


def test_where_nothing_was_ever_found_there_is_no_such_condition() -> None:
    made = world(Drifted())
    assert "Drifted" not in {c["type"] for c in made.status()["conditions"]}
    assert "drift" not in made.status()["volumes"][0]
