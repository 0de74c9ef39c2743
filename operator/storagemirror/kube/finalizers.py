"""The one finalizer of ours, on pods that may write a side while it is being fenced: put on, and taken off.

A list is replaced as a whole by a merge patch. The version that was read keeps others' changes safe.
"""

from __future__ import annotations

from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.faults import Missing
from storagemirror.plan.objects import Meta, PartialObject
from storagemirror.resources import labels


def put_on(api: Api, namespace: str, name: str, uid: str, pair_uid: str) -> bool:
    """With the pair's UID as its label; False where there was nothing to do: the pod is gone or going, or has it.
    `Conflict`: somebody else wrote the pod."""
    meta = _read(api, namespace, name, uid)
    if meta is None or meta.deletion_timestamp is not None or labels.END_PROOF in meta.finalizers:
        return False
    return _write(api, meta, [*meta.finalizers, labels.END_PROOF], pair_uid)


def take_off(api: Api, namespace: str, name: str, uid: str) -> bool:
    """Other finalizers stay; False where there was nothing to do. `Conflict`: somebody else wrote the pod."""
    meta = _read(api, namespace, name, uid)
    if meta is None or labels.END_PROOF not in meta.finalizers:
        return False
    return _write(api, meta, [f for f in meta.finalizers if f != labels.END_PROOF], None)


def _read(api: Api, namespace: str, name: str, uid: str) -> Meta | None:
    """None when it is gone, or its name is another's by now."""
    try:
        meta = api.get_metadata(PartialObject, paths.PODS, namespace, name).metadata
    except Missing:
        return None
    return meta if meta.uid == uid else None


def _write(api: Api, meta: Meta, finalizers: list[str], mark: str | None) -> bool:
    change = {
        "resourceVersion": meta.resource_version,
        "uid": meta.uid,
        "finalizers": finalizers,
        "labels": {labels.END_PROOF: mark},
    }
    try:
        api.merge(paths.PODS, meta.namespace, meta.name, {"metadata": change})
    except Missing:
        return False
    return True
