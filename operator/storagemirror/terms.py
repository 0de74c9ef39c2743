"""What a mirror leaves alone: the words in which order, command line and wire speak of rules and orphans.

*Rules* say which entries of a volume are mirrored at all. They are an ordered list of patterns in the language of
`.gitignore`; the last that matches an entry counts, and an excluded directory is not entered. `fs.selection` compiles
them. What is excluded is not sent, and on the target it is nobody's orphan.

An *orphan* is on the target and not on the source. Which of them go is the target's to decide: both sides must have
agreed on the terms before anything is written.

These types travel (as MessagePack arrays), so a field is only ever added at the end, with a default.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec

from storagemirror.errors import BadInput

RULES = 256
"""Rules in one list, at most."""

RULE_INVALID = "RuleInvalid"
"""Reason of the error that says so."""

PATTERN_LIMIT = 1024
"""Bytes of one pattern, at most."""

RULES_BYTES = 65_536
"""Bytes of all patterns of a list together, at most: they travel in Hello."""


class Rule(msgspec.Struct, frozen=True, array_like=True):
    """One line of the list."""

    include: bool
    pattern: Annotated[bytes, msgspec.Meta(min_length=1, max_length=PATTERN_LIMIT)]
    """As in `.gitignore`, without the leading `!`. Names are bytes; a pattern is UTF-8, or the bytes it stands for."""

    def __str__(self) -> str:
        text = self.pattern.decode("utf-8", "backslashreplace")
        return f"{'include' if self.include else 'exclude'} {text}"


Rules = tuple[Rule, ...]


class OrphanPolicy(StrEnum):
    """What is done with an entry that the source does not have."""

    DELETE = "Delete"
    KEEP = "Keep"
    """Left where it is, and counted."""
    REPORT = "Report"
    """As Keep, and the first names are told."""
    MOVE = "Move"
    """Moved to `.storagemirror/orphans/<time>/`, under the path that it had."""


class Terms(msgspec.Struct, frozen=True, array_like=True):
    """What both sides must agree on, beside what the volume holds."""

    rules: Annotated[Rules, msgspec.Meta(max_length=RULES)] = ()
    orphans: OrphanPolicy = OrphanPolicy.DELETE
    older_than_seconds: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 0
    """Delete and Move: only what was not modified for so long, by the target's clock; 0: at once."""
    ignore_deletes: bool = False
    """Nothing is deleted or moved because the source does not have it (any more), whatever the policy."""

    @property
    def keeps(self) -> bool:
        """Whether something that the source does not have may stay where it is."""
        return self.leaves_all or self.older_than_seconds > 0

    @property
    def leaves_all(self) -> bool:
        """Whether every orphan stays where it is."""
        return self.ignore_deletes or self.orphans in (OrphanPolicy.KEEP, OrphanPolicy.REPORT)

    @property
    def mirrors_exactly(self) -> bool:
        """Whether the target holds afterwards what the source holds, and nothing else."""
        return self == EXACT


EXACT = Terms()
"""Everything is mirrored, and what the source does not have is deleted."""


def check_rules(rules: Rules) -> None:
    """`BadInput` where there are too many, or too long ones. (What a pattern means is checked by `fs.selection`.)"""
    if len(rules) > RULES:
        raise BadInput(f"expected at most {RULES} rules, got {len(rules)}", reason=RULE_INVALID)
    for rule in rules:
        if not 0 < len(rule.pattern) <= PATTERN_LIMIT:
            raise BadInput(
                f"expected a pattern of 1 to {PATTERN_LIMIT} bytes, got {len(rule.pattern)}", reason=RULE_INVALID
            )
    whole = sum(len(rule.pattern) for rule in rules)
    if whole > RULES_BYTES:
        raise BadInput(f"expected patterns of at most {RULES_BYTES} bytes together, got {whole}", reason=RULE_INVALID)
