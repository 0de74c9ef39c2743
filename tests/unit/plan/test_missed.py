"""What the pair tells of files that were changed on the source and that nothing had named."""

from __future__ import annotations

from storagemirror.contract import Missed
from tests.support.world import World

FOUND = Missed(at="2026-01-02T03:05:00Z", count=2, first=("a", "d/b"))


def world(missed: Missed | None) -> World:
    made = World()
    made.usual()
    made.missed = missed
    made.settle()
    return made


def test_it_is_a_condition_an_event_and_names_and_the_copy_follows_all_the_same() -> None:
    made = world(FOUND)
    assert made.condition("ChangesMissed") == ("True", "SourceChangedUnseen")
    assert ("Warning", "SourceChangedUnseen") in made.events()
    assert made.status()["volumes"][0]["missed"] == {"lastTime": FOUND.at, "count": 2, "first": ["a", "d/b"]}
    said = next(c["message"] for c in made.status()["conditions"] if c["type"] == "ChangesMissed")
    assert "d/b" in said
    assert "memory maps" in said
    assert made.condition("Ready")[0] == "True"


def test_it_stays_told_until_a_comparison_finds_nothing_more() -> None:
    made = world(FOUND)
    made.missed = None
    made.settle()
    assert made.condition("ChangesMissed")[0] == "True", "a new agent has not compared yet"
    made.missed = Missed()
    made.settle()
    assert made.condition("ChangesMissed") == ("False", "EverythingSeen")
    assert made.status()["volumes"][0]["missed"] == {"lastTime": FOUND.at, "count": 0, "first": []}


def test_each_finding_has_an_event_of_its_own() -> None:
    made = world(FOUND)
    made.settle()
    made.missed = Missed(at="2026-01-02T03:15:00Z", count=1, first=("c",))
    made.settle()
    said = [e["message"] for e in made.api.all("events") if e["reason"] == "SourceChangedUnseen"]
    assert any(": a" in text for text in said)
    assert any(": c" in text for text in said)


def test_where_nothing_was_ever_found_there_is_no_such_condition() -> None:
    made = world(Missed())
    assert "ChangesMissed" not in {c["type"] for c in made.status()["conditions"]}
    assert "missed" not in made.status()["volumes"][0]
