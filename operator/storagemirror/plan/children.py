"""What an agent's pod needs beside it (account, role, Lease, certificate), made where it is not as it should be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storagemirror.contract import Role
from storagemirror.plan.decisions import Action, Apply, IssueCertificate
from storagemirror.plan.observed import CertificateSeen, Unseen
from storagemirror.plan.times import read
from storagemirror.plan.view import View
from storagemirror.resources.access import role, role_binding, service_account
from storagemirror.resources.heartbeat import heartbeat_lease

RENEW_BEFORE_DAYS = 30
"""A certificate with less than this left is issued again."""


def missing_children(view: View, which: Role) -> tuple[Action, ...]:
    """What an agent's pod needs, where it is not there as it should be."""
    seen = view.agent(which)
    if isinstance(seen.children, Unseen):
        return ()
    ref = view.ref(which)
    wanted = (heartbeat_lease(ref), service_account(ref), role(ref), role_binding(ref))
    steps: list[Action] = [Apply(ref, m) for m in wanted if not covers(seen.children.get(m["kind"]), m)]
    if certificate_due(view, which):
        steps.append(IssueCertificate(ref))
    return tuple(steps)


def certificate_due(view: View, which: Role) -> bool:
    """Whether a certificate must be issued: none, of another CA, or near its end."""
    seen = view.agent(which).certificate
    if not isinstance(seen, CertificateSeen):
        return seen is None
    ends = read(seen.not_after)
    authority = view.observed.authority
    if isinstance(authority, Unseen):
        return False
    if ends is None or seen.issuer != authority.issuer:
        return True
    return (ends - view.now).total_seconds() < RENEW_BEFORE_DAYS * 86_400


def covers(there: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` stands in `there` as well. (The API adds defaults and bookkeeping of its own.)"""
    if isinstance(wanted, Mapping):
        return isinstance(there, Mapping) and all(
            _absent_is_empty(there.get(k), v) or covers(there.get(k), v) for k, v in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(there, list)
            and len(there) == len(wanted)
            and all(covers(a, b) for a, b in zip(there, wanted, strict=True))
        )
    return bool(there == wanted)


def _absent_is_empty(there: Any, wanted: Any) -> bool:
    """The API leaves out what is false or empty."""
    return there is None and wanted in (False, "", [], {})
