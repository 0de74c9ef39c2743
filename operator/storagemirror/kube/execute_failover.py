"""Carries out the steps of a failover. Each is bound to what was read: a UID, or a version; who was faster wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from storagemirror.kube import finalizers, paths
from storagemirror.kube.client import Api
from storagemirror.kube.faults import Conflict, Missing
from storagemirror.plan.decisions import (
    ApplyService,
    EndWriter,
    Failing,
    HoldWriter,
    LabelPod,
    MakeFailover,
    NudgeWorkload,
    ReleaseWriter,
    RemoveFailover,
    ScaleWorkload,
)
from storagemirror.resources import labels


def carry_out(api: Api, action: Failing) -> bool:
    """Do one step; False where there was nothing to do any more. `Conflict`: somebody was faster, look again."""
    match action:
        case HoldWriter(namespace, name, uid, pair_uid):
            return finalizers.put_on(api, namespace, name, uid, pair_uid)
        case ReleaseWriter(namespace, name, uid):
            return finalizers.take_off(api, namespace, name, uid)
        case EndWriter(namespace, name, uid):
            return _unless_gone(lambda: api.delete(paths.PODS, namespace, name, uid=uid))
        case ScaleWorkload(namespace, kind, name, replicas, version, _):
            return _unless_gone(lambda: api.scale(paths.by_kind(kind), namespace, name, replicas, version))
        case NudgeWorkload(namespace, kind, name, mark):
            patch = {"metadata": {"annotations": {labels.NUDGE: mark}}}
            return _unless_gone(lambda: api.merge(paths.by_kind(kind), namespace, name, patch))
        case ApplyService(manifest):
            api.apply(paths.SERVICES, manifest)
            return True
        case LabelPod(namespace, name, uid, label, value):
            marked: dict[str, Any] = {"metadata": {"uid": uid, "labels": {label: value}}}
            return _unless_gone(lambda: api.merge(paths.PODS, namespace, name, marked))
        case MakeFailover(manifest):
            return _unless_there(lambda: api.create(paths.FAILOVERS, manifest))
        case RemoveFailover(namespace, name, uid):
            return _unless_gone(lambda: api.delete(paths.FAILOVERS, namespace, name, uid=uid))


def subject(action: Failing) -> str:
    """What a step is about, for people."""
    match action:
        case HoldWriter() | ReleaseWriter() | EndWriter() | LabelPod():
            return f"Pod {action.name}"
        case ScaleWorkload() | NudgeWorkload():
            return f"{action.kind} {action.name}"
        case ApplyService(manifest):
            return f"Service {manifest['metadata']['name']}"
        case MakeFailover(manifest):
            return f"Failover {manifest['metadata']['name']}"
        case RemoveFailover():
            return f"Failover {action.name}"


def _unless_gone(do: Callable[[], object]) -> bool:
    """False when the object is gone, or its name is another's by now."""
    try:
        do()
    except Missing:
        return False
    return True


def _unless_there(do: Callable[[], object]) -> bool:
    """False when it was there already: an answer of ours was lost, or somebody was faster."""
    try:
        do()
    except Conflict:
        return False
    return True
