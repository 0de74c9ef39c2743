"""What can go wrong with the cluster, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence


class ClusterError(Exception):
    """Base of everything this package raises on purpose. `hint` says what a person can do (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class BadName(ClusterError):
    """A prefix, a node, a volume or a size that cannot be meant."""


class CommandFailed(ClusterError):
    """A program that must succeed did not; carries its words, status and the end of what it said."""

    def __init__(self, words: Sequence[str], status: int, said: str) -> None:
        shown = " ".join(words)
        super().__init__(f"`{shown[:400]}` ended with status {status}: {said.strip()[-1500:] or '(it said nothing)'}")
        self.words = list(words)
        self.status = status
        self.said = said


class TimedOut(ClusterError):
    """Something did not become true in time; the message says what, how long, and what was last seen."""


class NotUp(ClusterError):
    """The cluster of this prefix does not run (or only half of it)."""


class NoSuchNode(ClusterError):
    """The cluster has no node of that name."""


class NodeOff(ClusterError):
    """The node has no power, and what was asked needs it running."""


class NoSuchVolume(ClusterError):
    """No volume of that name was added to this cluster."""


class VolumeExists(ClusterError):
    """A volume of that name is there already."""


class VolumeInUse(ClusterError):
    """A pod holds the volume; the message names the processes."""


class Unsupported(ClusterError):
    """This machine cannot do it, and nothing is pretended."""
