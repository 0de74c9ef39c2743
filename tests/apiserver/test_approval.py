"""Approval: who may edit a namespace may ask for a failover; only who has the verb `approve` may say yes to one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from storagemirror.api.model import API_VERSION
from tests.cluster.command import wait_for
from tests.support.api_client import ApiAnswer, ApiClient
from tests.support.apiserver import ApiServer
from tests.support.approval import POLICIES, approving_server, faults, standing_user
from tests.support.chart import HOME, RELEASE
from tests.support.manifests import failover, pair, volume
from tests.support.pairs import PAIRS

pytestmark = pytest.mark.apiserver

FAILOVERS = f"/apis/{API_VERSION}/namespaces/{{}}/failovers"
POLICY = "ValidatingAdmissionPolicy 'storagemirror-approve'"


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own with the chart's policies and roles."""
    with approving_server(tmp_path_factory.mktemp("approval")) as server:
        yield server


def make(client: ApiClient, namespace: str, body: dict[str, Any]) -> ApiAnswer:
    return client.post(FAILOVERS.format(namespace) + "?fieldValidation=Strict", body, check=False)


def change(client: ApiClient, namespace: str, spec: dict[str, Any], name: str = "now") -> ApiAnswer:
    return client.merge(f"{FAILOVERS.format(namespace)}/{name}", {"spec": spec}, check=False)


def test_the_api_server_finds_no_fault_in_its_expressions(apiserver: ApiServer) -> None:
    assert faults(apiserver) == {name: {} for name in POLICIES}


DECISIONS: dict[str, dict[str, Any]] = {
    "an approval": {"approved": True, "approvedBy": "ME"},
    "a name alone": {"approvedBy": "ME"},
    "a loss": {"acceptLoss": {"seconds": 60}},
    "a loss of nothing": {"acceptLoss": {}},
    "a copy at no point": {"acceptLoss": {"noPoint": True}},
    "the risk of two writers": {"acceptSplitBrain": True},
}


def signed(spec: dict[str, Any], name: str) -> dict[str, Any]:
    """`spec` with the user's own name in the place of ME."""
    return {k: name if v == "ME" else v for k, v in spec.items()}


class TestWhoMayEdit:
    @pytest.fixture
    def name(self, namespace: str) -> str:
        return f"edit-of-{namespace}"

    @pytest.fixture
    def editor(self, apiserver: ApiServer, namespace: str) -> ApiClient:
        return standing_user(apiserver, namespace, "edit")

    def test_asks_for_a_failover_and_withdraws_it(self, editor: ApiClient, namespace: str) -> None:
        answer = make(editor, namespace, failover(mode="Unplanned"))
        assert answer.status == 201, answer.message
        assert answer.value["spec"]["approved"] is False
        assert editor.delete(f"{FAILOVERS.format(namespace)}/now").status == 200

    def test_may_write_out_that_he_decides_nothing(self, editor: ApiClient, namespace: str) -> None:
        assert make(editor, namespace, failover(approved=False, acceptSplitBrain=False)).status == 201

    @pytest.mark.parametrize("spec", DECISIONS.values(), ids=DECISIONS.keys())
    def test_does_not_decide_when_asking(
        self, editor: ApiClient, namespace: str, name: str, spec: dict[str, Any]
    ) -> None:
        answer = make(editor, namespace, failover(**signed(spec, name)))
        assert (answer.status, POLICY in answer.message) == (403, True), answer.message
        assert f"{name} may not set {', '.join(spec)}: this needs the verb" in answer.message

    @pytest.mark.parametrize("spec", DECISIONS.values(), ids=DECISIONS.keys())
    def test_does_not_decide_later(self, editor: ApiClient, namespace: str, name: str, spec: dict[str, Any]) -> None:
        make(editor, namespace, failover())
        answer = change(editor, namespace, signed(spec, name))
        assert (answer.status, POLICY in answer.message) == (403, True), answer.message

    def test_does_not_widen_what_was_accepted(self, apiserver: ApiServer, editor: ApiClient, namespace: str) -> None:
        make(apiserver.client(), namespace, failover(acceptLoss={"seconds": 10, "bytes": 5}))
        for wider in ({"seconds": 60}, {"bytes": None}, {"unknown": True}, {"noPoint": True}):
            answer = change(editor, namespace, {"acceptLoss": wider})
            assert (answer.status, "may not set acceptLoss" in answer.message) == (403, True), answer.message

    def test_takes_back_what_was_accepted(self, apiserver: ApiServer, editor: ApiClient, namespace: str) -> None:
        make(apiserver.client(), namespace, failover(acceptLoss={"seconds": 10}, acceptSplitBrain=True))
        answer = change(editor, namespace, {"acceptLoss": None, "acceptSplitBrain": False})
        assert answer.status == 200, answer.message

    def test_labels_one_that_another_approved(self, apiserver: ApiServer, editor: ApiClient, namespace: str) -> None:
        approved = failover(approved=True, approvedBy="admin", acceptLoss={"seconds": 1}, acceptSplitBrain=True)
        answer = make(apiserver.client(), namespace, approved)
        assert answer.status == 201, answer.message
        editor.merge(f"{FAILOVERS.format(namespace)}/now", {"metadata": {"labels": {"team": "shop"}}})


class TestWhoMayApprove:
    @pytest.fixture
    def name(self, namespace: str) -> str:
        return f"admin-of-{namespace}"

    @pytest.fixture
    def approver(self, apiserver: ApiServer, namespace: str) -> ApiClient:
        return standing_user(apiserver, namespace, "admin")

    @pytest.mark.parametrize("spec", DECISIONS.values(), ids=DECISIONS.keys())
    def test_decides_when_asking_and_later(
        self, approver: ApiClient, namespace: str, name: str, spec: dict[str, Any]
    ) -> None:
        answer = make(approver, namespace, failover(**signed(spec, name)))
        assert answer.status == 201, answer.message
        make(approver, namespace, failover("later"))
        answer = change(approver, namespace, signed(spec, name), "later")
        assert answer.status == 200, answer.message

    @pytest.mark.parametrize("by", ["admin", "somebody", "system:masters"])
    def test_only_by_his_own_name(self, approver: ApiClient, namespace: str, name: str, by: str) -> None:
        answer = make(approver, namespace, failover(approved=True, approvedBy=by))
        assert (answer.status, f"expected {name}, got {by}" in answer.message) == (422, True), answer.message
        make(approver, namespace, failover())
        assert change(approver, namespace, {"approved": True, "approvedBy": by}).status == 422

    def test_not_without_a_name(self, approver: ApiClient, namespace: str) -> None:
        answer = make(approver, namespace, failover(approved=True))
        assert (answer.status, "approvedBy must name who approves" in answer.message) == (422, True), answer.message

    def test_does_not_sign_for_one_who_signed_before(
        self, apiserver: ApiServer, approver: ApiClient, namespace: str
    ) -> None:
        make(apiserver.client(), namespace, failover(approvedBy="admin"))
        answer = change(approver, namespace, {"approved": True})
        assert (answer.status, "got admin" in answer.message) == (422, True), answer.message

    def test_not_in_another_namespace(self, apiserver: ApiServer, approver: ApiClient, namespace: str) -> None:
        elsewhere = apiserver.namespace(f"{namespace}-other")
        name = f"admin-of-{namespace}"
        apiserver.kubectl("create", "rolebinding", "asks", "--clusterrole=edit", f"--user={name}", "-n", elsewhere)
        wait_for("the right to ask", lambda: make(approver, elsewhere, failover()).status in {201, 409}, 10)
        answer = change(approver, elsewhere, {"approved": True, "approvedBy": name})
        assert (answer.status, POLICY in answer.message) == (403, True), answer.message

    def test_with_the_verb_alone_on_one_failover_that_one_only(self, apiserver: ApiServer, namespace: str) -> None:
        editor = standing_user(apiserver, namespace, "edit")
        name = f"edit-of-{namespace}"
        verb = ("--verb=approve", "--resource=failovers.storagemirror.io", "--resource-name=now")
        apiserver.kubectl("create", "role", "approves", *verb, "-n", namespace)
        apiserver.kubectl("create", "rolebinding", "approves", "--role=approves", f"--user={name}", "-n", namespace)
        for named in ("now", "another"):
            assert make(editor, namespace, failover(named)).status == 201
        yes = {"approved": True, "approvedBy": name}
        wait_for("the verb", lambda: change(editor, namespace, yes).status == 200, 10)
        assert change(editor, namespace, yes, "another").status == 403

    def test_the_whole_clusters_administrator_does(self, apiserver: ApiServer, namespace: str) -> None:
        name = f"root-of-{namespace}"
        apiserver.kubectl("create", "clusterrolebinding", name, "--clusterrole=cluster-admin", f"--user={name}")
        root = apiserver.client().acting_as(name)
        body = failover(approved=True, approvedBy=name, acceptLoss={"unknown": True}, acceptSplitBrain=True)
        wait_for("the right", lambda: make(root, namespace, body).status == 201, 10)


class TestTheOperator:
    @pytest.fixture
    def operator(self, apiserver: ApiServer) -> ApiClient:
        return apiserver.client(apiserver.service_account_token(HOME, RELEASE))

    def test_makes_a_failover_and_writes_how_it_goes(self, operator: ApiClient, namespace: str) -> None:
        body = failover("orders-1", mode="Unplanned")
        body["metadata"]["labels"] = {"storagemirror.io/automatic": "true"}
        answer = make(operator, namespace, body)
        assert answer.status == 201, answer.message
        status = {"phase": "AwaitingApproval", "reason": "AwaitingApproval", "automatic": True}
        written = operator.put(f"{FAILOVERS.format(namespace)}/orders-1/status", {**answer.value, "status": status})
        assert written.value["status"] == status

    def test_writes_how_one_goes_that_a_person_approved(
        self, apiserver: ApiServer, operator: ApiClient, namespace: str
    ) -> None:
        made = make(apiserver.client(), namespace, failover(approved=True, approvedBy="admin")).value
        written = operator.put(f"{FAILOVERS.format(namespace)}/now/status", {**made, "status": {"phase": "Fencing"}})
        assert written.value["status"]["phase"] == "Fencing"

    def test_decides_nothing_itself(self, operator: ApiClient, namespace: str) -> None:
        answer = make(operator, namespace, failover(acceptSplitBrain=True))
        assert (answer.status, POLICY in answer.message) == (403, True), answer.message


class TestAStandingYes:
    """`approval: Automatic` and `Attested` in a pair approve failovers that nobody has thought of yet."""

    @pytest.mark.parametrize("given", [{"approval": "Automatic"}, {"sufficientProof": ["Proven", "Attested"]}])
    def test_who_may_only_edit_cannot_give_it_and_may_change_all_else(
        self, apiserver: ApiServer, namespace: str, given: dict[str, Any]
    ) -> None:
        editor = standing_user(apiserver, namespace, "edit")
        pairs = PAIRS.format(namespace)
        refused = editor.post(pairs, pair(volume("data", "a", "b"), failover=given), check=False)
        assert (refused.status, "standing yes" in refused.message) == (403, True), refused.message
        assert editor.post(pairs, pair(volume("data", "a", "b")), check=False).status == 201
        refused = editor.merge(f"{pairs}/orders", {"spec": {"failover": given}}, check=False)
        assert (refused.status, "standing yes" in refused.message) == (403, True), refused.message
        assert editor.merge(f"{pairs}/orders", {"spec": {"failover": {"maxLag": "1m"}}}, check=False).status == 200

    def test_who_may_approve_gives_it_and_others_may_edit_the_pair_then(
        self, apiserver: ApiServer, namespace: str
    ) -> None:
        given = {"approval": "Automatic", "sufficientProof": ["Proven", "Attested"]}
        admin, editor = standing_user(apiserver, namespace, "admin"), standing_user(apiserver, namespace, "edit")
        pairs = PAIRS.format(namespace)
        assert admin.post(pairs, pair(volume("data", "a", "b"), failover=given), check=False).status == 201
        assert editor.merge(f"{pairs}/orders", {"spec": {"paused": True}}, check=False).status == 200
        taken = {"failover": {"approval": "Manual", "sufficientProof": ["Proven"]}}
        assert editor.merge(f"{pairs}/orders", {"spec": taken}, check=False).status == 200
