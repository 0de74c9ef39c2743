"""The chart: clean by Helm and by the API server's own schemas; installed, upgraded and removed without harm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import storagemirror
from storagemirror.api.agents import Agents, Privilege
from storagemirror.api.model import API_VERSION
from storagemirror.contract import AGENT_PORT, Role
from storagemirror.resources.access import role, role_binding, service_account
from storagemirror.resources.names import AgentRef
from storagemirror.resources.pod import Image, PodInput, agent_pod
from tests.cluster.command import run, wait_for
from tests.cluster.errors import CommandFailed
from tests.cluster.tools import ensure_tools
from tests.support.api_client import ApiAnswer
from tests.support.apiserver import ApiServer
from tests.support.json_schemas import LOCATION, write_schemas

pytestmark = pytest.mark.apiserver

RELEASE, HOME = "storagemirror", "storagemirror-system"
OPERATOR = f"system:serviceaccount:{HOME}:{RELEASE}"
PROBE = f"system:serviceaccount:{HOME}:storagemirror-probe"
EVERYTHING: list[str] = [
    "--set=networkPolicy.agentNamespaces={shop,bank},podDisruptionBudget.maxUnavailable=2,replicas=3,logLevel=debug",
    "--set=image.repository=example.test/sm,image.tag=v1,image.pullSecrets={pull},priorityClassName=high",
    "--set=nodeSelector.disk=ssd,podLabels.team=x,podAnnotations.note=y,serviceAccount.annotations.a=b",
    '--set-json=tolerations=[{"operator":"Exists"}]',
    '--set-json=affinity={"nodeAffinity":{}}',
    '--set-json=topologySpreadConstraints=[{"topologyKey":"zone","maxSkew":2,"whenUnsatisfiable":"ScheduleAnyway"}]',
]


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own, without our CRDs: here they come with the chart."""
    tools = ensure_tools(("hyperkube", "kubectl"))
    server = ApiServer(tmp_path_factory.mktemp("chart"), tools["hyperkube"], [tools["kubectl"]])
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def helm() -> Path:
    return ensure_tools(("helm",))["helm"]


def rendered(helm: Path, chart: Path, *flags: str) -> list[dict[str, Any]]:
    text = run(helm, "template", RELEASE, chart, "--namespace", HOME, *flags).stdout
    return [d for d in yaml.safe_load_all(text) if d]


def one(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [d for d in documents if d["kind"] == kind]
    return found


def test_helm_lint_has_nothing_to_say(helm: Path, chart: Path) -> None:
    defaults: list[str] = []
    for flags in (defaults, EVERYTHING):
        said = run(helm, "lint", "--strict", chart, *flags).stdout
        assert ("[WARNING]" in said, "[ERROR]" in said) == (False, False), said


def test_its_version_is_that_of_the_program(chart: Path) -> None:
    described = yaml.safe_load((chart / "Chart.yaml").read_text())
    assert described["appVersion"] == storagemirror.__version__


@pytest.mark.parametrize("flags", [[], EVERYTHING], ids=["defaults", "everything set"])
def test_what_it_renders_fits_the_schemas_of_the_api_server(
    apiserver: ApiServer, helm: Path, chart: Path, tmp_path: Path, flags: list[str]
) -> None:
    kubeconform = ensure_tools(("kubeconform",))["kubeconform"]
    assert write_schemas(apiserver.client().get("/openapi/v2").value, tmp_path) > 100
    manifests = run(helm, "template", RELEASE, chart, "--namespace", HOME, *flags).stdout
    check: list[str | Path] = [
        kubeconform,
        "-strict",
        "-summary",
        "-output",
        "json",
        "-schema-location",
        f"{tmp_path}/{LOCATION}",
    ]
    summary = json.loads(run(*check, stdin=manifests).stdout)["summary"]
    assert (summary["invalid"], summary["errors"], summary["skipped"]) == (0, 0, 0)
    assert summary["valid"] == len([d for d in yaml.safe_load_all(manifests) if d])
    broken = manifests.replace("replicas:", "replicaz:")
    with pytest.raises(CommandFailed, match="replicaz"):
        run(*check, stdin=broken)


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--set=replica=2"], "replica"),
        (["--set=replicas=-1"], "replicas"),
        (["--set=image.pullPolicy=Sometimes"], "pullPolicy"),
        (["--set=image.repository="], "repository"),
        (["--set=image.digest=latest"], "digest"),
        (["--set=logLevel=loud"], "logLevel"),
        (["--set=serviceAccount.create=false"], "name"),
        (["--set=resources.limits.memory=lots"], "memory"),
        (["--set=podLabels.app\\.kubernetes\\.io/name=x"], "podLabels"),
        (["--set=networkPolicy.agentNamespaces={Not_A_Namespace}"], "agentNamespaces"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_by_name(helm: Path, chart: Path, flags: list[str], word: str) -> None:
    with pytest.raises(CommandFailed, match=word) as refused:
        rendered(helm, chart, *flags)
    assert "schema" in refused.value.said


def test_where_traffic_is_restricted_agents_reach_each_other_and_nobody_else_reaches_them(
    helm: Path, chart: Path
) -> None:
    documents = rendered(helm, chart, "--set=networkPolicy.agentNamespaces={shop}")
    (policy,) = [d for d in documents if d["kind"] == "NetworkPolicy" and d["metadata"]["namespace"] == "shop"]
    labels = {r: AgentRef("orders", "0f0e", "shop", "data", r).labels.items() for r in Role}
    spec = policy["spec"]
    assert all(spec["podSelector"]["matchLabels"].items() <= labels[r] for r in Role)
    (entry,) = spec["ingress"]
    (peer,) = entry["from"]
    assert entry["ports"] == [{"protocol": "TCP", "port": AGENT_PORT}]
    assert peer["podSelector"]["matchLabels"].items() <= labels[Role.SOURCE]
    assert not peer["podSelector"]["matchLabels"].items() <= labels[Role.TARGET]
    (out,) = [e for e in spec["egress"] if "to" in e]
    assert out["to"][0]["podSelector"]["matchLabels"].items() <= labels[Role.TARGET]
    assert out["ports"] == [{"protocol": "TCP", "port": AGENT_PORT}]
    others = {(p["protocol"], p["port"]) for e in spec["egress"] if "to" not in e for p in e["ports"]}
    assert others == {("TCP", 443), ("TCP", 6443), ("UDP", 53), ("TCP", 53)}


def _egress(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(documents, "NetworkPolicy")["spec"]["egress"]
    return found


def test_the_operator_reaches_every_pod_to_see_whether_it_answers_unless_told_not_to(helm: Path, chart: Path) -> None:
    answers = {"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP"}]}
    assert answers in _egress(rendered(helm, chart))
    without = _egress(rendered(helm, chart, "--set=networkPolicy.verifyAnswers=false"))
    assert (answers in without, [e for e in without if "to" in e]) == (False, [])


def test_the_policy_of_the_operator_is_also_that_of_the_job_before_an_uninstall(helm: Path, chart: Path) -> None:
    documents = rendered(helm, chart)
    selector = one(documents, "NetworkPolicy")["spec"]["podSelector"]
    (some,) = selector["matchExpressions"]
    for kind in ("Deployment", "Job"):
        labels = one(documents, kind)["spec"]["template"]["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()
        assert labels[some["key"]] in some["values"]
    job = one(documents, "Job")["spec"]["template"]["metadata"]["labels"]
    assert not one(documents, "Deployment")["spec"]["selector"]["matchLabels"].items() <= job.items()


class TestTheOperatorsPod:
    @pytest.fixture
    def template(self, helm: Path, chart: Path) -> dict[str, Any]:
        found: dict[str, Any] = one(rendered(helm, chart), "Deployment")["spec"]["template"]
        return found

    def test_a_namespace_of_the_restricted_level_takes_it(
        self, apiserver: ApiServer, namespace: str, template: dict[str, Any]
    ) -> None:
        client = apiserver.client()
        client.merge(
            f"/api/v1/namespaces/{namespace}",
            {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}},
        )
        template["spec"]["serviceAccountName"] = "default"
        body = {"metadata": {"name": "operator"}, "spec": template["spec"]}
        assert client.post(f"/api/v1/namespaces/{namespace}/pods", body).status == 201
        template["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        body = {"metadata": {"name": "looser"}, "spec": template["spec"]}
        assert client.post(f"/api/v1/namespaces/{namespace}/pods", body, check=False).status == 403

    def test_it_gives_its_own_image_to_the_agents(self, helm: Path, chart: Path) -> None:
        digest = "sha256:" + "a" * 64
        deployment = one(rendered(helm, chart, f"--set=image.tag=v1,image.digest={digest}"), "Deployment")
        container = deployment["spec"]["template"]["spec"]["containers"][0]
        environment = {e["name"]: e.get("value") for e in container["env"]}
        assert container["image"] == environment["STORAGEMIRROR_IMAGE"] == f"storagemirror:v1@{digest}"

    def test_it_says_where_it_is(self, template: dict[str, Any]) -> None:
        fields = {
            e["name"]: e["valueFrom"]["fieldRef"]["fieldPath"] for e in _environment(template) if "valueFrom" in e
        }
        assert fields == {"POD_NAMESPACE": "metadata.namespace", "POD_NAME": "metadata.name"}

    def test_it_knows_the_gate_and_as_whom_to_try_it(self, template: dict[str, Any]) -> None:
        environment = {e["name"]: e.get("value") for e in _environment(template)}
        assert environment["STORAGEMIRROR_GATE_POLICY"] == "storagemirror-gate"
        assert environment["STORAGEMIRROR_PROBE_ACCOUNT"] == PROBE

    def test_without_the_gate_it_knows_of_none(self, helm: Path, chart: Path) -> None:
        documents = rendered(helm, chart, "--set=gate.enabled=false")
        text = yaml.safe_dump_all(d for d in documents if d["kind"] != "CustomResourceDefinition")
        assert [w for w in ("STORAGEMIRROR_GATE", "storagemirror-probe", "impersonate", "probe") if w in text] == []
        kinds = [d["kind"] for d in documents if d["metadata"]["name"] == "storagemirror-gate"]
        assert kinds == []

    def test_two_run_on_different_nodes_as_far_as_there_are_some(self, helm: Path, chart: Path) -> None:
        deployment = one(rendered(helm, chart), "Deployment")
        (spread,) = deployment["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert deployment["spec"]["replicas"] == 2
        assert spread == {
            "topologyKey": "kubernetes.io/hostname",
            "maxSkew": 1,
            "whenUnsatisfiable": "DoNotSchedule",
            "nodeTaintsPolicy": "Honor",
            "matchLabelKeys": ["pod-template-hash"],
            "labelSelector": {"matchLabels": deployment["spec"]["selector"]["matchLabels"]},
        }

    def test_it_leaves_a_dead_node_soon_and_counts_it_as_none_to_be_spread_over(self, template: dict[str, Any]) -> None:
        found = {t["key"]: (t["effect"], t["tolerationSeconds"]) for t in template["spec"]["tolerations"]}
        # The effect NoSchedule, which a dead node bears too, is not tolerated.
        assert found == dict.fromkeys(
            ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"), ("NoExecute", 30)
        )

    def test_ones_own_placement_takes_the_place_of_the_charts(self, helm: Path, chart: Path) -> None:
        spec = one(rendered(helm, chart, *EVERYTHING), "Deployment")["spec"]["template"]["spec"]
        assert spec["tolerations"] == [{"operator": "Exists"}]
        assert spec["affinity"] == {"nodeAffinity": {}}
        assert [c["topologyKey"] for c in spec["topologySpreadConstraints"]] == ["zone"]


def _environment(template: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = template["spec"]["containers"][0]["env"]
    return found


@pytest.fixture(scope="module")
def installed(apiserver: ApiServer, helm: Path, chart: Path) -> None:
    """A release, by Helm, on a server that had nothing of ours."""
    _helm(apiserver, helm, "install", RELEASE, chart, "--namespace", HOME, "--create-namespace")


def _helm(server: ApiServer, helm: Path, *words: str | Path) -> str:
    return run(helm, "--kubeconfig", server.kubeconfig(), *words, timeout=120).stdout


def _exists(server: ApiServer, path: str) -> bool:
    return server.client().get(path, check=False).status == 200


CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/mirrorpairs.storagemirror.io"
DEPLOYMENT = f"/apis/apps/v1/namespaces/{HOME}/deployments/{RELEASE}"


def _make_pair(server: ApiServer, namespace: str, token: str | None = None) -> ApiAnswer:
    volume = {"name": "data", "source": {"claimName": "a"}, "target": {"claimName": "b"}}
    body = {
        "apiVersion": API_VERSION,
        "kind": "MirrorPair",
        "metadata": {"name": "orders"},
        "spec": {"volumes": [volume]},
    }
    return server.client(token).post(f"/apis/{API_VERSION}/namespaces/{namespace}/mirrorpairs", body, check=False)


@pytest.mark.usefixtures("installed")
class TestARelease:
    def test_it_says_the_next_step(self, apiserver: ApiServer, helm: Path) -> None:
        notes = _helm(apiserver, helm, "get", "notes", RELEASE, "--namespace", HOME)
        wanted = ["kind: MirrorPair", "kubectl get mirrorpairs", "rollout status deployment/storagemirror"]
        assert [w for w in wanted if w not in notes] == []

    def test_the_pair_of_its_notes_is_accepted(self, apiserver: ApiServer, helm: Path, namespace: str) -> None:
        notes = _helm(apiserver, helm, "get", "notes", RELEASE, "--namespace", HOME)
        text = notes.split("<<END\n", 1)[1].split("END", 1)[0]
        apiserver.kubectl("apply", "-n", namespace, "-f", "-", stdin=text)
        assert "orders" in apiserver.kubectl("get", "mp", "-n", namespace).text

    def test_a_second_release_is_refused_two_operators_would_fight(
        self, apiserver: ApiServer, helm: Path, chart: Path
    ) -> None:
        with pytest.raises(CommandFailed, match="storagemirror"):
            _helm(apiserver, helm, "install", "second", chart, "--namespace", "second", "--create-namespace")

    def test_an_upgrade_brings_a_newer_crd(self, apiserver: ApiServer, helm: Path, chart: Path, tmp_path: Path) -> None:
        newer = tmp_path / "storagemirror"
        shutil.copytree(chart, newer)
        file = newer / "files" / "crds" / "storagemirror.io_mirrorpairs.yaml"
        crd = yaml.safe_load(file.read_text())
        crd["spec"]["names"]["shortNames"].append("mpair")
        file.write_text(yaml.safe_dump(crd))
        _helm(apiserver, helm, "upgrade", RELEASE, newer, "--namespace", HOME)
        assert apiserver.client().get(CRD).value["spec"]["names"]["shortNames"] == ["mp", "mpair"]
        _helm(apiserver, helm, "upgrade", RELEASE, chart, "--namespace", HOME)
        assert apiserver.client().get(CRD).value["spec"]["names"]["shortNames"] == ["mp"]

    def test_after_uninstall_the_pairs_are_there_and_nothing_is_stuck(
        self, apiserver: ApiServer, helm: Path, chart: Path, namespace: str
    ) -> None:
        assert _make_pair(apiserver, namespace).status == 201
        # Nobody runs the Job of its hook here: test_uninstall.py.
        _helm(apiserver, helm, "uninstall", RELEASE, "--namespace", HOME, "--no-hooks")
        pair = apiserver.client().get(f"/apis/{API_VERSION}/namespaces/{namespace}/mirrorpairs/orders").value
        assert "finalizers" not in pair["metadata"]
        assert "deletionTimestamp" not in apiserver.client().get(CRD).value["metadata"]
        left = apiserver.kubectl(
            "get", "deploy,sa,role,rolebinding,networkpolicy", "-n", HOME, "-l", "app.kubernetes.io/name", "-o", "name"
        ).text
        clusterwide = apiserver.kubectl(
            *("get", "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding"),
            *("-l", "app.kubernetes.io/name=storagemirror", "-o", "name"),
        ).text
        assert (left.strip(), clusterwide.strip()) == ("", "")
        apiserver.kubectl("delete", "mp", "orders", "-n", namespace, "--timeout=10s")

        _helm(apiserver, helm, "install", RELEASE, chart, "--namespace", HOME)
        assert _exists(apiserver, DEPLOYMENT)


ALLOWED = [
    ("get", "storagemirror.io", "mirrorpairs", ""),
    ("watch", "storagemirror.io", "mirrorpairs", ""),
    ("update", "storagemirror.io", "mirrorpairs", "status"),
    ("watch", "storagemirror.io", "failovers", ""),
    ("create", "storagemirror.io", "failovers", ""),
    ("delete", "storagemirror.io", "failovers", ""),
    ("update", "storagemirror.io", "failovers", "status"),
    ("watch", "", "pods", ""),
    ("create", "", "pods", ""),
    ("delete", "", "pods", ""),
    ("patch", "", "pods", ""),
    ("get", "", "nodes", ""),
    ("list", "", "nodes", ""),
    ("get", "", "persistentvolumes", ""),
    ("list", "discovery.k8s.io", "endpointslices", ""),
    ("get", "apps", "deployments", ""),
    ("patch", "apps", "deployments", ""),
    ("update", "apps", "deployments", "scale"),
    ("get", "apps", "statefulsets", ""),
    ("patch", "apps", "statefulsets", ""),
    ("update", "apps", "statefulsets", "scale"),
    ("get", "", "services", ""),
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
    ("patch", "", "nodes", ""),
    ("list", "", "persistentvolumes", ""),
    ("patch", "storagemirror.io", "mirrorpairs", "status"),
    ("update", "storagemirror.io", "failovers", ""),
    ("patch", "storagemirror.io", "failovers", ""),
    ("approve", "storagemirror.io", "failovers", ""),
    ("create", "", "namespaces", ""),
    ("create", "rbac.authorization.k8s.io", "clusterroles", ""),
    ("create", "rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("escalate", "rbac.authorization.k8s.io", "roles", ""),
    ("bind", "rbac.authorization.k8s.io", "roles", ""),
    ("create", "apps", "deployments", ""),
    ("update", "apps", "deployments", ""),
    ("delete", "apps", "statefulsets", ""),
    ("list", "apps", "statefulsets", ""),
    ("delete", "", "services", ""),
    ("list", "", "services", ""),
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


@pytest.mark.usefixtures("installed")
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
        pod = agent_pod(PodInput(ref, 1, "orders-standby", image, agents))
        answer = client.post(f"/api/v1/namespaces/{namespace}/pods", pod, check=False)
        assert answer.status == status, answer.message


@pytest.fixture(scope="module")
def aggregated(apiserver: ApiServer) -> None:
    """The controller that makes the chart's roles part of the standing ones."""
    apiserver.start_controllers("clusterrole-aggregation-controller")


@pytest.mark.usefixtures("installed", "aggregated")
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

    wait_for("view to be aggregated", lambda: may("view", "get", "failovers"), 60)
    wait_for("admin to be aggregated", lambda: may("admin", "approve", "failovers"), 60)
    everything = ["get", "create", "patch", "delete"]
    for resource in ("mirrorpairs", "failovers"):
        rights = {
            user: [verb for verb in everything if may(user, verb, resource)]
            for user in ("admin", "edit", "view", "stranger")
        }
        assert rights == {"admin": everything, "edit": everything, "view": ["get"], "stranger": []}
        assert may("view", "get", resource, "status")
        assert not may("admin", "update", resource, "status")


@pytest.mark.usefixtures("installed", "aggregated")
def test_who_may_edit_a_namespace_may_not_approve_its_failovers(apiserver: ApiServer, namespace: str) -> None:
    for standing in ("admin", "edit"):
        words = ("--clusterrole=" + standing, f"--user={standing}", "-n", namespace)
        apiserver.kubectl("create", "rolebinding", f"for-{standing}", *words)
    approve = ("approve", "storagemirror.io", "failovers", "")
    wait_for("the verb of an admin", lambda: _may(apiserver, "admin", approve, namespace), 60)
    assert not _may(apiserver, "edit", approve, namespace)
