"""Where things are in the Kubernetes API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from storagemirror.api.model import GROUP, VERSION

PAIRS = (f"/apis/{GROUP}/{VERSION}", "mirrorpairs")
FAILOVERS = (f"/apis/{GROUP}/{VERSION}", "failovers")
RESTORES = (f"/apis/{GROUP}/{VERSION}", "restores")
PODS = ("/api/v1", "pods")
CLAIMS = ("/api/v1", "persistentvolumeclaims")
CONFIG_MAPS = ("/api/v1", "configmaps")
SECRETS = ("/api/v1", "secrets")
ACCOUNTS = ("/api/v1", "serviceaccounts")
EVENTS = ("/api/v1", "events")
NODES = ("/api/v1", "nodes")
NAMESPACES = ("/api/v1", "namespaces")
LEASES = ("/apis/coordination.k8s.io/v1", "leases")
ROLES = ("/apis/rbac.authorization.k8s.io/v1", "roles")
BINDINGS = ("/apis/rbac.authorization.k8s.io/v1", "rolebindings")
DEPLOYMENTS = ("/apis/apps/v1", "deployments")
STATEFUL_SETS = ("/apis/apps/v1", "statefulsets")
SERVICES = ("/api/v1", "services")
ENDPOINT_SLICES = ("/apis/discovery.k8s.io/v1", "endpointslices")
STORAGE_CLASSES = ("/apis/storage.k8s.io/v1", "storageclasses")

Resource = tuple[str, str]

_BY_KIND: Mapping[str, Resource] = {
    "Deployment": DEPLOYMENTS,
    "Failover": FAILOVERS,
    "Restore": RESTORES,
    "Service": SERVICES,
    "StatefulSet": STATEFUL_SETS,
    "ConfigMap": CONFIG_MAPS,
    "Lease": LEASES,
    "PersistentVolumeClaim": CLAIMS,
    "Pod": PODS,
    "Role": ROLES,
    "RoleBinding": BINDINGS,
    "Secret": SECRETS,
    "ServiceAccount": ACCOUNTS,
}


def path(resource: Resource, namespace: str | None = None, name: str | None = None) -> str:
    """Of a collection, or of one object; with no namespace of all namespaces, or of what has none."""
    prefix, plural = resource
    middle = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"{prefix}{middle}/{plural}" + (f"/{name}" if name is not None else "")


def by_kind(kind: str) -> Resource:
    """The resource of a kind; KeyError for one that the operator never touches."""
    return _BY_KIND[kind]


def resource_of(manifest: Mapping[str, Any]) -> Resource:
    """The resource that a manifest is of; KeyError for a kind that the operator never writes."""
    return _BY_KIND[manifest["kind"]]
