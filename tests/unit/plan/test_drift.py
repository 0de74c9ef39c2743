"""What the pair tells of a copy that somebody else has changed."""

from __future__ import annotations

from storagemirror.contract import Drifted, PointsMade
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


def kept_by_points(watched: Drifted | None) -> World:
    made = World()
    made.usual()
    made.points = PointsMade(number=7, at="2026-01-02T03:04:40Z")  # after the mirror
    made.watched = watched
    made.settle()
    return made


def test_what_the_target_saw_is_told_in_the_same_way() -> None:
    made = kept_by_points(FOUND)
    assert made.condition("Drifted") == ("True", "TargetChanged")
    assert ("Warning", "TargetChanged") in made.events()
    assert made.status()["volumes"][0]["drift"] == {"lastTime": FOUND.at, "count": 2, "first": ["a", "d/b"]}
    made.watched = None
    made.settle()
    assert made.condition("Drifted")[0] == "True", "a new agent has not watched for long enough to say so"
    made.watched = Drifted()
    made.settle()
    assert made.condition("Drifted") == ("False", "TargetUnchanged")


def told_changed(made: World) -> list[str]:
    """What each event said."""
    return [e["message"] for e in made.api.all("events") if e["reason"] == "TargetChanged"]


def test_more_of_the_same_finding_is_no_new_event() -> None:
    made = kept_by_points(FOUND)
    before = told_changed(made)
    made.watched = Drifted(at=FOUND.at, count=5, first=("a", "d/b", "e"))
    made.settle()
    assert made.status()["volumes"][0]["drift"]["count"] == 5
    assert told_changed(made) == before


def test_a_comparison_of_before_the_points_does_not_end_it() -> None:
    made = kept_by_points(FOUND)
    made.drifted, made.watched = Drifted(), None
    made.settle()
    assert made.condition("Drifted")[0] == "True"


def test_a_copy_that_cannot_be_watched_is_unknown_and_says_why() -> None:
    made = kept_by_points(Drifted(unwatched="WatchLimit: the node allows no more"))
    assert made.condition("Drifted") == ("Unknown", "TargetUnwatched")
    said = next(c["message"] for c in made.status()["conditions"] if c["type"] == "Drifted")
    assert "the node allows no more" in said
    assert "max_user_watches" in said
    made.watched = Drifted(at=FOUND.at, count=1, first=("a",), unwatched="WatchLimit: the node allows no more")
    made.settle()
    assert made.condition("Drifted") == ("True", "TargetChanged")


def test_where_points_cannot_be_made_any_more_the_comparisons_have_the_word() -> None:
    made = kept_by_points(None)
    made.points = PointsMade(number=7, at="2026-01-02T03:04:20Z")  # before the last comparison
    made.drifted = FOUND
    made.settle()
    assert made.condition("Drifted") == ("True", "TargetChanged")
    made.drifted = Drifted()
    made.settle()
    assert made.condition("Drifted") == ("False", "TargetUnchanged")
