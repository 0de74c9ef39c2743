"""What a move cost: counted by a client from outside, and held against what the operation says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from demo.manifests import STANDBY

Json = dict[str, Any]


@dataclass(frozen=True)
class Tally:
    """Of one move. Times in seconds."""

    heard: int
    """The last line that the client had seen from the old pod."""
    kept: int
    """The last line of the old pod that the new side holds."""
    lost_seconds: float
    """Between the two, on the writer's clock."""
    away: float
    """From the last answer of the old pod to the first of the new one, on the client's clock."""
    old: str
    new: str

    @property
    def lost(self) -> int:
        """Lines that somebody had seen and that are gone."""
        return max(0, self.heard - self.kept)


def tally(heard: str, kept: str, *, home: bool = False) -> Tally | None:
    """Of the last move, from what `pods/ask.py heard` and `kept` printed; None while the new side has not answered and
    written. `home`: it went from the standby to the first side; else the other way."""
    answers = _turn(json.loads(heard), home)
    log = _turn(json.loads(kept), home)
    if answers is None or log is None:
        return None
    (old, new), (last, _) = answers, log
    return Tally(
        heard=old["line"],
        kept=last["line"],
        lost_seconds=max(0.0, old["at"] - last["at"]),
        away=new["first_heard"] - old["last_heard"],
        old=old["pod"],
        new=new["pod"],
    )


def wrong(found: Tally, operation: Json) -> str | None:
    """Where the operation promises more than the client has seen; None when it does not. Its seconds are whole ones."""
    said = operation.get("rpoSeconds")
    if operation["mode"] == "Planned" or operation.get("kind") == "Restore":
        return f"{found.lost} lines were lost in a move that loses none" if found.lost else None
    if said is not None and found.lost_seconds > said + 1:
        return f"{found.lost_seconds:.1f} s of lines were lost, and the Failover says at most {said} s"
    return None


def _turn(entries: list[Json], home: bool) -> tuple[Json, Json] | None:
    """The last entry of the side that was left, and the first of the one that was moved to; None while the latter has
    none, or the former."""
    begun = len(entries)
    while begun and _of_standby(entries[begun - 1]) is not home:
        begun -= 1
    return (entries[begun - 1], entries[begun]) if 0 < begun < len(entries) else None


def _of_standby(entry: Json) -> bool:
    return str(entry["pod"]).startswith(f"{STANDBY}-")
