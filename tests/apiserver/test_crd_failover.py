"""What the API server itself says to a Failover: it runs once, and what came of it stays."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.api.operation import ENDED, OperationPhase
from tests.cluster.command import wait_for
from tests.support.apiserver import ApiServer
from tests.support.manifests import change, create, created, endpoint, failover, publish

pytestmark = pytest.mark.apiserver

AT = "2026-01-02T03:04:05Z"
FINAL = sorted(ENDED)


def test_one_of_two_lines_is_planned_and_not_approved(apiserver: ApiServer, namespace: str) -> None:
    assert created(apiserver, namespace, failover())["spec"] == {
        "pairName": "orders",
        "fromEpoch": 1,
        "mode": "Planned",
        "approved": False,
        "acceptSplitBrain": False,
    }


GOOD = {
    "one that is approved at once": failover(approved=True, approvedBy="alice"),
    "an unplanned one": failover(mode="Unplanned"),
    "a loss of so many seconds": failover(acceptLoss={"seconds": 0}),
    "a loss that is not known": failover(acceptLoss={"unknown": True, "bytes": 1000}),
    "a copy at no point": failover(acceptLoss={"noPoint": True}),
    "the risk of two writers": failover(acceptSplitBrain=True),
    "a late epoch": failover(fromEpoch=2**40),
    "a name with dots": failover("orders.2026.01"),
    "a name of 253 characters": failover("n" * 253),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_it_takes(apiserver: ApiServer, namespace: str, body: dict[str, Any]) -> None:
    created(apiserver, namespace, body)


BAD = {
    "no pair": (failover(pairName=None), "spec.pairName: Required value"),
    "a pair's name that none can have": (failover(pairName="shop/orders"), "spec.pairName"),
    "no epoch": (failover(fromEpoch=None), "spec.fromEpoch: Required value"),
    "an epoch before the first": (failover(fromEpoch=0), "should be greater than or equal to 1"),
    "a mode that does not exist": (failover(mode="Forced"), 'supported values: "Planned", "Unplanned"'),
    "an approval by nobody": (
        failover(approved=True),
        "spec.approvedBy: Invalid value: approvedBy must name who approves",
    ),
    "an approval by an empty name": (failover(approved=True, approvedBy=""), "approvedBy must name who approves"),
    "a negative loss": (failover(acceptLoss={"seconds": -1}), "should be greater than or equal to 0"),
    "a copy at no point, not by true": (failover(acceptLoss={"noPoint": "yes"}), "spec.acceptLoss.noPoint"),
    "a field that does not exist": (failover(force=True), 'unknown field "spec.force"'),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_it_refuses(apiserver: ApiServer, namespace: str, body: dict[str, Any], message: str) -> None:
    body["spec"] = {k: v for k, v in body["spec"].items() if v is not None}
    answer = create(apiserver, namespace, body)
    assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message


class TestASpecThatChanges:
    @pytest.fixture
    def stored(self, apiserver: ApiServer, namespace: str) -> dict[str, Any]:
        return created(apiserver, namespace, failover())

    @pytest.mark.parametrize("given", [{"pairName": "bills"}, {"fromEpoch": 2}, {"mode": "Unplanned"}])
    def test_what_it_is_for_stays(self, apiserver: ApiServer, stored: dict[str, Any], given: dict[str, Any]) -> None:
        stored["spec"] |= given
        answer = change(apiserver, stored)
        assert (answer.status, "a Failover runs once; make another one" in answer.message) == (422, True), (
            answer.message
        )

    def test_an_approval_is_given_later(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored["spec"] |= {"approved": True, "approvedBy": "alice", "acceptLoss": {"seconds": 60}}
        found = change(apiserver, stored)
        assert (found.status, found.value["metadata"]["generation"]) == (200, 2), found.message

    def test_an_approval_is_not_taken_back(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored["spec"] |= {"approved": True, "approvedBy": "alice"}
        stored = change(apiserver, stored).value
        for given, message in (
            ({"approved": False}, "an approval cannot be taken back: delete the Failover to stop it"),
            ({"approved": None}, "an approval cannot be taken back"),
            ({"approvedBy": "bob"}, "who has approved stays"),
            ({"approvedBy": None}, "who has approved stays"),
        ):
            spec = {k: v for k, v in {**stored["spec"], **given}.items() if v is not None}
            answer = change(apiserver, {**stored, "spec": spec})
            assert (answer.status, message in answer.message) == (422, True), answer.message

    def test_what_was_accepted_may_change_after_the_approval(
        self, apiserver: ApiServer, stored: dict[str, Any]
    ) -> None:
        stored["spec"] |= {"approved": True, "approvedBy": "alice"}
        stored = change(apiserver, stored).value
        stored["spec"]["acceptSplitBrain"] = True
        assert change(apiserver, stored).status == 200


DONE: dict[str, Any] = {
    "attempt": 1,
    "phase": "Completed",
    "reason": "FailoverCompleted",
    "message": "orders-standby is live.",
    "startedAt": AT,
    "endedAt": AT,
    "approvedBy": "alice",
    "lagSeconds": 2,
    "rpoSeconds": 2,
    "rtoSeconds": 41,
    "epoch": 2,
    "automatic": True,
    "proofs": [{"uid": "u", "name": "orders-0", "grade": "Attested", "evidence": "node deleted", "at": AT}],
    "timeline": [{"phase": "Fencing", "at": AT}],
}


class TestStatus:
    @pytest.fixture
    def stored(self, apiserver: ApiServer, namespace: str) -> dict[str, Any]:
        return created(apiserver, namespace, failover())

    def end(self, server: ApiServer, stored: dict[str, Any], phase: str = "Completed") -> dict[str, Any]:
        answer = publish(server, stored, {**DONE, "phase": phase})
        assert answer.status == 200, answer.message
        found: dict[str, Any] = answer.value
        return found

    def test_it_tells_what_came_of_it(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        assert self.end(apiserver, stored)["status"] == DONE

    def test_nobody_writes_it_with_the_spec(self, apiserver: ApiServer, namespace: str) -> None:
        assert "status" not in created(apiserver, namespace, {**failover("other"), "status": {"phase": "Completed"}})

    @pytest.mark.parametrize("phase", sorted(set(OperationPhase) - ENDED))
    def test_what_goes_on_may_go_anywhere(self, apiserver: ApiServer, stored: dict[str, Any], phase: str) -> None:
        stored = publish(apiserver, stored, {"phase": phase}).value
        for other in ("RolledBack", "Verifying"):
            assert apiserver.client().get(f"{_path(stored)}").value["status"]["phase"] == phase
            dry = apiserver.client().put(
                f"{_path(stored)}/status?dryRun=All", {**stored, "status": {"phase": other}}, check=False
            )
            assert dry.status == 200, dry.message

    @pytest.mark.parametrize("phase", FINAL)
    def test_what_has_ended_stays_as_it_ended(self, apiserver: ApiServer, stored: dict[str, Any], phase: str) -> None:
        stored = self.end(apiserver, stored, phase)
        for other in set(OperationPhase) - {phase}:
            answer = publish(apiserver, stored, {**DONE, "phase": other})
            assert (answer.status, "stays as it ended" in answer.message) == (422, True), f"{other}: {answer.message}"

    @pytest.mark.parametrize("phase", FINAL)
    def test_an_end_is_not_taken_away(self, apiserver: ApiServer, stored: dict[str, Any], phase: str) -> None:
        stored = publish(apiserver, stored, {"phase": phase}).value
        without = {k: v for k, v in stored.items() if k != "status"}
        for body in ({**without, "status": {}}, without):
            answer = apiserver.client().put(f"{_path(stored)}/status", body, check=False)
            assert (answer.status, "stays as it ended" in answer.message) == (422, True), answer.message

    def test_more_may_be_told_of_what_has_ended(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored = self.end(apiserver, stored)
        assert publish(apiserver, stored, {**DONE, "message": "more"}).status == 200

    def test_an_old_copy_of_it_does_not_overwrite_a_newer_status(
        self, apiserver: ApiServer, stored: dict[str, Any]
    ) -> None:
        assert publish(apiserver, stored, {"phase": "Fencing"}).status == 200
        assert publish(apiserver, stored, {"phase": "Validating"}).status == 409

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"phase": "Done"}, "Unsupported value"),
            ({"rpoSeconds": -1}, "should be greater than or equal to 0"),
            ({"epoch": 0}, "should be greater than or equal to 1"),
            ({"proofs": DONE["proofs"] * 2}, "Duplicate value"),
            (
                {"proofs": [{**DONE["proofs"][0], "grade": "Hoped"}]},
                'supported values: "Proven", "Attested", "Accepted"',
            ),
            ({"somethingElse": 1}, "unknown field"),
        ],
    )
    def test_it_refuses(
        self, apiserver: ApiServer, stored: dict[str, Any], given: dict[str, Any], message: str
    ) -> None:
        answer = publish(apiserver, stored, {**DONE, **given})
        assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message

    def test_kubectl_get_shows_it_in_one_line(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        self.end(apiserver, stored)
        words = ["get", "fo", "-n", stored["metadata"]["namespace"]]
        head, line = apiserver.kubectl(*words).text.splitlines()
        assert head.split() == ["NAME", "PAIR", "MODE", "PHASE", "RPO", "RTO", "AGE"]
        assert line.split()[:6] == ["now", "orders", "Planned", "Completed", "2", "41"]
        wide = apiserver.kubectl(*words, "-o", "wide").text
        assert [w for w in ("APPROVED BY", "alice", "orders-standby is live.") if w not in wide] == []


def _path(body: dict[str, Any]) -> str:
    return f"{endpoint(body['metadata']['namespace'], body)}/{body['metadata']['name']}"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("failover", ["Makes the copy of a MirrorPair the live side", "once, for one epoch"]),
        ("failover.spec", ["pairName", "fromEpoch", "mode", "approved", "acceptLoss", "acceptSplitBrain"]),
        ("failover.spec.fromEpoch", ["Superseded", "what Git makes again does not run again"]),
        ("failover.spec.acceptSplitBrain", ["two sides write", "right `approve`"]),
        ("failover.spec.acceptLoss.unknown", ["not known"]),
        ("failover.status.rpoSeconds", ["recovery point"]),
        ("failover.status.proofs.grade", ["Attested", "Accepted"]),
    ],
)
def test_kubectl_explain_teaches(apiserver: ApiServer, path: str, words: list[str]) -> None:
    wait_for("kubectl explain", lambda: apiserver.kubectl("explain", "failover", check=False).status == 0, 30)
    text = " ".join(apiserver.kubectl("explain", path).text.split())
    assert [w for w in words if w not in text] == []


def test_it_is_found_by_its_short_name_and_its_category(apiserver: ApiServer, namespace: str) -> None:
    created(apiserver, namespace, failover())
    for word in ("fo", "storagemirror", "failover.storagemirror.io"):
        assert "now" in apiserver.kubectl("get", word, "-n", namespace, "-o", "name").text
