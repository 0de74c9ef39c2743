"""The target claim, made from its template when it does not exist."""

from __future__ import annotations

from typing import Any

from storagemirror.api.claims import ClaimTemplate
from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef


def target_claim(ref: AgentRef, name: str, template: ClaimTemplate) -> dict[str, Any]:
    """The PersistentVolumeClaim. It has no owner: deleting the pair must not delete the copy."""
    spec: dict[str, Any] = {
        "accessModes": [mode.value for mode in template.access_modes],
        "volumeMode": "Filesystem",
        "resources": {"requests": {"storage": template.resources.requests.storage}},
    }
    if template.storage_class_name is not None:
        spec["storageClassName"] = template.storage_class_name
    found = {labels.APP_MANAGED_BY: labels.STORAGEMIRROR, labels.VOLUME: ref.volume}
    if len(ref.pair_name) <= labels.LABEL_LIMIT:
        found[labels.PAIR_NAME] = ref.pair_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": ref.namespace, "labels": found},
        "spec": spec,
    }
