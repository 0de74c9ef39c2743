"""What restore tests do and demand again and again: pairs that live away from home, and that came home whole."""

from __future__ import annotations

from collections.abc import Sequence

from tests.support import ledger_lines as ledger
from tests.support.case import Json
from tests.support.failover_case import Stage

AND_BACK = ["source", "target", "source"]
"""Who wrote, one after the other, once the application is at home again."""


def go_away(*stages: Stage) -> None:
    """By a planned failover each: nobody has to wait for a node, and nothing is written at home afterwards."""
    for stage in stages:
        stage.failover(f"{stage.name}-go")
    for stage in stages:
        stage.until_phase(f"{stage.name}-go", "Completed", seconds=90)
        stage.until_answers("target")


def serves_away(stage: Stage) -> None:
    """The other side is live, answers, and nothing is closed that it needs."""
    stage.until_answers("target", 90)
    status = stage.status()
    assert (status["activeSide"], status["closedSides"]) == ("Target", ["Source"])


def came_home(stage: Stage, epoch: int = 3, aside: Sequence[ledger.Line] = ()) -> None:
    """The source is live at that epoch and has a copy; the sides wrote one after the other; every line that anybody
    wrote, or was acknowledged to the client, is at home, or was kept aside there (`aside`)."""
    stage.until_answers("source", 90)
    stage.ready(120)
    status = stage.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Source", epoch, ["Target"])
    away, home, kept = stage.target_lines(), stage.source_lines(), list(aside)
    ledger.without_gaps("home volume", home)
    assert ledger.turns(home, away, kept) == AND_BACK
    assert set(away) <= set(home), "the copy has lines that home has not"
    missing = stage.missing("source", kept)
    assert not missing, f"{len(missing)} acknowledged lines are not at home, such as {missing[:3]}"


def whole(stage: Stage, operation: Json) -> None:
    """Each line that was acknowledged is on every side that the operation calls whole, and it calls one so."""
    sides = operation["wholeOn"]
    assert sides, "no side is called whole"
    for side in sides:
        missing = stage.missing(side.lower())
        assert not missing, f"{side} is called whole and lacks {missing[:3]} (of {len(missing)})"
