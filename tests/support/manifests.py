"""Our kinds as a person writes them, and what the API server answers to them."""

from __future__ import annotations

from typing import Any

from storagemirror.api.model import API_VERSION
from tests.support.api_client import ApiAnswer
from tests.support.apiserver import ApiServer

PLURALS = {"MirrorPair": "mirrorpairs", "Failover": "failovers", "Restore": "restores"}


def volume(name: str = "data", source: str = "orders-data", target: str = "orders-standby") -> dict[str, Any]:
    """One volume of a pair."""
    return {"name": name, "source": {"claimName": source}, "target": {"claimName": target}}


def pair(*volumes: dict[str, Any], name: str = "orders", **spec: Any) -> dict[str, Any]:
    """A pair of these volumes, or of one."""
    return {
        "apiVersion": API_VERSION,
        "kind": "MirrorPair",
        "metadata": {"name": name},
        "spec": {"volumes": list(volumes) or [volume()], **spec},
    }


def workloads(*names: str, kind: str = "StatefulSet") -> dict[str, Any]:
    """One side."""
    return {"workloads": [{"kind": kind, "name": name} for name in names]}


def sides(source: str = "orders", target: str = "orders-standby") -> dict[str, Any]:
    """Both sides, with one workload each."""
    return {"source": workloads(source), "target": workloads(target)}


def failover(name: str = "now", **spec: Any) -> dict[str, Any]:
    """A failover of the pair `orders` from its first epoch."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Failover",
        "metadata": {"name": name},
        "spec": {"pairName": "orders", "fromEpoch": 1, **spec},
    }


def restore(name: str = "home", **spec: Any) -> dict[str, Any]:
    """A restore of the pair `orders` from the epoch of its first failover."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Restore",
        "metadata": {"name": name},
        "spec": {"pairName": "orders", "fromEpoch": 2, **spec},
    }


def elsewhere(*claims: dict[str, Any], name: str = "seen", **spec: Any) -> dict[str, Any]:
    """A restore to other claims, or to one."""
    volumes = list(claims) or [{"name": "data", "claimName": "seen"}]
    body = restore(name, to={"volumes": volumes}, **spec)
    if "fromEpoch" not in spec:
        del body["spec"]["fromEpoch"]
    return body


def endpoint(namespace: str, body: dict[str, Any]) -> str:
    """Where objects of this kind are made."""
    return f"/apis/{API_VERSION}/namespaces/{namespace}/{PLURALS[body['kind']]}"


def create(server: ApiServer, namespace: str, body: dict[str, Any]) -> ApiAnswer:
    """Create under strict field validation, as kubectl does."""
    return server.client().post(endpoint(namespace, body) + "?fieldValidation=Strict", body, check=False)


def created(server: ApiServer, namespace: str, body: dict[str, Any]) -> dict[str, Any]:
    """Create, and what is stored then."""
    answer = create(server, namespace, body)
    assert answer.status == 201, answer.message
    found: dict[str, Any] = answer.value
    return found


def change(server: ApiServer, body: dict[str, Any]) -> ApiAnswer:
    """Replace an object that was read."""
    return server.client().put(_place(body) + "?fieldValidation=Strict", body, check=False)


def publish(server: ApiServer, body: dict[str, Any], status: dict[str, Any]) -> ApiAnswer:
    """Write the status of an object that was read."""
    place = _place(body) + "/status?fieldValidation=Strict"
    return server.client().put(place, {**body, "status": status}, check=False)


def _place(body: dict[str, Any]) -> str:
    return f"{endpoint(body['metadata']['namespace'], body)}/{body['metadata']['name']}"
