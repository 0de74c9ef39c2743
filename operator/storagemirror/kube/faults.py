"""What the API server's answers mean."""

from __future__ import annotations

import msgspec

from storagemirror.api.reasons import Reason
from storagemirror.errors import ApiUnavailable, Changed, Permanent, StorageMirrorError


class Conflict(Changed):
    """Somebody else wrote first (409), or the object exists, or has another UID: look again."""

    reason = "Conflict"


class Missing(Changed):
    """No such object (404)."""

    reason = "Missing"


class Denied(Permanent):
    """The API server understood, and says no (400, 401, 403, 422 ...). `forbidden`: for lack of a right."""

    reason = "Denied"

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code

    @property
    def forbidden(self) -> bool:
        """Whether RBAC refused, and not admission."""
        return self.code in (401, 403) and " cannot " in self.message


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""


def fault_of(code: int, body: bytes, what: str) -> StorageMirrorError:
    """The error for an answer with `code`; `what` names the request."""
    try:
        said = msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError:
        said = _Status(message=body[:200].decode(errors="replace"))
    text = said.message or f"{what}: status {code}"
    if code == 404:
        return Missing(text)
    if code == 409:
        return Conflict(text)
    if code == 429 or code >= 500:
        return ApiUnavailable(f"{what}: {code} {text}")
    return Denied(text, code=code)


_BY_WORDS: tuple[tuple[str, Reason], ...] = (
    ("violates PodSecurity", Reason.POD_SECURITY_REFUSED),
    ("exceeded quota", Reason.QUOTA_EXCEEDED),
    ("failed quota", Reason.QUOTA_EXCEEDED),
    ("insufficient quota", Reason.QUOTA_EXCEEDED),
    ("maximum cpu usage", Reason.LIMIT_RANGE_REFUSED),
    ("maximum memory usage", Reason.LIMIT_RANGE_REFUSED),
    ("minimum cpu usage", Reason.LIMIT_RANGE_REFUSED),
    ("minimum memory usage", Reason.LIMIT_RANGE_REFUSED),
    ("usage per Container", Reason.LIMIT_RANGE_REFUSED),
    ("usage per Pod", Reason.LIMIT_RANGE_REFUSED),
    ("usage per PersistentVolumeClaim", Reason.LIMIT_RANGE_REFUSED),
    ("limit to request ratio", Reason.LIMIT_RANGE_REFUSED),
    ("being terminated", Reason.DELETING),
    # An API server that has just started does not know the kinds that a policy reads, and says no for some seconds.
    ("failed to configure", Reason.API_UNAVAILABLE),
)
"""Admission has no codes of its own: these words are those of k8s.io/pod-security-admission, of the plugins
resourcequota and limitranger, and of the namespace lifecycle plugin."""


def reason_of(denied: Denied) -> Reason:
    """Which of the known walls a refused pod or claim has hit."""
    found = next((reason for words, reason in _BY_WORDS if words in denied.message), None)
    if found is not None:
        return found
    return Reason.FORBIDDEN if denied.forbidden else Reason.ADMISSION_REFUSED
