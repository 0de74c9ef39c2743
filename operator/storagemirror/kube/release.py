"""Lets go of pods: nothing of the operator's keeps an application's pods from going.

While a side is fenced its writers carry a finalizer, and only the operator takes it off: here where the pair is gone,
and before the operator itself is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from storagemirror.errors import Permanent, StorageMirrorError
from storagemirror.kube import finalizers, paths
from storagemirror.kube.client import Api
from storagemirror.kube.faults import Conflict
from storagemirror.plan.objects import Meta, PartialObject
from storagemirror.resources import labels

ATTEMPTS = 10
"""How often a pod is read again because somebody else wrote it first."""


@dataclass(frozen=True)
class Released:
    """What came of it: pods that are free, and those that could not be freed with the reason."""

    pods: tuple[str, ...]
    failed: tuple[str, ...]


def release_orphans(api: Api, namespace: str | None = None) -> Released:
    """Take the finalizer off pods whose pair is gone: a pair goes at once, in the middle of a failover too."""
    held = api.list(PartialObject, paths.PODS, namespace, labels=labels.END_PROOF)
    if not held:
        return Released((), ())
    # The pairs after the pods: a pair whose pods are held was there before them.
    living = frozenset(p.metadata.uid for p in api.list(PartialObject, paths.PAIRS, namespace))
    return release_writers(api, keep=living, namespace=namespace)


def release_writers(
    api: Api,
    *,
    freed: Callable[[str], None] = lambda pod: None,
    keep: Collection[str] = (),
    namespace: str | None = None,
) -> Released:
    """Take the finalizer off every pod that has the label (of all namespaces, or of one); all else of the pods stays.
    `freed` is told each at once; pods that are held for a pair of the UIDs `keep` are left."""
    pods: list[str] = []
    failed: list[str] = []
    for found in api.list(PartialObject, paths.PODS, namespace, labels=labels.END_PROOF):
        if found.metadata.labels.get(labels.END_PROOF) in keep:
            continue
        where = f"{found.metadata.namespace}/{found.metadata.name}"
        try:
            if _release(api, found.metadata):
                pods.append(where)
                freed(where)
        except StorageMirrorError as e:
            failed.append(f"{where}: {e.message}")
    return Released(tuple(pods), tuple(failed))


def _release(api: Api, meta: Meta) -> bool:
    """Whether there was something to take off."""
    for _ in range(ATTEMPTS):
        try:
            return finalizers.take_off(api, meta.namespace, meta.name, meta.uid)
        except Conflict:
            continue
    raise Permanent(f"it was written by others {ATTEMPTS} times in between")
