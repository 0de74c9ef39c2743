"""What an agent may do at the API server: read its own order, write its own Lease, nothing else."""

from __future__ import annotations

from typing import Any

from storagemirror.resources.names import AgentRef

RBAC = "rbac.authorization.k8s.io"


def service_account(ref: AgentRef) -> dict[str, Any]:
    """The account. Its token is mounted only where a pod says so."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": ref.metadata(),
        "automountServiceAccountToken": False,
    }


def role(ref: AgentRef) -> dict[str, Any]:
    """Read and watch one ConfigMap, read and patch one Lease, each by name."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "Role",
        "metadata": ref.metadata(),
        "rules": [
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [ref.base], "verbs": ["get", "watch"]},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [ref.base],
                "verbs": ["get", "patch"],
            },
        ],
    }


def role_binding(ref: AgentRef) -> dict[str, Any]:
    """Gives the role to the account."""
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": ref.metadata(),
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": ref.base},
        "subjects": [{"kind": "ServiceAccount", "name": ref.base, "namespace": ref.namespace}],
    }
