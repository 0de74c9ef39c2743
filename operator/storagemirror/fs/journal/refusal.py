"""Why a target does not take a point."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """As the peer is told."""

    CONFLICT = "Conflict"
    """The target is not what the base says it is."""
    DENIED = "Denied"
    """We may not do what the point needs."""
    DAMAGED = "Damaged"
    """What came is not what was sent."""
    OTHER = "Other"


class NotTaken(Exception):
    """A point cannot be taken. Nothing of it was applied, and nothing will be."""

    def __init__(self, why: Why, message: str, path: bytes = b"") -> None:
        super().__init__(message)
        self.why = why
        self.message = message
        self.path = path
