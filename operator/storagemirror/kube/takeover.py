"""Take the lead from the operator for a while, so that it does not act, whoever it is and whether it lives or not.

Nothing else is changed: where nobody removes the operator, one leads again when that time is over.
"""

from __future__ import annotations

from typing import Any

from storagemirror.clock import Clock, rfc3339
from storagemirror.errors import Permanent
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.election import LEASE_SECONDS
from storagemirror.kube.faults import Conflict, Missing

ATTEMPTS = 10
"""How often the Lease is read again because its holder renewed it first."""


def take_lead(api: Api, clock: Clock, *, namespace: str, name: str, identity: str, seconds: int) -> None:
    """Hold the operators' Lease for `seconds`, whoever holds it now; returns when no operator acts any more.

    A leader stops acting before its Lease could be anybody's, counted from its last renewal: so a Lease that was just
    taken is waited out once, as long as its holder asked for. `Permanent` when it is taken back meanwhile.
    """
    wait = _seize(api, clock, namespace=namespace, name=name, identity=identity, seconds=seconds)
    clock.sleep(wait)
    holder = _holder(api, namespace, name)
    if holder != identity:
        raise Permanent(
            f"expected to hold Lease {namespace}/{name}, found {holder or 'nobody'}",
            hint="Another `storagemirror release` or an operator took it: try again.",
        )


def let_run_out(api: Api, clock: Clock, *, namespace: str, name: str, identity: str, seconds: int) -> None:
    """Hold the Lease for `seconds` more and no longer; without a word where it is another's by now."""
    for _ in range(ATTEMPTS):
        try:
            lease = api.get(dict[str, Any], paths.LEASES, namespace, name)
            if lease["spec"].get("holderIdentity") != identity:
                return
            now = rfc3339(clock.now_ns())
            spec = lease["spec"] | {"leaseDurationSeconds": seconds, "renewTime": now}
            api.replace(paths.LEASES, {**lease, "spec": spec})
        except Missing:
            return
        except Conflict:
            continue
        return


def _seize(api: Api, clock: Clock, *, namespace: str, name: str, identity: str, seconds: int) -> float:
    """Write our name into the Lease; returns for how many seconds its holder of before may still act."""
    for _ in range(ATTEMPTS):
        now = rfc3339(clock.now_ns())
        ours = {"holderIdentity": identity, "leaseDurationSeconds": seconds, "acquireTime": now, "renewTime": now}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        try:
            there = api.get(dict[str, Any], paths.LEASES, namespace, name)
            before = there.get("spec") or {}
            spec = before | ours | {"leaseTransitions": int(before.get("leaseTransitions") or 0) + 1}
            api.replace(paths.LEASES, {**lease, "metadata": there["metadata"], "spec": spec})
        except Missing:
            api.create(paths.LEASES, {**lease, "metadata": {"name": name, "namespace": namespace}, "spec": ours})
            return 0.0
        except Conflict:
            continue
        return float(before.get("leaseDurationSeconds") or LEASE_SECONDS) if before.get("holderIdentity") else 0.0
    raise Permanent(f"Lease {namespace}/{name} changes faster than it can be taken")


def _holder(api: Api, namespace: str, name: str) -> str | None:
    try:
        spec = api.get(dict[str, Any], paths.LEASES, namespace, name).get("spec") or {}
    except Missing:
        return None
    return spec.get("holderIdentity")
