"""What the API server itself says to the spec of a Restore: it runs once, home or elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.command import wait_for
from tests.support.apiserver import ApiServer
from tests.support.manifests import change, create, created, elsewhere, endpoint, restore

pytestmark = pytest.mark.apiserver

LONG = "c" * 253


def claim(name: str = "data", claim_name: str = "seen", storage: object = None) -> dict[str, Any]:
    """Where one volume is copied to; made with that size."""
    found: dict[str, Any] = {"name": name, "claimName": claim_name}
    return found | ({} if storage is None else {"claimTemplate": {"resources": {"requests": {"storage": storage}}}})


def many(count: int) -> list[dict[str, Any]]:
    """As long as names may be."""
    return [claim(f"v{i}", f"c{i:02}" + "c" * 250, "1Gi") for i in range(count)]


def test_one_of_two_lines_brings_the_application_home_by_itself(apiserver: ApiServer, namespace: str) -> None:
    assert created(apiserver, namespace, restore())["spec"] == {
        "pairName": "orders",
        "fromEpoch": 2,
        "cutOver": "Automatic",
        "approved": False,
    }


def test_a_claim_elsewhere_gets_its_access_mode(apiserver: ApiServer, namespace: str) -> None:
    (found,) = created(apiserver, namespace, elsewhere(claim(storage="1Gi")))["spec"]["to"]["volumes"]
    assert found["claimTemplate"]["accessModes"] == ["ReadWriteOnce"]


GOOD = {
    "one that waits for a person": restore(cutOver="Manual"),
    "one that is approved at once": restore(cutOver="Manual", approved=True, approvedBy="alice"),
    "a late epoch": restore(fromEpoch=2**40),
    "a name with dots": restore("orders.2026.01"),
    "a name of 253 characters": restore("n" * 253),
    "elsewhere, to a claim that exists": elsewhere(),
    "elsewhere, of one epoch only": elsewhere(fromEpoch=2),
    "elsewhere, to a claim of another class": elsewhere(
        {**claim(), "claimTemplate": {"storageClassName": "fast", "resources": {"requests": {"storage": 1}}}}
    ),
    "elsewhere, sixteen volumes with the longest names": elsewhere(*many(16)),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_it_takes(apiserver: ApiServer, namespace: str, body: dict[str, Any]) -> None:
    created(apiserver, namespace, body)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no pair": (restore(pairName=None), "spec.pairName: Required value"),
    "a pair's name that none can have": (restore(pairName="shop/orders"), "spec.pairName"),
    "the way home without an epoch": (
        restore(fromEpoch=None),
        "spec.fromEpoch: Invalid value: to bring the application home say from which epoch: fromEpoch is status.epoch",
    ),
    "an epoch before the first": (restore(fromEpoch=0), "should be greater than or equal to 1"),
    "a cut-over that does not exist": (restore(cutOver="Later"), 'supported values: "Automatic", "Manual"'),
    "an approval by nobody": (
        restore(approved=True),
        "spec.approvedBy: Invalid value: approvedBy must name who approves",
    ),
    "an approval by an empty name": (restore(approved=True, approvedBy=""), "approvedBy must name who approves"),
    "elsewhere without saying where": (restore(to={}), "spec.to.volumes: Required value"),
    "no volume elsewhere": (restore(to={"volumes": []}), "should have at least 1 items"),
    "seventeen volumes elsewhere": (elsewhere(*many(17)), "at most 16 items"),
    "a volume twice": (elsewhere(claim(), claim(claim_name="other")), "Duplicate value"),
    "two volumes into one claim": (
        elsewhere(claim(), claim("logs")),
        "spec.to.volumes: Invalid value: two volumes name the same claim: each needs one of its own",
    ),
    "a volume without a claim": (elsewhere({"name": "data"}), "spec.to.volumes[0].claimName: Required value"),
    "a claim's name that none can have": (elsewhere(claim(claim_name="Orders Data")), "spec.to.volumes[0].claimName"),
    "a claim's name of 254 characters": (elsewhere(claim(claim_name=LONG + "c")), "may not be more than 253"),
    "a size of nothing": (elsewhere(claim(storage="0")), "storage must be more than 0, such as 10Gi"),
    "an access mode that agents cannot share": (
        elsewhere(
            {
                **claim(),
                "claimTemplate": {
                    "accessModes": ["ReadWriteOncePod"],
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }
        ),
        'supported values: "ReadWriteOnce", "ReadWriteMany"',
    ),
    "a field that does not exist": (restore(force=True), 'unknown field "spec.force"'),
    "a mode, which Failovers have": (restore(mode="Planned"), 'unknown field "spec.mode"'),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_it_refuses(apiserver: ApiServer, namespace: str, body: dict[str, Any], message: str) -> None:
    body["spec"] = {k: v for k, v in body["spec"].items() if v is not None}
    answer = create(apiserver, namespace, body)
    assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message


def given(stored: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """What was read with these fields changed; None takes one away."""
    changed = {k: v for k, v in {**stored["spec"], **spec}.items() if v is not None}
    return {**stored, "spec": changed}


class TestASpecThatChanges:
    ONCE = "pairName, fromEpoch and to cannot change: a Restore runs once; make another one"

    @pytest.fixture
    def stored(self, apiserver: ApiServer, namespace: str) -> dict[str, Any]:
        return created(apiserver, namespace, restore(cutOver="Manual"))

    @pytest.mark.parametrize(
        "spec",
        [
            {"pairName": "bills"},
            {"fromEpoch": 3},
            {"to": {"volumes": [claim()]}},
            {"to": {"volumes": [claim()]}, "fromEpoch": None},
        ],
        ids=["another pair", "another epoch", "elsewhere", "elsewhere at any epoch"],
    )
    def test_the_way_home_stays(self, apiserver: ApiServer, stored: dict[str, Any], spec: dict[str, Any]) -> None:
        answer = change(apiserver, given(stored, **spec))
        assert (answer.status, self.ONCE in answer.message) == (422, True), answer.message

    @pytest.mark.parametrize(
        "spec",
        [
            {"to": None},
            {"to": {"volumes": [claim(claim_name="other")]}},
            {"to": {"volumes": [claim(), claim("logs", "logs-seen")]}},
            {"to": {"volumes": [claim(storage="1Gi")]}},
            {"fromEpoch": None},
            {"fromEpoch": 3},
        ],
        ids=["home", "another claim", "one more", "another template", "at any epoch", "another epoch"],
    )
    def test_elsewhere_stays_there(self, apiserver: ApiServer, namespace: str, spec: dict[str, Any]) -> None:
        stored = created(apiserver, namespace, elsewhere(fromEpoch=2))
        answer = change(apiserver, given(stored, **spec))
        assert (answer.status, self.ONCE in answer.message) == (422, True), answer.message

    def test_an_epoch_is_not_named_later(self, apiserver: ApiServer, namespace: str) -> None:
        stored = created(apiserver, namespace, elsewhere())
        answer = change(apiserver, given(stored, fromEpoch=2))
        assert (answer.status, self.ONCE in answer.message) == (422, True), answer.message

    def test_what_is_applied_again_from_git_changes_nothing(self, apiserver: ApiServer, namespace: str) -> None:
        body = elsewhere(claim(storage="1Gi"))
        first = created(apiserver, namespace, body)
        again = apiserver.client().merge(f"{endpoint(namespace, body)}/seen", {"spec": body["spec"]})
        assert again.value["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]

    def test_an_approval_is_given_later(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        found = change(apiserver, given(stored, approved=True, approvedBy="alice"))
        assert (found.status, found.value["metadata"]["generation"]) == (200, 2), found.message

    def test_an_approval_is_not_taken_back(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored = change(apiserver, given(stored, approved=True, approvedBy="alice")).value
        for spec, message in (
            ({"approved": False}, "an approval cannot be taken back: delete the Restore to stop it"),
            ({"approved": None}, "an approval cannot be taken back"),
            ({"approvedBy": "bob"}, "who has approved stays"),
            ({"approvedBy": None}, "who has approved stays"),
            ({"approved": None, "approvedBy": None}, "an approval cannot be taken back"),
        ):
            answer = change(apiserver, given(stored, **spec))
            assert (answer.status, message in answer.message) == (422, True), answer.message

    def test_the_largest_of_all_can_still_be_changed(self, apiserver: ApiServer, namespace: str) -> None:
        stored = created(apiserver, namespace, elsewhere(*many(16)))
        answer = change(apiserver, given(stored, approved=True, approvedBy="n" * 253))
        assert answer.status == 200, answer.message

    def test_whether_it_waits_may_change(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored = change(apiserver, given(stored, cutOver="Automatic")).value
        assert change(apiserver, given(stored, cutOver="Manual")).status == 200


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("restore", ["Brings the application home after a failover", "Runs once, for one epoch"]),
        ("restore.spec", ["pairName", "fromEpoch", "to", "cutOver", "approved", "approvedBy"]),
        ("restore.spec.fromEpoch", ["Superseded", "May be left out only with to"]),
        (
            "restore.spec.cutOver",
            ["Automatic (default)", "right `approve`", "AwaitingCutOver", "until approved is set"],
        ),
        ("restore.spec.to", ["touch nothing live"]),
        ("restore.spec.to.volumes.claimName", ["an empty one, and none that the pair names"]),
        ("restore.status.diverged", ["after it was cut off", "before anything was overwritten"]),
        ("restore.status.wholeOn", ["hold everything"]),
        ("restore.status.sentBytes", ["on the wire"]),
    ],
)
def test_kubectl_explain_teaches(apiserver: ApiServer, path: str, words: list[str]) -> None:
    wait_for("kubectl explain", lambda: apiserver.kubectl("explain", "restore", check=False).status == 0, 30)
    text = " ".join(apiserver.kubectl("explain", path).text.split())
    assert [w for w in words if w not in text] == []


def test_it_is_found_by_its_short_name_and_its_category(apiserver: ApiServer, namespace: str) -> None:
    created(apiserver, namespace, restore())
    for word in ("rst", "storagemirror", "restore.storagemirror.io"):
        assert "home" in apiserver.kubectl("get", word, "-n", namespace, "-o", "name").text


def test_no_short_name_of_ours_is_one_of_kubernetes_own(apiserver: ApiServer) -> None:
    """kubectl would take it for the other kind, and never come to ours."""
    lines = [line.split() for line in apiserver.kubectl("api-resources", "--no-headers").text.splitlines()]
    shorts = [(short, line[0]) for line in lines if len(line) == 5 for short in line[1].split(",")]
    ours = {short: kind for short, kind in shorts if kind in {"mirrorpairs", "failovers", "restores"}}
    assert (len(ours), ("rs", "replicasets") in shorts) == (3, True)
    assert [(short, kind) for short, kind in shorts if short in ours and ours[short] != kind] == []
