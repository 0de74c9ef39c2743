"""The gate: the API server keeps new pods off the claims of the sides that a pair has closed, whoever makes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.cluster.command import wait_for
from tests.support.apiserver import ApiServer
from tests.support.chart import CRDS, HOME, PROBE, RELEASE, apply, bare_server
from tests.support.gate import GATE, SOURCE, TARGET, Place, pod
from tests.support.pairs import CORE
from tests.support.policies import wait_for_the_gate

pytestmark = pytest.mark.apiserver

APPS = "/apis/apps/v1/namespaces/{}/{}"
CONTROLLERS = "replicaset-controller,statefulset-controller,validatingadmissionpolicy-status-controller"


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own with the chart's gate and rights, and the controllers that make pods."""
    with bare_server(tmp_path_factory.mktemp("gate"), CONTROLLERS) as server:
        server.namespace(HOME)
        server.apply(CRDS)
        apply(server, "serviceaccount", "rbac", "gate")
        wait_for_the_gate(server)
        yield server


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
        ids=["nothing", "the standby's side", "both while one decides", "the old side after a failover"],
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

    def test_on_the_way_home_the_old_side_opens_last_and_the_standby_s_is_closed_again(self, place: Place) -> None:
        """A restore, in the order in which the operator writes it; each with a higher epoch."""
        found = []
        for closed, live in (
            (["Target"], "Source"),
            (["Source", "Target"], "Source"),
            (["Source"], "Target"),
            (["Source", "Target"], "Target"),
            (["Source", "Target"], "Source"),
            (["Target"], "Source"),
        ):
            place.close(*closed, live=live)
            found.append([place.make(c, dry_run=True).status == 201 for c in (SOURCE, TARGET)])
        both = [False, False]
        assert found == [[True, False], both, [False, True], both, both, [True, False]]
        assert "the Target side is closed" in (said := place.make(TARGET).message), said
        assert "the live side is Source" in said

    def test_a_restore_that_is_rolled_back_opens_the_target_alone(self, place: Place) -> None:
        for closed in (["Source"], ["Source", "Target"], ["Source"]):
            place.close(*closed, live="Target")
        assert [place.make(c, dry_run=True).status == 201 for c in (SOURCE, TARGET)] == [False, True]

    def test_while_a_failover_decides_the_message_says_so(self, place: Place) -> None:
        place.close("Source", "Target")
        said = place.make(SOURCE).message
        assert f"the Source side is closed to new pods (claim {SOURCE}), as the Source and the Target side both" in said
        assert "while a failover or a restore decides: the live side is Source. See: kubectl describe" in said

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

    def test_pods_of_namespaces_that_the_cluster_lives_on_pass(self, place: Place, apiserver: ApiServer) -> None:
        accounts = CORE.format("kube-system", "serviceaccounts")
        apiserver.client().post(accounts, {"metadata": {"name": "default"}}, check=False)
        system = replace(place, namespace="kube-system")
        system.pair()
        system.status(closedSides=["Source", "Target"])
        time.sleep(1)
        assert system.make(SOURCE, TARGET, dry_run=True).status == 201

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
