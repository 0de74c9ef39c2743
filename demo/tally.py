"""What a move cost: counted by a client from outside, and held against what the Failover says of itself."""

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


def tally(heard: str, kept: str) -> Tally | None:
    """From what `pods/ask.py heard` and `kept` printed; None while the standby has not answered and written."""
    answers: list[Json] = json.loads(heard)
    log: list[Json] = json.loads(kept)
    new = next((a for a in answers if _of_standby(a)), None)
    before = answers[: answers.index(new)] if new is not None else []
    old_lines = [entry for entry in log if not _of_standby(entry)]
    if new is None or not before or not old_lines or not any(_of_standby(entry) for entry in log):
        return None
    old, last = before[-1], old_lines[-1]
    return Tally(
        heard=old["line"],
        kept=last["line"],
        lost_seconds=max(0.0, old["at"] - last["at"]),
        away=new["first_heard"] - old["last_heard"],
        old=old["pod"],
        new=new["pod"],
    )


def wrong(found: Tally, operation: Json) -> str | None:
    """Where the Failover promises more than the client has seen; None when it does not. Its seconds are whole ones."""
    said = operation.get("rpoSeconds")
    if operation["mode"] == "Planned":
        return f"{found.lost} lines were lost in a planned failover" if found.lost else None
    if said is not None and found.lost_seconds > said + 1:
        return f"{found.lost_seconds:.1f} s of lines were lost, and the Failover says at most {said} s"
    return None


def _of_standby(entry: Json) -> bool:
    return str(entry["pod"]).startswith(f"{STANDBY}-")
