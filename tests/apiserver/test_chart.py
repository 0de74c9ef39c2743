"""What the chart renders: clean by Helm and by the API server's own schemas, and as it is meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import storagemirror
from storagemirror.api.agents import Agents
from storagemirror.contract import AGENT_PORT, Role
from storagemirror.resources.names import AgentRef
from storagemirror.resources.pod import Image, PodInput, agent_pod
from tests.cluster.command import run
from tests.cluster.errors import CommandFailed
from tests.cluster.tools import ensure_tools
from tests.support.apiserver import ApiServer
from tests.support.chart import CHART, PROBE, bare_server, one, rendered, template
from tests.support.json_schemas import checking, write_schemas

pytestmark = pytest.mark.apiserver

EVERYTHING: list[str] = [
    "--set=metrics.serviceMonitor.interval=1m,metrics.serviceMonitor.labels.release=prometheus",
    '--set-json=metrics.from=[{"namespaceSelector":{}}]',
    "--set=networkPolicy.agentNamespaces={shop,bank},podDisruptionBudget.maxUnavailable=2,replicas=3,logLevel=debug",
    "--set=image.repository=example.test/sm,image.tag=v1,image.pullSecrets={pull},priorityClassName=high",
    "--set=nodeSelector.disk=ssd,podLabels.team=x,podAnnotations.note=y,serviceAccount.annotations.a=b",
    '--set-json=tolerations=[{"operator":"Exists"}]',
    '--set-json=affinity={"nodeAffinity":{}}',
    '--set-json=topologySpreadConstraints=[{"topologyKey":"zone","maxSkew":2,"whenUnsatisfiable":"ScheduleAnyway"}]',
]


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own."""
    with bare_server(tmp_path_factory.mktemp("chart")) as server:
        yield server


def test_helm_lint_has_nothing_to_say() -> None:
    defaults: list[str] = []
    for flags in (defaults, EVERYTHING):
        said = run(ensure_tools(("helm",))["helm"], "lint", "--strict", CHART, *flags).stdout
        assert ("[WARNING]" in said, "[ERROR]" in said) == (False, False), said


def test_its_version_is_that_of_the_program() -> None:
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert described["appVersion"] == storagemirror.__version__


@pytest.mark.parametrize("flags", [[], EVERYTHING], ids=["defaults", "everything set"])
def test_what_it_renders_fits_the_schemas_of_the_api_server(
    apiserver: ApiServer, tmp_path: Path, flags: list[str]
) -> None:
    assert write_schemas(apiserver.client().get("/openapi/v2").value, tmp_path) > 100
    manifests = template(*flags)
    check = checking(tmp_path)
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
        (["--set=gate.enable=false"], "enable"),
        (["--set=gate.excludedNamespaces={Not_A_Namespace}"], "excludedNamespaces"),
        (["--set=approval.enabled=maybe"], "approval"),
        (["--set=networkPolicy.verifyAnswers=no one"], "verifyAnswers"),
        (["--set=metrics.serviceMonitor.interval=often"], "interval"),
        (["--set=metrics.serviceMonitors.enabled=true"], "serviceMonitors"),
        (["--set=networkPolicy.agentNamespaces={Not_A_Namespace}"], "agentNamespaces"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_by_name(flags: list[str], word: str) -> None:
    with pytest.raises(CommandFailed, match=word) as refused:
        rendered(*flags)
    assert "schema" in refused.value.said


def test_where_traffic_is_restricted_agents_reach_each_other_and_nobody_else_reaches_them() -> None:
    documents = rendered("--set=networkPolicy.agentNamespaces={shop}")
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
    # Sources dial targets, and of several volumes of one pair the source that leads.
    assert all(out["to"][0]["podSelector"]["matchLabels"].items() <= labels[role] for role in Role)
    assert out["ports"] == [{"protocol": "TCP", "port": AGENT_PORT}]
    others = {(p["protocol"], p["port"]) for e in spec["egress"] if "to" not in e for p in e["ports"]}
    assert others == {("TCP", 443), ("TCP", 6443), ("UDP", 53), ("TCP", 53)}


@pytest.mark.parametrize(("sends", "receives"), [("node-a", "node-b"), ("node-b", "node-a")])
def test_there_agents_reach_each_other_in_either_direction(sends: str, receives: str) -> None:
    """Home and away: the policy goes by the roles, wherever their claims are."""
    documents = rendered("--set=networkPolicy.agentNamespaces={shop}")
    (policy,) = [d for d in documents if d["kind"] == "NetworkPolicy" and d["metadata"]["namespace"] == "shop"]
    pods = {}
    for role, node in ((Role.SOURCE, sends), (Role.TARGET, receives)):
        ref = AgentRef("orders", "0f0e", "shop", "data", role)
        made = agent_pod(PodInput(ref, 1, f"claim-on-{node}", Image("storagemirror:test"), Agents()))
        pods[role] = made["metadata"]["labels"].items()
    spec = policy["spec"]
    (dials,) = [e["to"][0]["podSelector"]["matchLabels"].items() for e in spec["egress"] if "to" in e]
    (heard,) = [e["from"][0]["podSelector"]["matchLabels"].items() for e in spec["ingress"]]
    assert (heard <= pods[Role.SOURCE], dials <= pods[Role.TARGET]) == (True, True)
    assert all(spec["podSelector"]["matchLabels"].items() <= labels for labels in pods.values())


def _egress(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = one(documents, "NetworkPolicy")["spec"]["egress"]
    return found


def test_the_operator_reaches_every_pod_to_see_whether_it_answers_unless_told_not_to() -> None:
    answers = {"to": [{"namespaceSelector": {}}], "ports": [{"protocol": "TCP"}]}
    assert answers in _egress(rendered())
    without = _egress(rendered("--set=networkPolicy.verifyAnswers=false"))
    assert (answers in without, [e for e in without if "to" in e]) == (False, [])


def test_the_policy_of_the_operator_is_also_that_of_the_job_before_an_uninstall() -> None:
    documents = rendered()
    selector = one(documents, "NetworkPolicy")["spec"]["podSelector"]
    (some,) = selector["matchExpressions"]
    for kind in ("Deployment", "Job"):
        labels = one(documents, kind)["spec"]["template"]["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()
        assert labels[some["key"]] in some["values"]
    job = one(documents, "Job")["spec"]["template"]["metadata"]["labels"]
    assert not one(documents, "Deployment")["spec"]["selector"]["matchLabels"].items() <= job.items()


def test_prometheus_finds_the_operator_and_may_read_it() -> None:
    documents = rendered("--set=metrics.serviceMonitor.enabled=true", '--set-json=metrics.from=[{"podSelector":{}}]')
    service, monitor = one(documents, "Service"), one(documents, "ServiceMonitor")
    deployment = one(documents, "Deployment")["spec"]["template"]
    assert service["spec"]["selector"].items() <= deployment["metadata"]["labels"].items()
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    container = deployment["spec"]["containers"][0]
    assert {"name": "metrics", "containerPort": 8081, "protocol": "TCP"} in container["ports"]
    rules = one(documents, "NetworkPolicy")["spec"]["ingress"]
    assert {"ports": [{"protocol": "TCP", "port": "metrics"}], "from": [{"podSelector": {}}]} in rules


def test_without_metrics_there_is_no_port() -> None:
    text = template("--set=metrics.enabled=false")
    assert "8081" not in text
    assert "metrics}" not in text
    assert 'value: "0"' in text


SERVED = [f"--api-versions=storagemirror.io/v1alpha1/{kind}" for kind in ("MirrorPair", "Restore")]


def test_an_operator_is_not_installed_beside_the_kinds_of_an_earlier_release() -> None:
    for gate in ("true", "false"):
        with pytest.raises(CommandFailed, match="no Restores: apply crds/ of this release first"):
            rendered(f"--set=crds.install=false,gate.enabled={gate}", SERVED[0])
    assert rendered(SERVED[0]) != []


def test_a_gate_whose_kind_is_missing_is_not_installed_it_would_refuse_every_pod() -> None:
    with pytest.raises(CommandFailed, match="apply crds/ first"):
        rendered("--set=crds.install=false")
    served = rendered("--set=crds.install=false", *SERVED)
    assert "storagemirror-gate" in [d["metadata"]["name"] for d in served]
    assert rendered("--set=crds.install=false,gate.enabled=false") != []


class TestTheOperatorsPod:
    @pytest.fixture
    def template(self) -> dict[str, Any]:
        found: dict[str, Any] = one(rendered(), "Deployment")["spec"]["template"]
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

    def test_it_gives_its_own_image_to_the_agents(self) -> None:
        digest = "sha256:" + "a" * 64
        deployment = one(rendered(f"--set=image.tag=v1,image.digest={digest}"), "Deployment")
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

    def test_without_the_gate_it_knows_of_none(self) -> None:
        documents = rendered("--set=gate.enabled=false")
        text = yaml.safe_dump_all(d for d in documents if d["kind"] != "CustomResourceDefinition")
        assert [w for w in ("STORAGEMIRROR_GATE", "storagemirror-probe", "impersonate", "probe") if w in text] == []
        kinds = [d["kind"] for d in documents if d["metadata"]["name"] == "storagemirror-gate"]
        assert kinds == []

    def test_two_run_on_different_nodes_as_far_as_there_are_some(self) -> None:
        deployment = one(rendered(), "Deployment")
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

    def test_ones_own_placement_takes_the_place_of_the_charts(self) -> None:
        spec = one(rendered(*EVERYTHING), "Deployment")["spec"]["template"]["spec"]
        assert spec["tolerations"] == [{"operator": "Exists"}]
        assert spec["affinity"] == {"nodeAffinity": {}}
        assert [c["topologyKey"] for c in spec["topologySpreadConstraints"]] == ["zone"]


def _environment(template: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = template["spec"]["containers"][0]["env"]
    return found
