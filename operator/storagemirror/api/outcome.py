"""What Failovers and Restores share: an end is for ever."""

from __future__ import annotations

from pydantic import JsonValue

from storagemirror.api.model import rule
from storagemirror.api.operation import ENDED

FINAL = "[" + ", ".join(f"'{phase.value}'" for phase in sorted(ENDED)) + "]"
"""The phases that are for ever, as CEL writes a list."""


def ended_stays(message: str) -> JsonValue:
    """The rule of a status: a phase that is an end never changes."""
    return rule(
        f"!(has(oldSelf.phase) && oldSelf.phase in {FINAL}) || (has(self.phase) && self.phase == oldSelf.phase)",
        message,
    )
