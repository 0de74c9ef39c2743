"""What Failovers and Restores share: an approval stays, and an end is for ever."""

from __future__ import annotations

from pydantic import Field, JsonValue

from storagemirror.api.conditions import Condition
from storagemirror.api.model import Count, map_by, rule
from storagemirror.api.operation import ENDED, Account

FINAL = "[" + ", ".join(f"'{phase.value}'" for phase in sorted(ENDED)) + "]"
"""The phases that are for ever, as CEL writes a list."""


def ended_stays(message: str) -> JsonValue:
    """The rule of a status: a phase that is an end never changes."""
    return rule(
        f"!(has(oldSelf.phase) && oldSelf.phase in {FINAL}) || (has(self.phase) && self.phase == oldSelf.phase)",
        message,
    )


def approval_stays(kind: str) -> tuple[JsonValue, ...]:
    """The rules of a spec: who has approved is named, and neither is taken back."""
    return (
        rule(
            "!(has(oldSelf.approved) && oldSelf.approved) || (has(self.approved) && self.approved)",
            f"an approval cannot be taken back: delete the {kind} to stop it while that is possible",
            field=".approved",
        ),
        rule(
            "!(has(oldSelf.approved) && oldSelf.approved) || (has(self.approvedBy) == has(oldSelf.approvedBy) && "
            "(!has(self.approvedBy) || self.approvedBy == oldSelf.approvedBy))",
            "who has approved stays: approvedBy cannot change once approved is true",
            field=".approvedBy",
        ),
        rule(
            "!(has(self.approved) && self.approved) || (has(self.approvedBy) && size(self.approvedBy) > 0)",
            "approvedBy must name who approves",
            field=".approvedBy",
        ),
    )


class Outcome(Account):
    """What came of it, as its object shows it."""

    epoch: int | None = Field(
        default=None,
        ge=1,
        description="The pair's epoch after it completed.",
        json_schema_extra={"format": "int64"},
    )
    observed_generation: Count | None = Field(
        default=None, description="The metadata.generation of the spec that this status speaks of."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        max_length=16,
        description="Ready: it completed. Reconciling: it goes on by itself. Stalled: it waits for somebody, or has "
        "ended without completing.",
        json_schema_extra=map_by("type"),
    )

    @property
    def ended(self) -> bool:
        """Whether it is over, for ever."""
        return self.phase in ENDED
