"""What `kubectl get -o json` prints, asked of the API server itself.

Each kubectl is a process that takes a tenth of a second of a core and more, and tests ask several times a second. What
is not understood here, or fails, kubectl is asked: its words are what a user sees.
"""

from __future__ import annotations

import urllib.parse
from typing import Any

from tests.cluster.ask import ask
from tests.cluster.cluster import Cluster

Json = dict[str, Any]

_OURS = "/apis/storagemirror.io/v1alpha1"
_PLACES = {
    "mirrorpair": (_OURS, "mirrorpairs"),
    "failover": (_OURS, "failovers"),
    "restore": (_OURS, "restores"),
    "pod": ("/api/v1", "pods"),
    "pvc": ("/api/v1", "persistentvolumeclaims"),
    "service": ("/api/v1", "services"),
    "deployment": ("/apis/apps/v1", "deployments"),
    "statefulset": ("/apis/apps/v1", "statefulsets"),
    "lease": ("/apis/coordination.k8s.io/v1", "leases"),
    "events.events.k8s.io": ("/apis/events.k8s.io/v1", "events"),
}
"""By the name that kubectl takes, in the singular: group and version, and the plural. All are in a namespace."""


def read(cluster: Cluster, namespace: str, *words: str) -> Json | None:
    """As `kubectl -n NAMESPACE get WORDS -o json`: a kind, and a name, or `-l` and a selector. None: ask kubectl."""
    if len(words) == 1 and "," in words[0]:
        lists = [read(cluster, namespace, kind) for kind in words[0].split(",")]
        return None if None in lists else {"items": [item for one in lists if one for item in one["items"]]}
    place = _place(namespace, list(words))
    if place is None:
        return None
    found = ask(cluster.kubeconfig, place)
    if found is None:
        return None
    for item in found.get("items", ()):
        item.update(apiVersion=found["apiVersion"], kind=found["kind"].removesuffix("List"))
    return found


def _place(namespace: str, words: list[str]) -> str | None:
    kind = words.pop(0)
    known = _PLACES.get(kind) or _PLACES.get(kind.removesuffix("s"))
    if known is None:
        return None
    group, plural = known
    place = f"{group}/namespaces/{namespace}/{plural}"
    match words:
        case []:
            return place
        case ["-l", selector]:
            return f"{place}?labelSelector={urllib.parse.quote(selector)}"
        case [name] if not name.startswith("-"):
            return f"{place}/{urllib.parse.quote(name)}"
    return None
