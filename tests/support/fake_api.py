"""An API server in memory, at the level of requests: the same client code runs on it as on a real one.

It keeps what the operator's correctness rests on: names, UIDs, resourceVersions that only grow, compare-and-swap,
preconditions of deletes, dry runs, label selectors, status as a subresource, pods on a node that go only when their
kubelet says so. `tests/apiserver/test_fake_api.py` holds it against a real server.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from storagemirror.errors import ApiUnavailable
from storagemirror.kube.client import METADATA, Api
from storagemirror.kube.faults import fault_of

_encode = msgspec.json.encode
_decode = msgspec.json.decode

Object = dict[str, Any]
Address = tuple[str, str, str]
"""Plural, namespace (empty: none), name."""


class Killed(BaseException):
    """The operator was killed -9 here."""


class FakeApi(Api):
    """Objects in a dict. `now` is the server's clock."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self.objects: dict[Address, Object] = {}
        self._version = 0
        self._uids = 0
        self.writes = 0
        self.requests = 0
        self._user = ""
        self.admission: Callable[[str, Object], str | None] = lambda plural, manifest: None
        """Says why an object of that plural is refused (status 403), or None."""
        self.kill_at: tuple[int, bool] | None = None
        """Raise `Killed` at this write: before it (False) or after it (True)."""
        self.down = False
        """Answer 503."""
        self.blind: Callable[[str], bool] = lambda where: False
        """Answer 503 to these paths."""
        self.forbidden: Callable[[str], bool] = lambda where: False
        """Answer 403 to these paths, as RBAC does."""
        self.history: list[tuple[str, Address]] = []
        """Every write that was carried out: method and address."""

    def request(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        kind: str = "",
        user: str = "",
    ) -> bytes:
        self.requests += 1
        self._user = user
        if self.down or self.blind(where):
            raise ApiUnavailable(f"{method} {where}: 503")
        if self.forbidden(where):
            raise fault_of(403, _status(f'User "operator" cannot {method} {where}'), method)
        dry = "dryRun" in (query or {})
        if method == "GET" or dry:
            return self._answer(method, where, dict(query or {}), _copy(body), kind)
        self.writes += 1
        if self.kill_at == (self.writes, False):
            raise Killed
        answer = self._answer(method, where, dict(query or {}), _copy(body), kind)
        self.history.append((method, _address(where)[0]))
        if self.kill_at == (self.writes, True):
            raise Killed
        return answer

    def _answer(self, method: str, where: str, query: dict[str, str], body: Any, kind: str) -> bytes:
        address, sub = _address(where)
        match method:
            case "GET":
                return self._get(address, query, kind)
            case "POST":
                return self._create((*address[:2], body["metadata"]["name"]), body, dry="dryRun" in query)
            case "PUT":
                return self._replace(address, sub, body)
            case "PATCH":
                return self._patch(address, body)
            case "DELETE":
                return self._delete(address, body)
        raise AssertionError(f"no such method: {method}")

    def _get(self, address: Address, query: dict[str, str], kind: str) -> bytes:
        plural, namespace, name = address
        if name:
            found = self._there(address)
            return _encode({"metadata": found["metadata"]} if kind == METADATA else found)
        parts = [part for part in query.get("labelSelector", "").split(",") if part]
        wanted = dict(part.split("=", 1) for part in parts if "=" in part)
        present = {part for part in parts if "=" not in part}
        items = [
            o
            for (p, n, _), o in sorted(self.objects.items())
            if p == plural
            and namespace in ("", n)
            and wanted.items() <= o["metadata"].get("labels", {}).items()
            and present <= o["metadata"].get("labels", {}).keys()
        ]
        return _encode({"items": items, "metadata": {"resourceVersion": str(self._version)}})

    def _create(self, address: Address, body: Object, *, dry: bool) -> bytes:
        if address in self.objects:
            raise fault_of(409, _status("already exists"), "POST")
        refused = self.admission(address[0], body)
        if refused is not None:
            raise fault_of(403, _status(refused), "POST")
        if dry:
            return _encode(body)
        self._uids += 1
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        body["metadata"] |= {"uid": f"uid-{self._uids}", "creationTimestamp": stamp, "generation": 1}
        body.setdefault("status", {"phase": "Pending"} if address[0] in ("pods", "persistentvolumeclaims") else {})
        return self._store(address, body)

    def _replace(self, address: Address, sub: str, body: Object) -> bytes:
        found = self._there(address)
        version = body["metadata"].get("resourceVersion")
        if version is not None and version != found["metadata"]["resourceVersion"]:
            raise fault_of(409, _status("the object has been modified"), "PUT")
        if sub == "scale":
            return self._store(address, found | {"spec": found["spec"] | {"replicas": body["spec"]["replicas"]}})
        if sub == "status":
            return self._store(address, found | {"status": body["status"]})
        kept = {k: found["metadata"][k] for k in ("uid", "creationTimestamp", "generation")}
        return self._store(address, {**body, "metadata": {**body["metadata"], **kept}})

    def _patch(self, address: Address, body: Object) -> bytes:
        if address not in self.objects:
            return self._create(address, body, dry=False)
        found = _copy(self.objects[address])
        given = body.get("metadata", {})
        for key in ("uid", "resourceVersion"):
            if given.get(key, found["metadata"][key]) != found["metadata"][key]:
                raise fault_of(409, _status(f"the {key} in the precondition does not match"), "PATCH")
        change = {k: v for k, v in given.items() if k != "resourceVersion"}
        stored = self._store(address, merged(found, body | {"metadata": change}))
        if found["metadata"].get("finalizers"):
            self._let_go(address)
        return stored

    def _let_go(self, address: Address) -> None:
        """What waited for its last finalizer goes, unless a kubelet has yet to speak."""
        found = self.objects[address]
        waits = found["metadata"].get("finalizers") or _awaits_kubelet(address, found)
        if "deletionTimestamp" in found["metadata"] and not waits:
            del self.objects[address]

    def _delete(self, address: Address, body: Object | None) -> bytes:
        found = self._there(address)
        uid = ((body or {}).get("preconditions") or {}).get("uid")
        if uid is not None and uid != found["metadata"]["uid"]:
            raise fault_of(409, _status("the UID in the precondition does not match"), "DELETE")
        if found["metadata"].get("finalizers") or _awaits_kubelet(address, found):
            # Goes when its kubelet says so: `finish`.
            stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
            found["metadata"].setdefault("deletionTimestamp", stamp)
            return self._store(address, found)
        del self.objects[address]
        return b"{}"

    def _there(self, address: Address) -> Object:
        found = self.objects.get(address)
        if found is None:
            raise fault_of(404, _status(f"{address[0]} {address[2]} not found"), "GET")
        there: Object = _copy(found)
        return there

    def _store(self, address: Address, body: Object) -> bytes:
        before = self.objects.get(address)
        if before is not None and _content(before) == _content(body):
            return _encode(before)
        self._version += 1
        body = _copy(body)
        if before is not None and before.get("spec") != body.get("spec"):
            body["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        body["metadata"]["resourceVersion"] = str(self._version)
        self.objects[address] = body
        return _encode(body)

    def take_over(self, other: FakeApi) -> None:
        """Everything that another one holds."""
        self.objects = {address: _copy(found) for address, found in other.objects.items()}
        self._version, self._uids = other._version, other._uids

    def put(self, plural: str, body: Object) -> None:
        """Somebody else makes an object, or changes it (merged)."""
        meta = body["metadata"]
        address = (plural, meta.get("namespace", ""), meta["name"])
        (self._patch if address in self.objects else self._seed)(address, _copy(body))

    def _seed(self, address: Address, body: Object) -> bytes:
        return self._create(address, body, dry=False)

    def remove(self, address: Address) -> None:
        """It is gone, whoever did it: what a kubelet does in the end, or a forced deletion."""
        self.objects.pop(address, None)

    def all(self, plural: str) -> list[Object]:
        """Objects of one kind, sorted by name."""
        return [o for (p, _, _), o in sorted(self.objects.items()) if p == plural]


def _copy(body: Any) -> Any:
    """What a server makes of it: read anew from what was said."""
    return _decode(_encode(body))


def _awaits_kubelet(address: Address, found: Object) -> bool:
    """A pod on a node goes only when its kubelet says that its containers have ended."""
    if address[0] != "pods" or not found["spec"].get("nodeName"):
        return False
    states = [s["state"] for s in found["status"].get("containerStatuses", ())]
    return not states or not all("terminated" in state for state in states)


def merged(base: Any, change: Any) -> Any:
    """As a merge patch: objects key by key, everything else replaced, null removes."""
    if not isinstance(base, dict) or not isinstance(change, dict):
        return change
    found = dict(base)
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key, {}) if isinstance(value, dict) else None, value)
    return found


def _address(where: str) -> tuple[Address, str]:
    parts = urllib.parse.urlsplit(where).path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    plural, name, sub = (*rest, "", "")[:3]
    return (plural, namespace, name), sub


def _content(body: Object) -> Object:
    meta = {k: v for k, v in body["metadata"].items() if k not in ("resourceVersion", "generation")}
    return {**body, "metadata": meta}


def _status(message: str) -> bytes:
    return _encode({"kind": "Status", "message": message})
