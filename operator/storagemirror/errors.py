"""The tree of errors.

    StorageMirrorError
    ├── Passing                 try again by yourself: the cause goes away
    │   ├── Disconnected        the peer or the link is gone
    │   ├── ApiUnavailable      the API server does not answer, or answers 5xx or 429
    │   ├── VolumeFull          no space or no inodes left on the volume
    │   └── Changed             what was read changed underneath; read it again
    ├── Held                    stopped on purpose; goes on when a person confirms its token
    └── Permanent               does not go away unless somebody changes something
        ├── BadInput            a spec, an option or a file of ours that cannot be meant
        ├── ProtocolError       the peer broke the protocol (its fault, or a version's)
        ├── Refused             the peer says no, with a reason
        ├── VolumeError         the volume cannot be used as it is (not empty, not writable, not ours)
        └── Superseded          a newer epoch or instance has taken over; stop

Every leaf carries a `reason`: one CamelCase word that becomes the reason of a condition.
"""

from __future__ import annotations


class StorageMirrorError(Exception):
    """Base of everything this project raises on purpose.

    `reason` is a CamelCase word for conditions and events; `message` says what was expected and what was found;
    `hint` says what a person can do about it (may be empty).
    """

    reason = "InternalError"

    def __init__(self, message: str, *, reason: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if reason is not None:
            self.reason = reason


class Passing(StorageMirrorError):
    """Goes away by itself: retry with back-off, forever."""

    reason = "Retrying"


class Disconnected(Passing):
    """The peer does not answer, or the connection broke."""

    reason = "Disconnected"


class ApiUnavailable(Passing):
    """The API server cannot be reached, or answers 429 or 5xx."""

    reason = "ApiUnavailable"


class VolumeFull(Passing):
    """No space (ENOSPC), no quota (EDQUOT) or no inodes left."""

    reason = "TargetFull"


class Changed(Passing):
    """Something changed between two looks at it; look again."""

    reason = "Changed"


class Held(StorageMirrorError):
    """Stopped on purpose before harm was done. `token` names exactly this hold; confirming it lets it through."""

    reason = "Held"

    def __init__(self, message: str, *, reason: str, token: str, hint: str = "") -> None:
        super().__init__(message, reason=reason, hint=hint)
        self.token = token


class Permanent(StorageMirrorError):
    """Does not go away unless somebody changes something; retried slowly, in case somebody does."""

    reason = "Failed"


class BadInput(Permanent):
    """A spec, an option, or a file of ours that cannot be meant."""

    reason = "BadInput"


class ProtocolError(Permanent):
    """The peer sent what the protocol does not allow."""

    reason = "ProtocolError"


class Refused(Permanent):
    """The peer refused, and `reason` is the peer's word for why."""

    reason = "Refused"


class VolumeError(Permanent):
    """The volume cannot be used as it is; `reason` tells which way."""

    reason = "VolumeUnusable"


class Superseded(Permanent):
    """A newer epoch or a newer instance has taken over. Stop; never retry."""

    reason = "Superseded"


COMMAND_LINE = "CommandLine"
"""Reason of a `BadInput` that a command line is to blame for: exit status 2."""
