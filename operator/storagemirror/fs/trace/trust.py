"""Is what the trace names to be relied on? A wrong device filters everything out and says nothing, so somebody has to
have seen that what changed was named."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Proof(Enum):
    """How far the trace is proven."""

    UNPROVEN = "Unproven"
    """Nothing was seen yet: compare everything."""
    PROVEN = "Proven"
    """What a comparison found to have changed was named, all of it."""
    BROKEN = "Broken"
    """A change was not named: compare everything from now on, and say so."""


@dataclass(slots=True)
class Trust:
    """Fed by comparisons; read before hints are used alone."""

    proof: Proof = Proof.UNPROVEN
    missed: int = 0
    """Pages, or files, that changed and were not named, ever. Anything but 0 is an alert."""

    def compared(self, named: int, missed: int) -> None:
        """A comparison of everything between two points found `named` changes that hints named, `missed` that neither
        hints nor the rule of `candidates` gave. A change found without any that was named proves nothing."""
        self.missed += missed
        if self.missed:
            self.proof = Proof.BROKEN
        elif named:
            self.proof = Proof.PROVEN
