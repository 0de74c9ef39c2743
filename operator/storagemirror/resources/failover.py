"""The Failover that the operator makes when a source is lost."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from storagemirror.api.failover import KIND
from storagemirror.api.meta import ObjectMeta
from storagemirror.api.model import API_VERSION
from storagemirror.api.operation import Mode
from storagemirror.resources import labels

NAME_LIMIT = 63


def automatic_name(pair: str, attempt: int, taken: Collection[str]) -> str:
    """`<pair>-<attempt>`; shortened with a digest beyond 63 characters, and never one that is taken."""
    found = _name(pair, str(attempt))
    more = 0
    while found in taken:
        more += 1
        found = _name(pair, f"{attempt}-{more}")
    return found


def _name(pair: str, tail: str) -> str:
    whole = f"{pair}-{tail}"
    if len(whole) <= NAME_LIMIT:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:6]
    return f"{pair[: NAME_LIMIT - len(tail) - 8].rstrip('-')}-{digest}-{tail}"


def automatic_failover(pair: ObjectMeta, name: str, from_epoch: int) -> dict[str, Any]:
    """The object. It goes with its pair."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "MirrorPair",
        "name": pair.name,
        "uid": pair.uid,
        "controller": False,
        "blockOwnerDeletion": False,
    }
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": pair.namespace,
            "labels": {labels.AUTOMATIC: "true", labels.PAIR_NAME: pair.name},
            "ownerReferences": [owner],
        },
        "spec": {"pairName": pair.name, "fromEpoch": from_epoch, "mode": Mode.UNPLANNED.value},
    }


def is_automatic(marks: Mapping[str, str]) -> bool:
    """Whether the operator made it, by its labels."""
    return marks.get(labels.AUTOMATIC) == "true"
