"""The gate: the API server keeps new pods off the claims of the sides that a pair has closed, whoever makes them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.command import run, wait_for
from tests.cluster.layout import checkout
from tests.cluster.tools import ensure_tools
from tests.support.api_client import ApiAnswer, ApiClient
from tests.support.apiserver import ApiServer
from tests.support.pairs import CORE, PAIRS

pytestmark = pytest.mark.apiserver

RELEASE, HOME = "storagemirror", "storagemirror-system"
OPERATOR = f"system:serviceaccount:{HOME}:{RELEASE}"
PROBE = f"system:serviceaccount:{HOME}:storagemirror-probe"
APPS = "/apis/apps/v1/namespaces/{}/{}"
SOURCE, TARGET = "orders-data", "orders-standby"
GATE = "ValidatingAdmissionPolicy 'storagemirror-gate'"
TEMPLATES = ("crds", "serviceaccount", "rbac", "gate")


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory, chart: Path) -> Iterator[ApiServer]:
    """A server of its own with the chart's gate and rights, and the controllers that make pods."""
    tools = ensure_tools(("hyperkube", "kubectl", "helm"))
    server = ApiServer(tmp_path_factory.mktemp("gate"), tools["hyperkube"], [tools["kubectl"]])
    only = [f"--show-only=templates/{name}.yaml" for name in TEMPLATES]
    try:
        server.start()
        server.start_controllers(
            "replicaset-controller,statefulset-controller,validatingadmissionpolicy-status-controller"
        )
        server.namespace(HOME)
        server.apply(checkout() / "crds")
        manifests = run(tools["helm"], "template", RELEASE, chart, "--namespace", HOME, *only).stdout
        server.kubectl("apply", "--server-side", "-f", "-", stdin=manifests)
        yield server
    finally:
        server.stop()


@dataclass(frozen=True)
class Place:
    """A namespace with pairs, and somebody who makes pods in it."""

    server: ApiServer
    namespace: str
    client: ApiClient

    def pair(self, name: str = "orders", source: str = SOURCE, target: str = TARGET) -> None:
        volume = {"name": "data", "source": {"claimName": source}, "target": {"claimName": target}}
        body = {
            "apiVersion": "storagemirror.io/v1alpha1",
            "kind": "MirrorPair",
            "metadata": {"name": name},
            "spec": {"volumes": [volume]},
        }
        self.server.client().post(PAIRS.format(self.namespace), body)

    def status(self, name: str = "orders", **status: Any) -> None:
        """What the operator would write."""
        self.server.client().merge(f"{PAIRS.format(self.namespace)}/{name}/status", {"status": status})

    def close(self, *sides: str, live: str = "Source", name: str = "orders") -> None:
        """Close these sides, and wait until the gate has heard of it."""
        epoch = self.server.client().get(f"{PAIRS.format(self.namespace)}/{name}").value.get("status", {}).get("epoch")
        self.status(name, closedSides=list(sides), activeSide=live, epoch=(epoch or 0) + 1)
        pair = self.server.client().get(f"{PAIRS.format(self.namespace)}/{name}").value
        (volume,) = pair["spec"]["volumes"]
        for side in ("Source", "Target"):
            claim = volume[side.lower()]["claimName"]
            self.until_admits(claim, side not in sides)

    def until(self, check: Callable[[], bool], what: str) -> float:
        """Wait for `check`; returns seconds."""
        began = time.monotonic()
        while not check():
            assert time.monotonic() - began < 10, f"the gate never turned: {what}"
            time.sleep(0.005)
        return time.monotonic() - began

    def until_admits(self, claim: str, wanted: bool) -> float:
        """Wait until the gate does (or does not) let pass a pod that mounts `claim`; returns seconds."""
        return self.until(lambda: self.admits(claim) == wanted, f"{claim} is to be {'open' if wanted else 'closed'}")

    def admits(self, claim: str) -> bool:
        """Whether an administrator could make a pod that mounts `claim`."""
        answer = replace(self, client=self.server.client()).make(claim, dry_run=True)
        assert answer.status in {201, 403, 422}, answer.message
        return answer.status == 201

    def make(self, *claims: str, dry_run: bool = False, body: dict[str, Any] | None = None) -> ApiAnswer:
        """Make a pod that mounts these claims."""
        where = CORE.format(self.namespace, "pods") + ("?dryRun=All" if dry_run else "")
        return self.client.post(where, body or pod(*claims), check=False)


def pod(*claims: str, name: str = "app", **spec: Any) -> dict[str, Any]:
    volumes = [{"name": f"v{i}", "persistentVolumeClaim": {"claimName": c}} for i, c in enumerate(claims)]
    mounts = [{"name": f"v{i}", "mountPath": f"/v{i}"} for i in range(len(claims))]
    container = {"name": "app", "image": "app:1", "volumeMounts": mounts}
    return {"metadata": {"name": name}, "spec": {"containers": [container], "volumes": volumes, **spec}}


@pytest.fixture
def place(apiserver: ApiServer, namespace: str) -> Place:
    """A namespace with the pair `orders`, and its administrator."""
    found = Place(apiserver, namespace, apiserver.client())
    found.pair()
    return found


def test_the_api_server_finds_no_fault_in_its_expressions(apiserver: ApiServer) -> None:
    where = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/storagemirror-gate"

    def status() -> dict[str, Any]:
        found: dict[str, Any] = apiserver.client().get(where).value.get("status", {})
        return found

    wait_for("the policy's types to be checked", lambda: "typeChecking" in status(), 30)
    assert status()["typeChecking"] == {}


class TestWhatIsClosed:
    @pytest.mark.parametrize(
        ("closed", "live", "source", "target"),
        [
            ([], "Source", True, True),
            (["Target"], "Source", True, False),
            (["Source", "Target"], "Source", False, False),
            (["Source"], "Target", False, True),
        ],
        ids=["nothing", "the standby's side", "both while a failover decides", "the old side afterwards"],
    )
    def test_only_its_claims_are_refused(
        self, place: Place, closed: list[str], live: str, source: bool, target: bool
    ) -> None:
        place.close(*closed, live=live)
        assert (place.make(SOURCE, dry_run=True).status == 201) == source
        assert (place.make(TARGET, dry_run=True).status == 201) == target
        assert place.make("another", dry_run=True).status == 201
        assert place.make(dry_run=True).status == 201

    def test_a_pair_without_a_status_closes_nothing(self, place: Place) -> None:
        assert [place.make(c, dry_run=True).status for c in (SOURCE, TARGET)] == [201, 201]

    def test_the_message_names_the_pair_the_side_the_claim_the_live_side_and_what_to_do(self, place: Place) -> None:
        place.close("Target")
        said = place.make(TARGET).message
        assert said == (
            f"pods \"app\" is forbidden: {GATE} with binding 'storagemirror-gate' denied request: MirrorPair orders: "
            f"the Target side is closed to new pods (claim {TARGET}): the live side is Source. "
            f"See: kubectl describe mirrorpair orders -n {place.namespace}"
        )

    def test_while_a_failover_decides_the_message_says_so(self, place: Place) -> None:
        place.close("Source", "Target")
        said = place.make(SOURCE).message
        assert f"the Source side is closed to new pods (claim {SOURCE}), as the Source and the Target side both" in said
        assert "while a failover decides: the live side is Source. See: kubectl describe mirrorpair orders" in said

    def test_each_pair_of_a_namespace_closes_its_own(self, place: Place) -> None:
        place.pair("bills", "bills-data", "bills-standby")
        place.close("Target", name="orders")
        place.close("Source", live="Target", name="bills")
        open_ = {c: place.make(c, dry_run=True) for c in (SOURCE, TARGET, "bills-data", "bills-standby")}
        assert {c: a.status == 201 for c, a in open_.items()} == {
            SOURCE: True,
            TARGET: False,
            "bills-data": False,
            "bills-standby": True,
        }
        assert "MirrorPair bills: the Source side" in open_["bills-data"].message
        assert "MirrorPair orders: the Target side" in open_[TARGET].message

    def test_one_closed_claim_among_others_is_enough(self, place: Place) -> None:
        place.close("Target")
        answer = place.make("scratch", SOURCE, TARGET, "more")
        assert (answer.status, f"claim {TARGET})" in answer.message) == (403, True), answer.message

    def test_pods_of_other_namespaces_pass(self, place: Place, apiserver: ApiServer) -> None:
        place.close("Source", "Target")
        elsewhere = replace(place, namespace=apiserver.namespace(f"{place.namespace}-other"))
        assert elsewhere.make(SOURCE, TARGET).status == 201

    def test_a_pod_that_is_there_may_be_changed_and_deleted(self, place: Place) -> None:
        assert place.make(SOURCE, TARGET).status == 201
        place.close("Source", "Target")
        where = CORE.format(place.namespace, "pods") + "/app"
        place.client.merge(where, {"metadata": {"labels": {"a": "b"}}})
        assert place.client.delete(f"{where}?gracePeriodSeconds=0").status == 200


class TestHowTheClaimIsMounted:
    @pytest.fixture(autouse=True)
    def closed(self, place: Place) -> None:
        place.close("Target")

    def refused(self, place: Place, body: dict[str, Any]) -> bool:
        answer = place.make(body=body)
        return answer.status == 403 and GATE in answer.message

    def test_by_an_init_container(self, place: Place) -> None:
        body = pod(TARGET)
        init = {**body["spec"]["containers"][0], "name": "init"}
        body["spec"]["containers"][0]["volumeMounts"] = []
        assert self.refused(place, {**body, "spec": {**body["spec"], "initContainers": [init]}})

    def test_by_no_container_yet(self, place: Place) -> None:
        body = pod(TARGET)
        body["spec"]["containers"][0]["volumeMounts"] = []
        assert self.refused(place, body)

    def test_read_only(self, place: Place) -> None:
        body = pod(TARGET)
        body["spec"]["volumes"][0]["persistentVolumeClaim"]["readOnly"] = True
        body["spec"]["containers"][0]["volumeMounts"][0]["readOnly"] = True
        assert self.refused(place, body)

    def test_among_volumes_of_other_kinds(self, place: Place) -> None:
        body = pod(TARGET)
        body["spec"]["volumes"][:0] = [{"name": "tmp", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}]
        assert self.refused(place, body)

    def test_straight_onto_a_node(self, place: Place) -> None:
        assert self.refused(place, pod(TARGET, nodeName="node-a"))

    def test_volumes_of_other_kinds_alone_pass(self, place: Place) -> None:
        body = pod()
        body["spec"]["volumes"] = [{"name": "tmp", "emptyDir": {}}]
        assert place.make(body=body).status == 201


class TestWhoMakesThePod:
    @pytest.fixture(autouse=True)
    def closed(self, place: Place) -> None:
        place.close("Target")

    def test_the_operator_passes(self, place: Place, apiserver: ApiServer) -> None:
        operator = apiserver.client(apiserver.service_account_token(HOME, RELEASE))
        assert replace(place, client=operator).make(TARGET).status == 201

    @pytest.mark.parametrize(
        "body",
        [
            {"metadata": {"name": "app", "labels": {"app.kubernetes.io/component": "agent"}}},
            {"spec": {"serviceAccountName": RELEASE}},
        ],
        ids=["labelled like an agent", "with a service account named as the operator's"],
    )
    def test_another_does_not_whatever_the_pod_is_called(
        self, place: Place, apiserver: ApiServer, body: dict[str, Any]
    ) -> None:
        apiserver.kubectl("create", "serviceaccount", RELEASE, "-n", place.namespace)
        made = pod(TARGET)
        made["metadata"] |= body.get("metadata", {})
        made["metadata"].setdefault("labels", {})["app.kubernetes.io/name"] = "storagemirror"
        made["spec"] |= body.get("spec", {})
        answer = place.make(body=made)
        assert (answer.status, GATE in answer.message) == (403, True), answer.message

    @pytest.mark.parametrize("user", ["alice", f"system:serviceaccount:elsewhere:{RELEASE}", PROBE])
    def test_no_other_user_passes(self, place: Place, apiserver: ApiServer, user: str) -> None:
        apiserver.kubectl(
            *("create", "rolebinding", "makes-pods", "--clusterrole=storagemirror:probe", f"--user={user}"),
            *("-n", place.namespace),
        )
        somebody = replace(place, client=apiserver.client().acting_as(user))
        wait_for("the right to make pods", lambda: somebody.make(SOURCE, dry_run=True).status == 201, 10)
        answer = somebody.make(TARGET)
        assert (answer.status, GATE in answer.message) == (403, True), answer.message

    @pytest.mark.parametrize("kind", ["ReplicaSet", "StatefulSet"])
    def test_no_controller_passes_and_its_events_tell_why(self, place: Place, kind: str) -> None:
        labels = {"app": "standby"}
        template = {"metadata": {"labels": labels}, "spec": pod(TARGET)["spec"]}
        spec: dict[str, Any] = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        spec |= {"serviceName": "standby"} if kind == "StatefulSet" else {}
        place.client.post(
            APPS.format(place.namespace, f"{kind.lower()}s"), {"metadata": {"name": "standby"}, "spec": spec}
        )

        def told() -> list[str]:
            events = place.client.get(CORE.format(place.namespace, "events")).value["items"]
            return [e["message"] for e in events if e["reason"] == "FailedCreate" and GATE in e["message"]]

        wait_for("the controller to be refused", lambda: bool(told()), 20)
        assert "the live side is Source" in told()[0]
        assert place.client.get(CORE.format(place.namespace, "pods")).value["items"] == []


PROBE_POD: dict[str, Any] = {
    "metadata": {"name": "storagemirror-gate-probe"},
    "spec": {
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "probe",
                "image": "storagemirror:test",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": TARGET}}],
    },
}


class TestTheProbe:
    """As the operator tries it: with its own rights, in the name of the probe's account, and as a dry run."""

    @pytest.fixture
    def probe(self, place: Place, apiserver: ApiServer) -> Place:
        operator = apiserver.client(apiserver.service_account_token(HOME, RELEASE))
        return replace(place, client=operator.acting_as(PROBE))

    @pytest.mark.parametrize("level", ["privileged", "restricted"])
    def test_it_is_refused_by_name_where_the_side_is_closed_and_else_admitted(
        self, place: Place, probe: Place, level: str
    ) -> None:
        place.server.kubectl("label", "namespace", place.namespace, f"pod-security.kubernetes.io/enforce={level}")
        assert probe.make(body=PROBE_POD, dry_run=True).status == 201
        place.close("Source", "Target")
        answer = probe.make(body=PROBE_POD, dry_run=True)
        assert (answer.status, "storagemirror-gate" in answer.message) == (403, True), answer.message
        assert place.client.get(CORE.format(place.namespace, "pods")).value["items"] == []

    def test_where_the_gate_is_taken_away_it_is_admitted(self, place: Place, probe: Place) -> None:
        place.close("Target")
        binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/storagemirror-gate"
        kept = place.client.get(binding).value
        place.client.delete(binding)
        try:
            place.until(lambda: probe.make(body=PROBE_POD, dry_run=True).status == 201, "the gate is gone")
        finally:
            again = {"metadata": {"name": kept["metadata"]["name"]}, "spec": kept["spec"]}
            place.client.post(binding.rsplit("/", 1)[0], again)
        place.until(lambda: probe.make(body=PROBE_POD, dry_run=True).status == 403, "the gate is back")

    @pytest.mark.parametrize("user", ["admin", f"system:serviceaccount:{HOME}:default", OPERATOR])
    def test_the_operator_may_speak_for_nobody_else(self, place: Place, apiserver: ApiServer, user: str) -> None:
        operator = apiserver.client(apiserver.service_account_token(HOME, RELEASE))
        answer = replace(place, client=operator.acting_as(user)).make(SOURCE, dry_run=True)
        assert (answer.status, "cannot impersonate" in answer.message) == (403, True), answer.message

    def test_the_probes_account_can_only_make_pods(self, probe: Place) -> None:
        answers = [
            probe.client.get(CORE.format(probe.namespace, "pods"), check=False),
            probe.client.delete(CORE.format(probe.namespace, "pods") + "/app", check=False),
            probe.client.get(CORE.format(probe.namespace, "secrets"), check=False),
        ]
        assert [a.status for a in answers] == [403, 403, 403]


def test_it_turns_within_a_second_of_the_status(place: Place) -> None:
    took: dict[str, list[float]] = {"closes": [], "opens": []}
    for _ in range(10):
        for word, sides in (("closes", ["Target"]), ("opens", [])):
            place.status(closedSides=sides)
            took[word].append(place.until_admits(TARGET, not sides))
    for word, times in took.items():
        print(f"the gate {word}: median {statistics.median(times) * 1e3:.0f} ms, most {max(times) * 1e3:.0f} ms")
    assert max(took["closes"] + took["opens"]) < 1.0
