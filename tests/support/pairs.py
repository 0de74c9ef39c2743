"""A namespace as the operator's tests need it: claims, nodes, writers, pairs, and agents that are played."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from storagemirror.contract import ORDER_KEY, REPORT_ANNOTATION, Order, Phase, Report, Role, decode, encode
from tests.support.api_client import ApiClient
from tests.support.apiserver import ApiServer

PAIRS = "/apis/storagemirror.io/v1alpha1/namespaces/{}/mirrorpairs"
CORE = "/api/v1/namespaces/{}/{}"
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/{}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"
AGENTS = "?labelSelector=app.kubernetes.io/component=agent"


MIRRORED_AT = "2026-01-02T03:04:05Z"


@dataclass(frozen=True)
class Playground:
    """One namespace of a real API server in which the test plays scheduler, kubelet, storage and agents."""

    server: ApiServer
    namespace: str

    @property
    def api(self) -> ApiClient:
        return self.server.client()

    def claim(self, name: str, *, bound: bool = True, size: str = "10Gi", **spec: Any) -> None:
        """A claim; the test is its storage."""
        where = CORE.format(self.namespace, "persistentvolumeclaims")
        wanted = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}
        self.api.post(where, {"metadata": {"name": name}, "spec": wanted | spec})
        if bound:
            self.bind(name, size)

    def bind(self, name: str, size: str = "10Gi") -> None:
        """What the volume controller would say."""
        where = CORE.format(self.namespace, "persistentvolumeclaims") + f"/{name}/status"
        self.api.merge(where, {"status": {"phase": "Bound", "capacity": {"storage": size}}})

    def writer(self, name: str, claim: str, node: str | None = "node-a", **spec: Any) -> None:
        """A pod that mounts `claim`; on `node`, or waiting for one."""
        volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]
        container = {"name": "app", "image": "app:1", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        body: dict[str, Any] = {
            "containers": [container],
            "volumes": volumes,
            "terminationGracePeriodSeconds": 0,
            **spec,
        }
        if node is not None:
            body["nodeName"] = node
        self.api.post(CORE.format(self.namespace, "pods"), {"metadata": {"name": name}, "spec": body})

    def remove(self, kind: str, name: str, *, grace: int | None = 0) -> None:
        """Delete an object; by force where it is a pod (there is no kubelet)."""
        query = "" if grace is None else f"?gracePeriodSeconds={grace}"
        self.api.delete(CORE.format(self.namespace, kind) + f"/{name}{query}", check=False)

    def pair(self, name: str = "orders", *, volumes: list[dict[str, Any]] | None = None, **spec: Any) -> None:
        """A pair of `orders-data` and `orders-standby`, or of what is given."""
        one = {"name": "data", "source": {"claimName": "orders-data"}, "target": {"claimName": "orders-standby"}}
        body = {
            "apiVersion": "storagemirror.io/v1alpha1",
            "kind": "MirrorPair",
            "metadata": {"name": name},
            "spec": {"volumes": volumes or [one], **spec},
        }
        self.api.post(PAIRS.format(self.namespace), body)

    def get_pair(self, name: str = "orders") -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(PAIRS.format(self.namespace) + f"/{name}").value
        return found

    def remove_pair(self, name: str = "orders") -> None:
        self.api.delete(PAIRS.format(self.namespace) + f"/{name}")

    def pair_exists(self, name: str = "orders") -> bool:
        return self.api.get(PAIRS.format(self.namespace) + f"/{name}", check=False).status == 200

    def change(self, spec: dict[str, Any], name: str = "orders") -> None:
        """A merge patch of the spec."""
        self.api.merge(PAIRS.format(self.namespace) + f"/{name}", {"spec": spec})

    def status(self, name: str = "orders") -> dict[str, Any]:
        found: dict[str, Any] = self.get_pair(name).get("status") or {}
        return found

    def condition(self, kind: str, name: str = "orders") -> dict[str, Any]:
        """The condition of that type; empty when there is none."""
        return next((c for c in self.status(name).get("conditions", []) if c["type"] == kind), {})

    def says(self, kind: str, status: str, reason: str, name: str = "orders") -> bool:
        found = self.condition(kind, name)
        return (found.get("status"), found.get("reason")) == (status, reason)

    def listed(self, where: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api.get(where).value["items"]
        return found

    def agents(self, role: str | None = None) -> list[dict[str, Any]]:
        """Agents' pods, those that are going away too; the highest number last."""
        found = self.listed(CORE.format(self.namespace, "pods") + AGENTS)
        mine = [p for p in found if role is None or p["metadata"]["labels"]["storagemirror.io/role"] == role]
        return sorted(mine, key=lambda p: int(p["metadata"]["annotations"]["storagemirror.io/instance"]))

    def children(self) -> dict[str, int]:
        """How many objects of each kind belong to agents."""
        places = {
            "ConfigMap": CORE.format(self.namespace, "configmaps"),
            "Lease": LEASES.format(self.namespace),
            "Pod": CORE.format(self.namespace, "pods"),
            "Role": RBAC.format(self.namespace, "roles"),
            "RoleBinding": RBAC.format(self.namespace, "rolebindings"),
            "Secret": CORE.format(self.namespace, "secrets"),
            "ServiceAccount": CORE.format(self.namespace, "serviceaccounts"),
        }
        return {kind: len(self.listed(where + AGENTS)) for kind, where in places.items()}

    def order(self, role: Role, name: str = "orders") -> Order | None:
        """The order of the one agent of `role` of the pair `name`."""
        found = self.listed(CORE.format(self.namespace, "configmaps") + _agent(role, name))
        return decode(Order, found[0]["data"][ORDER_KEY]) if found else None

    def events(self) -> list[tuple[str, str]]:
        """Type and reason of the events so far."""
        found = self.listed(CORE.format(self.namespace, "events"))
        return sorted({(e["type"], e["reason"]) for e in found})

    def replicate(self, name: str = "orders", *, source: str = "node-a", target: str = "node-b") -> None:
        """Both agents of the pair run, are connected, and have mirrored everything."""
        for role, node in ((Role.TARGET, target), (Role.SOURCE, source)):
            word = role.value.lower()
            pods = [p for p in self.agents(word) if p["metadata"]["labels"]["storagemirror.io/pair-name"] == name]
            if "nodeName" not in pods[-1]["spec"]:
                self.schedule(pods[-1], node)
            self.run(pods[-1], "10.0.0.9" if role is Role.TARGET else "10.0.0.8")
        self.beat(name)

    def beat(self, name: str = "orders") -> None:
        """A heartbeat of both agents, with all well."""
        now = _micro()
        self.report(Role.TARGET, name, peer_connected=True)
        whole = {
            "peer_connected": True,
            "mirrored_at": MIRRORED_AT,
            "synced_through": now,
            "lag_seconds": 0.0,
            "lag_bytes": 0,
        }
        self.report(Role.SOURCE, name, **whole)

    def schedule(self, pod: dict[str, Any], node: str) -> None:
        """What the scheduler would do."""
        name = pod["metadata"]["name"]
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        self.api.post(CORE.format(self.namespace, "pods") + f"/{name}/binding", body)

    def run(self, pod: dict[str, Any], ip: str = "10.0.0.9") -> None:
        """What the kubelet would say of a pod that runs."""
        now = _now()
        state = {"name": "agent", "image": "i", "imageID": "i", "ready": True, "restartCount": 0}
        status = {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "containerStatuses": [state | {"containerID": "c://1", "state": {"running": {"startedAt": now}}}],
        }
        where = CORE.format(self.namespace, "pods") + f"/{pod['metadata']['name']}/status"
        self.api.merge(where, {"status": status})

    def report(self, role: Role, name: str = "orders", **more: Any) -> None:
        """What the agent of `role` would say, as the pod that its order means."""
        order = self.order(role, name)
        assert order is not None
        given = {"phase": Phase.REPLICATING, "instance": order.instance, **more}
        text = encode(Report(epoch=order.epoch, revision=order.revision, **given))
        lease = self.listed(LEASES.format(self.namespace) + _agent(role, name))[0]
        body = {"metadata": {"annotations": {REPORT_ANNOTATION: text}}, "spec": {"renewTime": _micro()}}
        self.api.merge(LEASES.format(self.namespace) + f"/{lease['metadata']['name']}", body)


def _agent(role: Role, name: str) -> str:
    return f"{AGENTS},storagemirror.io/role={role.value.lower()},storagemirror.io/pair-name={name}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _micro() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
