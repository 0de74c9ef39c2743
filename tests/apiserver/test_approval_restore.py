"""Approval of a Restore: moving the application home needs the verb `approve`, by whichever way it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.command import wait_for
from tests.support.api_client import ApiAnswer, ApiClient
from tests.support.apiserver import ApiServer
from tests.support.approval import approving_server, standing_user
from tests.support.chart import HOME, RELEASE
from tests.support.manifests import elsewhere, endpoint, failover, restore

pytestmark = pytest.mark.apiserver

POLICY = "ValidatingAdmissionPolicy 'storagemirror-approve-restore'"
AUTOMATIC = "cutOver: Automatic (the default)"


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server of its own with the chart's policies and roles."""
    with approving_server(tmp_path_factory.mktemp("approval")) as server:
        yield server


@pytest.fixture
def editor(apiserver: ApiServer, namespace: str) -> ApiClient:
    """Who may edit the namespace, and approve nothing: `edit-of-<namespace>`."""
    return standing_user(apiserver, namespace, "edit")


@pytest.fixture
def approver(apiserver: ApiServer, namespace: str) -> ApiClient:
    """Who may approve: `admin-of-<namespace>`."""
    return standing_user(apiserver, namespace, "admin")


def make(client: ApiClient, namespace: str, body: dict[str, Any]) -> ApiAnswer:
    return client.post(endpoint(namespace, body) + "?fieldValidation=Strict", body, check=False)


def change(client: ApiClient, namespace: str, spec: dict[str, Any], name: str = "home") -> ApiAnswer:
    return client.merge(f"{endpoint(namespace, restore())}/{name}", {"spec": spec}, check=False)


def refused(answer: ApiAnswer) -> bool:
    """By the policy, and for lack of the verb."""
    return (answer.status, POLICY in answer.message, 'needs the verb "approve"' in answer.message) == (403, True, True)


def yes(client: str, namespace: str) -> dict[str, Any]:
    return {"approved": True, "approvedBy": f"{client}-of-{namespace}"}


HOMEWARD: dict[str, dict[str, Any]] = {
    "said": {"cutOver": "Automatic"},
    "left out": {},
    "null": {"cutOver": None},
    "beside a null destination": {"to": None},
}


class TestWhoMayEdit:
    def test_asks_for_one_that_waits_and_withdraws_it(self, editor: ApiClient, namespace: str) -> None:
        answer = make(editor, namespace, restore(cutOver="Manual"))
        assert answer.status == 201, answer.message
        assert answer.value["spec"]["approved"] is False
        assert editor.delete(f"{endpoint(namespace, restore())}/home").status == 200

    @pytest.mark.parametrize("spec", HOMEWARD.values(), ids=HOMEWARD.keys())
    def test_does_not_ask_for_one_that_moves_by_itself(
        self, editor: ApiClient, namespace: str, spec: dict[str, Any]
    ) -> None:
        answer = make(editor, namespace, restore(**spec))
        assert refused(answer), answer.message

    def test_is_told_what_to_do_instead(self, editor: ApiClient, namespace: str) -> None:
        said = make(editor, namespace, restore()).message
        assert said == (
            f"restores.storagemirror.io \"home\" is forbidden: {POLICY} with binding 'storagemirror-approve-restore' "
            f"denied request: Restore home: edit-of-{namespace} may not set {AUTOMATIC}: this needs the verb "
            f'"approve" on failovers in namespace {namespace} (ClusterRole storagemirror:approve, part of admin). '
            "Set cutOver: Manual, and let somebody who has it set approved and approvedBy"
        )

    @pytest.mark.parametrize("spec", HOMEWARD.values(), ids=HOMEWARD.keys())
    def test_does_not_let_one_that_waits_move_by_itself(
        self, editor: ApiClient, namespace: str, spec: dict[str, Any]
    ) -> None:
        assert make(editor, namespace, restore(cutOver="Manual")).status == 201
        # A merge that says null takes the field away, and the server fills in the default.
        answer = change(editor, namespace, spec)
        waits = "cutOver" not in spec
        assert answer.status == 200 if waits else refused(answer), answer.message
        found = editor.get(f"{endpoint(namespace, restore())}/home").value["spec"]["cutOver"]
        assert found == "Manual"

    def test_does_not_replace_it_by_one_that_says_nothing(self, editor: ApiClient, namespace: str) -> None:
        made = make(editor, namespace, restore(cutOver="Manual")).value
        del made["spec"]["cutOver"]
        answer = editor.put(f"{endpoint(namespace, made)}/home", made, check=False)
        assert refused(answer), answer.message

    def test_does_not_apply_it_without_the_field(self, apiserver: ApiServer, editor: ApiClient, namespace: str) -> None:
        as_editor = (f"--as=edit-of-{namespace}", "apply", "--server-side", "-n", namespace, "-f", "-")
        assert apiserver.kubectl(*as_editor, stdin=json.dumps(restore(cutOver="Manual"))).status == 0
        answer = apiserver.kubectl(*as_editor, stdin=json.dumps(restore()), check=False)
        assert (answer.status, AUTOMATIC in answer.text) == (1, True), answer.text

    @pytest.mark.parametrize("spec", [{"approved": True, "approvedBy": "ME"}, {"approvedBy": "ME"}])
    def test_does_not_approve_when_asking_or_later(
        self, editor: ApiClient, namespace: str, spec: dict[str, Any]
    ) -> None:
        signed = {**spec, "approvedBy": f"edit-of-{namespace}"}
        answer = make(editor, namespace, restore("at-once", cutOver="Manual", **signed))
        assert refused(answer), answer.message
        assert make(editor, namespace, restore(cutOver="Manual")).status == 201
        answer = change(editor, namespace, signed)
        assert refused(answer), answer.message
        assert f"may not set {', '.join(spec)}: this needs" in answer.message

    def test_lets_one_wait_that_would_have_moved_by_itself(
        self, apiserver: ApiServer, editor: ApiClient, namespace: str
    ) -> None:
        assert make(apiserver.client(), namespace, restore()).status == 201
        assert change(editor, namespace, {"cutOver": "Manual"}).status == 200
        assert refused(change(editor, namespace, {"cutOver": "Automatic"}))

    def test_labels_one_that_another_let_move_or_approved(
        self, apiserver: ApiServer, editor: ApiClient, namespace: str
    ) -> None:
        for body in (restore("alone"), restore("asked", cutOver="Manual", approved=True, approvedBy="admin")):
            assert make(apiserver.client(), namespace, body).status == 201
            editor.merge(
                f"{endpoint(namespace, body)}/{body['metadata']['name']}", {"metadata": {"labels": {"a": "b"}}}
            )

    @pytest.mark.parametrize("spec", [{}, {"cutOver": "Automatic"}, {"cutOver": "Manual"}, {"fromEpoch": 2}])
    def test_copies_elsewhere_without_asking_anybody(
        self, editor: ApiClient, namespace: str, spec: dict[str, Any]
    ) -> None:
        answer = make(editor, namespace, elsewhere(**spec))
        assert answer.status == 201, answer.message

    def test_does_not_turn_a_copy_elsewhere_into_a_way_home(self, editor: ApiClient, namespace: str) -> None:
        made = make(editor, namespace, elsewhere(fromEpoch=2)).value
        del made["spec"]["to"]
        answer = editor.put(f"{endpoint(namespace, made)}/seen", made, check=False)
        assert answer.status in {403, 422}, answer.message
        assert "to" in editor.get(f"{endpoint(namespace, made)}/seen").value["spec"]

    def test_does_not_write_how_one_goes(self, editor: ApiClient, namespace: str) -> None:
        made = make(editor, namespace, restore(cutOver="Manual")).value
        status = {**made, "status": {"phase": "Completed"}}
        answer = editor.put(f"{endpoint(namespace, made)}/home/status", status, check=False)
        assert (answer.status, "cannot update resource" in answer.message) == (403, True), answer.message


class TestWhoMayApprove:
    @pytest.mark.parametrize("spec", HOMEWARD.values(), ids=HOMEWARD.keys())
    def test_asks_for_one_that_moves_by_itself(self, approver: ApiClient, namespace: str, spec: dict[str, Any]) -> None:
        answer = make(approver, namespace, restore(**spec))
        assert (answer.status, answer.value["spec"].get("cutOver")) == (201, "Automatic"), answer.message

    def test_approves_one_that_somebody_asked_for(self, editor: ApiClient, approver: ApiClient, namespace: str) -> None:
        assert make(editor, namespace, restore(cutOver="Manual")).status == 201
        answer = change(approver, namespace, yes("admin", namespace))
        assert answer.status == 200, answer.message

    def test_lets_one_that_waits_move_by_itself(self, approver: ApiClient, namespace: str) -> None:
        assert make(approver, namespace, restore(cutOver="Manual")).status == 201
        assert change(approver, namespace, {"cutOver": "Automatic"}).status == 200

    @pytest.mark.parametrize("by", ["admin", "somebody", "system:masters"])
    def test_only_by_his_own_name(self, approver: ApiClient, namespace: str, by: str) -> None:
        expected = f"approvedBy must name who approves: expected admin-of-{namespace}, got {by}"
        answer = make(approver, namespace, restore(cutOver="Manual", approved=True, approvedBy=by))
        assert (answer.status, expected in answer.message) == (422, True), answer.message
        make(approver, namespace, restore(cutOver="Manual"))
        answer = change(approver, namespace, {"approved": True, "approvedBy": by})
        assert (answer.status, expected in answer.message) == (422, True), answer.message

    def test_not_in_another_namespace(self, apiserver: ApiServer, approver: ApiClient, namespace: str) -> None:
        other = apiserver.namespace(f"{namespace}-other")
        name = f"admin-of-{namespace}"
        apiserver.kubectl("create", "rolebinding", "asks", "--clusterrole=edit", f"--user={name}", "-n", other)
        waits = restore(cutOver="Manual")
        wait_for("the right to ask", lambda: make(approver, other, waits).status in {201, 409}, 10)
        assert refused(change(approver, other, yes("admin", namespace)))
        assert refused(make(approver, other, restore("another")))

    def test_not_with_the_verb_on_one_failover_of_the_same_name(
        self, apiserver: ApiServer, editor: ApiClient, namespace: str
    ) -> None:
        name = f"edit-of-{namespace}"
        verb = ("--verb=approve", "--resource=failovers.storagemirror.io", "--resource-name=home")
        apiserver.kubectl("create", "role", "approves", *verb, "-n", namespace)
        apiserver.kubectl("create", "rolebinding", "approves", "--role=approves", f"--user={name}", "-n", namespace)
        given = yes("edit", namespace)
        assert make(editor, namespace, failover("home")).status == 201
        where = f"{endpoint(namespace, failover())}/home"
        wait_for("the verb", lambda: editor.merge(where, {"spec": given}, check=False).status == 200, 10)
        assert make(editor, namespace, restore(cutOver="Manual")).status == 201
        assert refused(change(editor, namespace, given))

    def test_with_the_verb_alone_in_the_namespace(
        self, apiserver: ApiServer, editor: ApiClient, namespace: str
    ) -> None:
        words = ("--clusterrole=storagemirror:approve", f"--user=edit-of-{namespace}", "-n", namespace)
        apiserver.kubectl("create", "rolebinding", "approves", *words)
        wait_for("the verb", lambda: make(editor, namespace, restore()).status == 201, 10)


class TestTheOperator:
    @pytest.fixture
    def operator(self, apiserver: ApiServer) -> ApiClient:
        return apiserver.client(apiserver.service_account_token(HOME, RELEASE))

    @pytest.mark.parametrize(
        "body", [restore(), restore(cutOver="Manual", approved=True, approvedBy="admin"), elsewhere()]
    )
    def test_writes_how_one_goes_whoever_approved_it(
        self, apiserver: ApiServer, operator: ApiClient, namespace: str, body: dict[str, Any]
    ) -> None:
        made = make(apiserver.client(), namespace, body).value
        where = f"{endpoint(namespace, made)}/{made['metadata']['name']}/status"
        written = operator.put(where, {**made, "status": {"phase": "Mirroring"}})
        assert written.value["status"]["phase"] == "Mirroring"

    @pytest.mark.parametrize("body", [restore(), restore(cutOver="Manual"), elsewhere()])
    def test_makes_none(self, operator: ApiClient, namespace: str, body: dict[str, Any]) -> None:
        answer = make(operator, namespace, body)
        assert (answer.status, "cannot create resource" in answer.message) == (403, True), answer.message


def test_who_may_view_reads_them_and_asks_for_nothing(apiserver: ApiServer, namespace: str) -> None:
    viewer = standing_user(apiserver, namespace, "view")
    assert make(apiserver.client(), namespace, restore()).status == 201
    assert viewer.get(f"{endpoint(namespace, restore())}/home").status == 200
    for body in (restore("other", cutOver="Manual"), elsewhere()):
        answer = make(viewer, namespace, body)
        assert (answer.status, "cannot create resource" in answer.message) == (403, True), answer.message


def test_where_the_policy_is_switched_off_who_may_edit_moves_it(apiserver: ApiServer, namespace: str) -> None:
    """And that it is the policy that holds him back, not something else."""
    binding = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/storagemirror-approve-restore"
    editor = standing_user(apiserver, namespace, "edit")
    kept = apiserver.client().get(binding).value
    apiserver.client().delete(binding)
    try:
        wait_for("the policy to be gone", lambda: make(editor, namespace, restore()).status in {201, 409}, 10)
    finally:
        again = {**kept, "metadata": {"name": kept["metadata"]["name"], "labels": kept["metadata"]["labels"]}}
        apiserver.client().post(binding.rsplit("/", 1)[0], again)
    wait_for("the policy", lambda: refused(make(editor, namespace, restore("another"))), 10)
