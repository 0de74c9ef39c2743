"""The rights that the chart gives: what the operator, its probe and the users of a namespace may do, and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from storagemirror.api.agents import Agents, Privilege
from storagemirror.contract import Role
from storagemirror.resources.access import role, role_binding, service_account
from storagemirror.resources.names import AgentRef
from storagemirror.resources.pod import Image, PodInput, agent_pod
from tests.cluster.command import wait_for
from tests.support.apiserver import ApiServer
from tests.support.chart import HOME, OPERATOR, PROBE, RELEASE, bare_server, install

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own with a release, and the controller that makes its roles part of the standing ones."""
    with bare_server(tmp_path_factory.mktemp("rights"), "clusterrole-aggregation-controller") as server:
        install(server)
        yield server


ALLOWED = [
    ("get", "storagemirror.io", "mirrorpairs", ""),
    ("watch", "storagemirror.io", "mirrorpairs", ""),
    ("update", "storagemirror.io", "mirrorpairs", "status"),
    ("watch", "storagemirror.io", "failovers", ""),
    ("create", "storagemirror.io", "failovers", ""),
    ("delete", "storagemirror.io", "failovers", ""),
    ("update", "storagemirror.io", "failovers", "status"),
    ("get", "storagemirror.io", "restores", ""),
    ("list", "storagemirror.io", "restores", ""),
    ("watch", "storagemirror.io", "restores", ""),
    ("update", "storagemirror.io", "restores", "status"),
    ("watch", "", "pods", ""),
    ("create", "", "pods", ""),
    ("delete", "", "pods", ""),
    ("patch", "", "pods", ""),
    ("get", "", "nodes", ""),
    ("list", "", "nodes", ""),
    ("watch", "", "nodes", ""),
    ("get", "", "namespaces", ""),
    ("list", "discovery.k8s.io", "endpointslices", ""),
    ("get", "apps", "deployments", ""),
    ("patch", "apps", "deployments", ""),
    ("update", "apps", "deployments", "scale"),
    ("get", "apps", "statefulsets", ""),
    ("patch", "apps", "statefulsets", ""),
    ("update", "apps", "statefulsets", "scale"),
    ("get", "", "services", ""),
    ("list", "", "services", ""),
    ("watch", "", "services", ""),
    ("create", "", "services", ""),
    ("patch", "", "services", ""),
    ("watch", "", "persistentvolumeclaims", ""),
    ("create", "", "persistentvolumeclaims", ""),
    ("get", "storage.k8s.io", "storageclasses", ""),
    ("update", "", "configmaps", ""),
    ("list", "coordination.k8s.io", "leases", ""),
    ("create", "coordination.k8s.io", "leases", ""),
    ("patch", "", "secrets", ""),
    ("patch", "", "serviceaccounts", ""),
    ("patch", "rbac.authorization.k8s.io", "roles", ""),
    ("patch", "rbac.authorization.k8s.io", "rolebindings", ""),
    ("create", "", "events", ""),
]

DENIED = [
    ("update", "storagemirror.io", "mirrorpairs", ""),
    ("patch", "storagemirror.io", "mirrorpairs", ""),
    ("delete", "storagemirror.io", "mirrorpairs", ""),
    ("list", "", "secrets", ""),
    ("watch", "", "secrets", ""),
    ("create", "", "pods", "exec"),
    ("update", "", "pods", ""),
    ("deletecollection", "", "pods", ""),
    ("patch", "", "persistentvolumeclaims", ""),
    ("list", "", "configmaps", ""),
    ("delete", "", "configmaps", ""),
    ("delete", "", "secrets", ""),
    ("update", "", "secrets", ""),
    ("delete", "coordination.k8s.io", "leases", ""),
    ("delete", "rbac.authorization.k8s.io", "roles", ""),
    ("get", "", "pods", "log"),
    ("delete", "", "persistentvolumeclaims", ""),
    ("delete", "", "persistentvolumes", ""),
    ("get", "", "persistentvolumes", ""),
    ("patch", "", "nodes", ""),
    ("list", "", "persistentvolumes", ""),
    ("patch", "storagemirror.io", "mirrorpairs", "status"),
    ("update", "storagemirror.io", "failovers", ""),
    ("patch", "storagemirror.io", "failovers", ""),
    ("approve", "storagemirror.io", "failovers", ""),
    ("create", "storagemirror.io", "restores", ""),
    ("update", "storagemirror.io", "restores", ""),
    ("patch", "storagemirror.io", "restores", ""),
    ("delete", "storagemirror.io", "restores", ""),
    ("patch", "storagemirror.io", "restores", "status"),
    ("create", "", "namespaces", ""),
    ("list", "", "namespaces", ""),
    ("patch", "", "namespaces", ""),
    ("create", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("escalate", "rbac.authorization.k8s.io", "roles", ""),
    ("bind", "rbac.authorization.k8s.io", "roles", ""),
    ("create", "apps", "deployments", ""),
    ("update", "apps", "deployments", ""),
    ("delete", "apps", "statefulsets", ""),
    ("list", "apps", "statefulsets", ""),
    ("delete", "", "services", ""),
    ("update", "", "services", ""),
    ("update", "discovery.k8s.io", "endpointslices", ""),
    ("patch", "admissionregistration.k8s.io", "validatingadmissionpolicies", ""),
    ("impersonate", "", "serviceaccounts", ""),
    ("impersonate", "", "users", ""),
    ("create", "", "serviceaccounts", "token"),
    ("create", "apiextensions.k8s.io", "customresourcedefinitions", ""),
]


def _may(
    server: ApiServer, user: str, asked: tuple[str, str, str, str], namespace: str = "anywhere", name: str = ""
) -> bool:
    words = dict(zip(("verb", "group", "resource", "subresource"), asked, strict=True))
    attributes = {**words, "namespace": namespace, "name": name}
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    answer = server.client().post("/apis/authorization.k8s.io/v1/subjectaccessreviews", body).value
    return bool(answer["status"]["allowed"])


class TestTheOperatorsRights:
    @pytest.mark.parametrize("asked", ALLOWED, ids=lambda a: " ".join(w for w in a if w))
    def test_it_may(self, apiserver: ApiServer, asked: tuple[str, str, str, str]) -> None:
        assert _may(apiserver, OPERATOR, asked)

    @pytest.mark.parametrize("asked", DENIED, ids=lambda a: " ".join(w for w in a if w))
    def test_it_may_not(self, apiserver: ApiServer, asked: tuple[str, str, str, str]) -> None:
        assert not _may(apiserver, OPERATOR, asked)

    def test_the_key_of_the_ca_and_the_lease_of_the_leader_are_its_own_only_at_home(self, apiserver: ApiServer) -> None:
        def may(group: str, resource: str, name: str, namespace: str) -> bool:
            return _may(apiserver, OPERATOR, ("update", group, resource, ""), namespace, name)

        leases = "coordination.k8s.io"
        assert may("", "secrets", "storagemirror-ca", HOME)
        assert may(leases, "leases", "storagemirror-operator", HOME)
        assert not may("", "secrets", "storagemirror-ca", "anywhere")
        assert not may("", "secrets", "another", HOME)
        assert not may(leases, "leases", "another", HOME)

    def test_it_may_speak_for_the_probe_alone_and_the_probe_may_only_make_pods(self, apiserver: ApiServer) -> None:
        def may_speak_for(name: str, namespace: str = HOME) -> bool:
            return _may(apiserver, OPERATOR, ("impersonate", "", "serviceaccounts", ""), namespace, name)

        assert may_speak_for("storagemirror-probe")
        assert not may_speak_for("storagemirror-probe", "anywhere")
        assert not any(may_speak_for(name) for name in (RELEASE, "default", ""))
        assert _may(apiserver, PROBE, ("create", "", "pods", ""))
        more = [("get", "", "pods", ""), ("delete", "", "pods", ""), ("get", "", "secrets", "")]
        assert not any(_may(apiserver, PROBE, asked) for asked in more)

    def test_it_can_give_an_agent_the_rights_an_agent_needs_and_no_more(
        self, apiserver: ApiServer, namespace: str
    ) -> None:
        client = apiserver.client(apiserver.service_account_token(HOME, RELEASE))
        ref = AgentRef("orders", "0f0e0d0c-0000-4000-8000-000000000000", namespace, "data", Role.TARGET)
        rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
        client.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", service_account(ref))
        client.post(f"{rbac}/roles", role(ref))
        client.post(f"{rbac}/rolebindings", role_binding(ref))
        agent = apiserver.client(apiserver.service_account_token(namespace, ref.base))
        assert agent.get(f"/api/v1/namespaces/{namespace}/configmaps/{ref.base}", check=False).status == 404
        assert agent.get(f"/api/v1/namespaces/{namespace}/configmaps/another", check=False).status == 403
        more = role(ref)
        more["metadata"]["name"] = "more"
        more["rules"] = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list"]}]
        assert client.post(f"{rbac}/roles", more, check=False).status == 403

    @pytest.mark.parametrize(
        ("level", "privilege", "status"),
        [
            ("baseline", Privilege.BASELINE, 201),
            ("restricted", Privilege.RESTRICTED, 201),
            ("restricted", Privilege.BASELINE, 403),
            ("privileged", Privilege.FREEZE, 201),
            ("baseline", Privilege.FREEZE, 403),
        ],
    )
    def test_it_can_make_an_agents_pod_where_the_level_allows_its_rung(
        self, apiserver: ApiServer, namespace: str, level: str, privilege: Privilege, status: int
    ) -> None:
        apiserver.kubectl("label", "namespace", namespace, f"pod-security.kubernetes.io/enforce={level}")
        client = apiserver.client(apiserver.service_account_token(HOME, RELEASE))
        ref = AgentRef("orders", "0f0e0d0c-0000-4000-8000-000000000000", namespace, "data", Role.TARGET)
        client.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", service_account(ref))
        image, agents = Image("storagemirror:test"), Agents(privilege=privilege)
        pod = agent_pod(PodInput(ref, 1, "orders-standby", image, agents, guarded=privilege is Privilege.FREEZE))
        answer = client.post(f"/api/v1/namespaces/{namespace}/pods", pod, check=False)
        assert answer.status == status, answer.message


def test_who_may_edit_or_view_a_namespace_may_do_so_with_its_pairs(apiserver: ApiServer, namespace: str) -> None:
    for standing in ("admin", "edit", "view"):
        apiserver.kubectl(
            "create",
            "rolebinding",
            f"for-{standing}",
            f"--clusterrole={standing}",
            f"--user={standing}",
            "-n",
            namespace,
        )

    def may(user: str, verb: str, resource: str, subresource: str = "") -> bool:
        return _may(apiserver, user, (verb, "storagemirror.io", resource, subresource), namespace)

    wait_for("view to be aggregated", lambda: may("view", "get", "restores"), 60)
    wait_for("admin to be aggregated", lambda: may("admin", "approve", "failovers"), 60)
    everything = ["get", "create", "patch", "delete"]
    for resource in ("mirrorpairs", "failovers", "restores"):
        rights = {
            user: [verb for verb in everything if may(user, verb, resource)]
            for user in ("admin", "edit", "view", "stranger")
        }
        assert rights == {"admin": everything, "edit": everything, "view": ["get"], "stranger": []}
        assert may("view", "get", resource, "status")
        assert not may("admin", "update", resource, "status")


def test_who_may_edit_a_namespace_may_not_approve_its_failovers(apiserver: ApiServer, namespace: str) -> None:
    for standing in ("admin", "edit"):
        words = ("--clusterrole=" + standing, f"--user={standing}", "-n", namespace)
        apiserver.kubectl("create", "rolebinding", f"for-{standing}", *words)
    approve = ("approve", "storagemirror.io", "failovers", "")
    wait_for("the verb of an admin", lambda: _may(apiserver, "admin", approve, namespace), 60)
    assert not _may(apiserver, "edit", approve, namespace)
