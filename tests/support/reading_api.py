"""What `kubectl get -o json` prints, asked of the API server itself.

Each kubectl is a process that takes a tenth of a second of a core and more, and tests ask several times a second. What
is not understood here, or fails, kubectl is asked: its words are what a user sees.
"""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Any

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
_SECONDS = 10.0


def read(cluster: Cluster, namespace: str, *words: str) -> Json | None:
    """As `kubectl -n NAMESPACE get WORDS -o json`: a kind, and a name, or `-l` and a selector. None: ask kubectl."""
    place = _place(namespace, list(words))
    if place is None:
        return None
    path = cluster.kubeconfig
    try:
        server, token, context = _access(path, path.stat().st_mtime_ns)
        request = urllib.request.Request(server + place, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as answer:
            found: Json = json.load(answer)
    except (OSError, ValueError, KeyError):
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


@lru_cache(maxsize=4)
def _access(kubeconfig: Path, changed_ns: int) -> tuple[str, str, ssl.SSLContext]:
    """Address, token, and whom to trust. `changed_ns`: a cluster that is made again has another file."""
    config = json.loads(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    return cluster["server"], config["users"][0]["user"]["token"], context
