"""What the API server says to the part of a MirrorPair that is for failing over: sides, Services, rules, operation."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.cluster.command import wait_for
from tests.support.apiserver import ApiServer
from tests.support.manifests import change, create, created, pair, publish, sides, workloads

pytestmark = pytest.mark.apiserver

PORT = {"port": 80}


def service(name: str = "orders", **more: Any) -> dict[str, Any]:
    return {"name": name, "ports": [PORT], **more}


def own(name: str = "orders", **more: Any) -> dict[str, Any]:
    return {"name": name, "strategy": "Label", **more}


def with_sides(**spec: Any) -> dict[str, Any]:
    return pair(**{"sides": sides(), **spec})


def test_a_service_of_two_lines_gets_its_defaults(apiserver: ApiServer, namespace: str) -> None:
    (found,) = created(apiserver, namespace, with_sides(services=[service()]))["spec"]["services"]
    assert found == {"name": "orders", "strategy": "Managed", "ports": [{"port": 80, "protocol": "TCP"}]}


def test_what_is_left_out_of_the_rules_is_filled_in(apiserver: ApiServer, namespace: str) -> None:
    spec = created(apiserver, namespace, with_sides(failover={"approval": "Automatic"}, monitoring={"missed": 9}))[
        "spec"
    ]
    assert spec["failover"] == {
        "approval": "Automatic",
        "sufficientProof": ["Proven"],
        "maxLag": "30s",
        "start": "Scale",
    }
    assert spec["monitoring"] == {"interval": "1s", "missed": 9}
    assert "replicas" not in spec["sides"]["source"]["workloads"][0]


GOOD = {
    "sides without a Service": with_sides(),
    "a Deployment beside a StatefulSet of the same name": with_sides(
        sides={
            "source": {"workloads": workloads("a")["workloads"] + workloads("a", kind="Deployment")["workloads"]},
            "target": workloads("b"),
        }
    ),
    "sixteen workloads a side": with_sides(
        sides={"source": workloads(*(f"s{i}" for i in range(16))), "target": workloads(*(f"t{i}" for i in range(16)))}
    ),
    "sixteen Services, each of workloads of its own": with_sides(
        sides={"source": workloads(*(f"s{i}" for i in range(16))), "target": workloads(*(f"t{i}" for i in range(16)))},
        services=[own(f"service-{i}", workloads={"source": f"s{i}", "target": f"t{i}"}) for i in range(16)],
    ),
    "a Service of one's own": with_sides(services=[own()]),
    "several named ports": with_sides(
        services=[service(ports=[{"name": "http", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443}])]
    ),
    "a UDP port": with_sides(services=[service(ports=[{"port": 53, "protocol": "UDP"}])]),
    "everything said": with_sides(
        services=[service(workloads={"source": "orders", "target": "orders-standby"})],
        monitoring={"interval": "500ms", "missed": 100},
        failover={
            "approval": "Automatic",
            "sufficientProof": ["Proven", "Attested"],
            "maxLag": "1m30s",
            "start": "Gate",
        },
    ),
    "no limit of the lag": with_sides(failover={"maxLag": "0s"}),
    "a heartbeat a minute": with_sides(monitoring={"interval": "1m"}),
    "rules without sides": pair(failover={"approval": "Automatic"}),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_it_takes(apiserver: ApiServer, namespace: str, body: dict[str, Any]) -> None:
    created(apiserver, namespace, body)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "one side alone": (pair(sides={"source": workloads("a")}), "spec.sides.target: Required value"),
    "a side without workloads": (
        pair(sides={"source": workloads(), "target": workloads("b")}),
        "spec.sides.source.workloads: Invalid value: 0: spec.sides.source.workloads in body should have at least 1",
    ),
    "seventeen workloads": (
        pair(sides={"source": workloads(*(f"s{i}" for i in range(17))), "target": workloads("b")}),
        "at most 16 items",
    ),
    "a workload twice": (pair(sides={"source": workloads("a", "a"), "target": workloads("b")}), "Duplicate value"),
    "a workload on both sides": (pair(sides=sides("a", "a")), "a workload cannot be on both sides: the standby is"),
    "a workload that cannot be stopped by its scale": (
        pair(sides={"source": workloads("a", kind="DaemonSet"), "target": workloads("b")}),
        'supported values: "Deployment", "StatefulSet"',
    ),
    "a workload of no pods": (
        pair(
            sides={
                "source": {"workloads": [{"kind": "Deployment", "name": "a", "replicas": 0}]},
                "target": workloads("b"),
            }
        ),
        "should be greater than or equal to 1",
    ),
    "a Service without sides": (
        pair(services=[service()]),
        "services follow the live side: name the workloads of both",
    ),
    "a Service twice": (with_sides(services=[service(), own()]), "Duplicate value"),
    "a Service without ports": (
        with_sides(services=[{"name": "orders"}]),
        "spec.services[0].ports: Invalid value: a Managed Service needs ports",
    ),
    "one's own Service with ports": (
        with_sides(services=[own(ports=[PORT])]),
        "a Label Service is your own and has its ports already",
    ),
    "several ports without names": (
        with_sides(services=[service(ports=[{"name": "a", "port": 1}, {"port": 2}])]),
        "with several ports each needs a name",
    ),
    "a port that none can be": (with_sides(services=[service(ports=[{"port": 65536}])]), "less than or equal to 65535"),
    "a strategy that does not exist": (
        with_sides(services=[service(strategy="Selector")]),
        'supported values: "Managed", "Label"',
    ),
    "a Service that names a workload of nobody": (
        with_sides(services=[service(workloads={"source": "orders", "target": "another"})]),
        "spec.services: Invalid value: a Service names a workload that its side does not have",
    ),
    "a Service that names the sides the wrong way round": (
        with_sides(services=[service(workloads={"source": "orders-standby", "target": "orders"})]),
        "a Service names a workload that its side does not have",
    ),
    "a Service that names one side": (
        with_sides(services=[service(workloads={"source": "orders"})]),
        "spec.services[0].workloads.target: Required value",
    ),
    "a heartbeat too often": (
        pair(monitoring={"interval": "499ms"}),
        "spec.monitoring.interval: Invalid value: interval must be between 500ms and 60s",
    ),
    "a heartbeat too seldom": (pair(monitoring={"interval": "61s"}), "interval must be between 500ms and 60s"),
    "an interval that is none": (pair(monitoring={"interval": "often"}), "spec.monitoring.interval"),
    "an interval without a unit": (pair(monitoring={"interval": "5"}), "spec.monitoring.interval"),
    "one heartbeat missed": (pair(monitoring={"missed": 1}), "should be greater than or equal to 2"),
    "a lag that is no duration": (pair(failover={"maxLag": "-1s"}), "spec.failover.maxLag"),
    "a lag beyond all durations": (pair(failover={"maxLag": "9999999999h"}), "maxLag must be a duration such as 30s"),
    "an approval that does not exist": (
        pair(failover={"approval": "Never"}),
        'supported values: "Manual", "Automatic"',
    ),
    "a proof that is none": (
        pair(failover={"sufficientProof": ["Accepted"]}),
        'supported values: "Proven", "Attested"',
    ),
    "no proof at all": (pair(failover={"sufficientProof": []}), "should have at least 1 items"),
    "a proof twice": (pair(failover={"sufficientProof": ["Proven", "Proven"]}), "Duplicate value"),
    "a start that does not exist": (pair(failover={"start": "Warm"}), 'supported values: "Scale", "Gate"'),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_it_refuses(apiserver: ApiServer, namespace: str, body: dict[str, Any], message: str) -> None:
    answer = create(apiserver, namespace, body)
    assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message


def test_sides_and_services_may_come_change_and_go(apiserver: ApiServer, namespace: str) -> None:
    stored = created(apiserver, namespace, pair())
    stored["spec"] |= {"sides": sides(), "services": [service()]}
    stored = change(apiserver, stored).value
    assert stored["spec"]["services"][0]["strategy"] == "Managed"
    stored["spec"]["sides"]["target"] = workloads("another", kind="Deployment")
    stored = change(apiserver, stored).value
    del stored["spec"]["services"], stored["spec"]["sides"]
    assert change(apiserver, stored).status == 200


AT = "2026-01-02T03:04:05Z"
WRITER = {"uid": "u1", "name": "orders-0", "side": "Source", "node": "node-a", "since": AT}
OPERATION: dict[str, Any] = {
    "attempt": 2,
    "phase": "Fencing",
    "kind": "Failover",
    "name": "orders-2",
    "mode": "Unplanned",
    "fromEpoch": 3,
    "replicas": [{"kind": "StatefulSet", "name": "orders", "replicas": 3}],
    "proofs": [
        {"uid": "u1", "name": "orders-0", "node": "node-a", "grade": "Proven", "evidence": "all ended", "at": AT}
    ],
    "equality": [
        {"volume": "data", "stage": stage, "files": 5, "bytes": 7, "differing": 0, "digest": "d", "at": AT}
        for stage in ("Live", "Final")
    ],
    "answers": [{"service": "orders", "how": "TCP 10.0.0.9:80", "at": AT}],
    "timeline": [{"phase": "Validating", "at": AT}, {"phase": "Fencing", "at": AT}],
}
STATUS: dict[str, Any] = {
    "phase": "FailingOver",
    "activeSide": "Source",
    "epoch": 3,
    "attempt": 2,
    "closedSides": ["Source", "Target"],
    "gate": {"checkedAt": AT, "inForce": True},
    "writers": [WRITER, {**WRITER, "uid": "u2", "goneSince": AT}],
    "writersKnownSince": AT,
    "operation": OPERATION,
}


class TestStatus:
    @pytest.fixture
    def stored(self, apiserver: ApiServer, namespace: str) -> dict[str, Any]:
        body = created(apiserver, namespace, with_sides())
        answer = publish(apiserver, body, STATUS)
        assert answer.status == 200, answer.message
        found: dict[str, Any] = answer.value
        return found

    def test_it_holds_all_that_the_operator_knows(self, stored: dict[str, Any]) -> None:
        assert stored["status"] == STATUS

    @pytest.mark.parametrize(
        "given",
        [
            {"attempt": 3},
            {"attempt": 2, "operation": {**OPERATION, "phase": "RollingBack"}},
            {"epoch": 4, "activeSide": "Target", "closedSides": ["Source"]},
            {"closedSides": []},
            {"operation": None},
        ],
        ids=[
            "another attempt",
            "another phase",
            "the other side, with a higher epoch",
            "nothing closed",
            "none at all",
        ],
    )
    def test_it_takes(self, apiserver: ApiServer, stored: dict[str, Any], given: dict[str, Any]) -> None:
        status = {k: v for k, v in {**STATUS, **given}.items() if v is not None}
        answer = publish(apiserver, stored, status)
        assert answer.status == 200, answer.message

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"attempt": 1}, "the number of attempts never falls"),
            ({"attempt": None}, "the number of attempts never falls"),
            ({"epoch": 2}, "the epoch never falls"),
            ({"activeSide": "Target"}, "the live side changes only with a higher epoch"),
            ({"closedSides": ["Source", "Source"]}, "Duplicate value"),
            ({"closedSides": ["Both"]}, 'supported values: "Source", "Target"'),
            ({"writers": [WRITER, WRITER]}, "Duplicate value"),
            ({"writers": [{**WRITER, "side": None}]}, "status.writers[0].side"),
            ({"operation": {**OPERATION, "phase": "Thinking"}}, "Unsupported value"),
            ({"operation": {**OPERATION, "replicas": OPERATION["replicas"] * 2}}, "Duplicate value"),
            ({"operation": {**OPERATION, "proofs": OPERATION["proofs"] * 2}}, "Duplicate value"),
            ({"operation": {**OPERATION, "equality": [OPERATION["equality"][0]] * 2}}, "Duplicate value"),
            ({"operation": {**OPERATION, "answers": OPERATION["answers"] * 2}}, "Duplicate value"),
            ({"operation": {**OPERATION, "fromEpoch": 0}}, "should be greater than or equal to 1"),
            ({"operation": {**OPERATION, "name": None}}, "status.operation.name: Required value"),
        ],
    )
    def test_it_refuses(
        self, apiserver: ApiServer, stored: dict[str, Any], given: dict[str, Any], message: str
    ) -> None:
        status = _without_none({**STATUS, **given})
        answer = publish(apiserver, stored, status)
        assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message

    def test_it_is_not_taken_away_to_begin_at_a_low_attempt(self, apiserver: ApiServer, namespace: str) -> None:
        stored = created(apiserver, namespace, pair(name="young"))
        stored = publish(apiserver, stored, {"phase": "Pending", "attempt": 1}).value
        without = {k: v for k, v in stored.items() if k != "status"}
        place = f"/apis/storagemirror.io/v1alpha1/namespaces/{namespace}/mirrorpairs/young/status"
        answer = apiserver.client().put(place, without, check=False)
        assert (answer.status, "never falls" in answer.message) == (422, True), answer.message

    def test_an_old_copy_of_the_object_does_not_take_the_lock(
        self, apiserver: ApiServer, stored: dict[str, Any]
    ) -> None:
        later = copy.deepcopy(STATUS)
        later["operation"]["phase"] = "Draining"
        assert publish(apiserver, stored, later).status == 200
        assert publish(apiserver, stored, {**STATUS, "attempt": 3}).status == 409


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mirrorpair.spec.sides", ["The application's workloads on both sides"]),
        ("mirrorpair.spec.sides.target.workloads.replicas", ["as many as it had"]),
        ("mirrorpair.spec.services.strategy", ["Managed", "storagemirror.io/live"]),
        ("mirrorpair.spec.failover.sufficientProof", ["Proven", "Attested", "makes two writers"]),
        ("mirrorpair.spec.failover.approval", ["waits until a person sets spec.approved"]),
        ("mirrorpair.spec.monitoring.missed", ["That alone never fails over"]),
        ("mirrorpair.status.closedSides", ["no new pod may mount"]),
        ("mirrorpair.status.operation", ["the one lock"]),
    ],
)
def test_kubectl_explain_teaches(apiserver: ApiServer, path: str, words: list[str]) -> None:
    wait_for("kubectl explain", lambda: apiserver.kubectl("explain", "mirrorpair", check=False).status == 0, 30)
    text = " ".join(apiserver.kubectl("explain", path).text.split())
    assert [w for w in words if w not in text] == []
