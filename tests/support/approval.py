"""A server with the chart's approval policies and roles, and users who have the standing roles of a namespace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storagemirror.api.model import API_VERSION
from tests.cluster.command import wait_for
from tests.support.api_client import ApiClient
from tests.support.apiserver import ApiServer
from tests.support.chart import CRDS, HOME, apply, bare_server
from tests.support.policies import wait_for_the_approvals

POLICIES = ("storagemirror-approve", "storagemirror-approve-restore", "storagemirror-approve-standing")
ADMIN = "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin"
TRIED = "policies-are-tried-here"
CONTROLLERS = "clusterrole-aggregation-controller,validatingadmissionpolicy-status-controller"


@contextmanager
def approving_server(directory: Path) -> Iterator[ApiServer]:
    """With the controllers that make the roles part of the standing ones and check the policies' types."""
    with bare_server(directory, CONTROLLERS) as server:
        server.namespace(HOME)
        server.apply(CRDS)
        apply(server, "serviceaccount", "rbac", "user-roles", "approval")
        wait_for("the policies' types to be checked", lambda: None not in faults(server).values(), 30)
        wait_for("admin to get the verb", lambda: "approve" in server.client().get(ADMIN).text, 30)
        wait_for_the_approvals(standing_user(server, server.namespace(TRIED), "edit"), TRIED)
        yield server


def faults(server: ApiServer) -> dict[str, Any]:
    """What the server found while it checked the types of each policy; None where it has not yet."""
    where = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies"
    found = {name: server.client().get(f"{where}/{name}").value for name in POLICIES}
    return {name: policy.get("status", {}).get("typeChecking") for name, policy in found.items()}


def standing_user(server: ApiServer, namespace: str, role: str) -> ApiClient:
    """A user who has that standing role in the namespace, and is called `<role>-of-<namespace>`."""
    name = f"{role}-of-{namespace}"
    server.kubectl("create", "rolebinding", name, f"--clusterrole={role}", f"--user={name}", "-n", namespace)
    client = server.client().acting_as(name)
    failovers = f"/apis/{API_VERSION}/namespaces/{namespace}/failovers"
    wait_for(f"{role} to be aggregated", lambda: client.get(failovers, check=False).status == 200, 60)
    return client
