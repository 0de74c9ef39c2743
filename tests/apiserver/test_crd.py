"""What the API server itself says to a MirrorPair: defaults, refusals, columns, explanations."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.cluster.command import wait_for
from tests.support.apiserver import ApiServer
from tests.support.manifests import change, create, created, endpoint, pair, publish, volume

pytestmark = pytest.mark.apiserver


def template(storage: object = "10Gi", **more: Any) -> dict[str, Any]:
    found = volume()
    found["target"]["claimTemplate"] = {"resources": {"requests": {"storage": storage}}, **more}
    return found


def test_a_pair_of_five_lines_gets_the_defaults_that_are_right_for_most(apiserver: ApiServer, namespace: str) -> None:
    assert created(apiserver, namespace, pair())["spec"] == {
        "volumes": [volume()],
        "monitoring": {"interval": "1s", "missed": 5},
        "failover": {"approval": "Manual", "sufficientProof": ["Proven"], "maxLag": "30s", "start": "Scale"},
        "mirror": {
            "target": "Empty",
            "maxDeletePercent": 50,
            "compare": "SizeAndTime",
            "orphans": {"policy": "Delete"},
            "ignoreDeletes": False,
            "keep": {"accessTimes": False, "selinux": False},
        },
        "replication": {
            "mode": "Continuous",
            "timeZone": "UTC",
            "consistency": "Live",
            "pointInterval": "5s",
            "maxStall": "200ms",
            "queue": {"memory": "64Mi", "disk": "1Gi", "alertPercent": 50},
        },
        "transfer": {"bandwidth": [], "compression": "Auto", "timeZone": "UTC"},
        "agents": {
            "privilege": "Baseline",
            "resources": {"requests": {"cpu": "25m", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "512Mi"}},
        },
        "paused": False,
    }


def test_what_is_left_out_of_the_resources_is_filled_in(apiserver: ApiServer, namespace: str) -> None:
    body = pair(agents={"resources": {"limits": {"memory": "1Gi"}}})
    assert created(apiserver, namespace, body)["spec"]["agents"]["resources"] == {
        "requests": {"cpu": "25m", "memory": "64Mi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }


def test_a_claim_template_gets_its_access_mode(apiserver: ApiServer, namespace: str) -> None:
    found = created(apiserver, namespace, pair(template()))["spec"]["volumes"][0]["target"]["claimTemplate"]
    assert found["accessModes"] == ["ReadWriteOnce"]


GOOD = {
    "sixteen volumes": pair(*[volume(f"v{i}", f"s{i}", f"t{i}") for i in range(16)]),
    "a size as a number": pair(template(1073741824)),
    "the cluster's way of saying no class": pair(template(storageClassName="")),
    "whole CPUs as a number": pair(agents={"resources": {"limits": {"cpu": 4}}}),
    "equal requests and limits": pair(
        agents={"resources": {k: {"cpu": "1", "memory": "128Mi"} for k in ("requests", "limits")}}
    ),
    "everything said": pair(
        template(storageClassName="fast", accessModes=["ReadWriteMany"]),
        mirror={"target": "Adopt", "maxDeletePercent": 100, "confirm": "a1b2c3"},
        agents={
            "privilege": "Restricted",
            "tolerations": [{"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute"}],
            "priorityClassName": "system-node-critical",
            "podLabels": {"team": "shop", "example.com/cost": "12"},
            "podAnnotations": {"sidecar.istio.io/inject": "false"},
            "imagePullSecrets": [{"name": "pull"}],
        },
        paused=True,
    ),
    "a name of 63 characters": pair(name="n" * 63),
    "a volume's name of 63 characters": pair(volume("v" * 63)),
    "claims of 253 characters": pair(volume(source="s" * 253, target="t" * 253)),
    "no deletion allowed": pair(mirror={"maxDeletePercent": 0}),
    "rules in their order": pair(
        mirror={"rules": [{"exclude": "*"}, {"include": "*/"}, {"include": "*.txt"}, {"exclude": "\\!odd"}]}
    ),
    "a hundred rules": pair(mirror={"rules": [{"exclude": f"{n:03}" + "x" * 253} for n in range(100)]}),
    "orphans moved aside when they are old": pair(mirror={"orphans": {"policy": "Move", "olderThan": "30d"}}),
    "deletions ignored, and told of": pair(mirror={"ignoreDeletes": True, "orphans": {"policy": "Report"}}),
    "by content": pair(mirror={"compare": "Checksum"}),
}


@pytest.mark.parametrize("body", GOOD.values(), ids=GOOD.keys())
def test_it_takes(apiserver: ApiServer, namespace: str, body: dict[str, Any]) -> None:
    created(apiserver, namespace, body)


BAD = {
    "the same claim on both sides": (pair(volume(target="orders-data")), "a volume cannot be its own copy"),
    "two volumes of one name": (pair(volume(), volume(source="b", target="c")), "Duplicate value"),
    "two volumes with one target": (pair(volume(), volume("b", "other")), "two volumes have the same target claim"),
    "two volumes with one source": (
        pair(volume(), volume("b", target="other")),
        "two volumes have the same source claim",
    ),
    "a copy that is a source as well": (
        pair(volume("a", "one", "two"), volume("b", "two", "one")),
        "a claim is the source of one volume and the target of another",
    ),
    "no volumes": ({**pair(), "spec": {"volumes": []}}, "should have at least 1 items"),
    "seventeen volumes": (pair(*[volume(f"v{i}", f"s{i}", f"t{i}") for i in range(17)]), "at most 16 items"),
    "no spec": ({k: v for k, v in pair().items() if k != "spec"}, "spec: Required value"),
    "a volume's name that is no DNS label": (pair(volume("Data_1")), "spec.volumes[0].name"),
    "a volume's name of 64 characters": (pair(volume("v" * 64)), "spec.volumes[0].name"),
    "a pair's name of 64 characters": (pair(name="n" * 64), "at most 63 characters and no dots"),
    "a pair's name with a dot": (pair(name="orders.v2"), "at most 63 characters and no dots"),
    "a claim's name that none can have": (pair(volume(source="Orders Data")), "spec.volumes[0].source.claimName"),
    "a claim template without a size": (
        pair({**volume(), "target": {"claimName": "t", "claimTemplate": {}}}),
        "claimTemplate.resources: Required value",
    ),
    "a claim template without a storage request": (
        pair({**volume(), "target": {"claimName": "t", "claimTemplate": {"resources": {"requests": {}}}}}),
        "requests.storage: Required value",
    ),
    "a size of nothing": (pair(template("0")), "storage must be more than 0, such as 10Gi"),
    "a negative size": (pair(template("-1Gi")), "storage must be more than 0, such as 10Gi"),
    "a size that is none": (pair(template("10 gigabytes")), "requests.storage"),
    "an access mode that agents cannot share": (
        pair(template(accessModes=["ReadWriteOncePod"])),
        'supported values: "ReadWriteOnce", "ReadWriteMany"',
    ),
    "101 percent": (pair(mirror={"maxDeletePercent": 101}), "should be less than or equal to 100"),
    "a negative percentage": (pair(mirror={"maxDeletePercent": -1}), "should be greater than or equal to 0"),
    "a rule that says nothing": (pair(mirror={"rules": [{}]}), "a rule says either include or exclude"),
    "a rule that says both": (
        pair(mirror={"rules": [{"include": "a", "exclude": "b"}]}),
        "a rule says either include or exclude",
    ),
    "a rule of git's to include": (pair(mirror={"rules": [{"exclude": "!a"}]}), "say include instead of exclude"),
    "a comment among the rules": (pair(mirror={"rules": [{"exclude": "# a"}]}), "would be a comment"),
    "an empty rule": (pair(mirror={"rules": [{"exclude": ""}]}), "rules[0].exclude"),
    "a rule of 257 characters": (pair(mirror={"rules": [{"exclude": "x" * 257}]}), "rules[0].exclude"),
    "101 rules": (pair(mirror={"rules": [{"exclude": f"{n}"} for n in range(101)]}), "at most 100 items"),
    "an age for orphans that stay": (
        pair(mirror={"orphans": {"policy": "Keep", "olderThan": "30d"}}),
        "olderThan says when orphans go",
    ),
    "an age that is none": (pair(mirror={"orphans": {"olderThan": "a month"}}), "orphans.olderThan"),
    "an unknown policy for orphans": (pair(mirror={"orphans": {"policy": "Archive"}}), 'supported values: "Delete"'),
    "deletions ignored and moved aside": (
        pair(mirror={"ignoreDeletes": True, "orphans": {"policy": "Move"}}),
        "with ignoreDeletes orphans stay where they are",
    ),
    "an unknown way to compare": (pair(mirror={"compare": "Size"}), 'supported values: "SizeAndTime"'),
    "an unknown target policy": (pair(mirror={"target": "Overwrite"}), 'supported values: "Empty", "Adopt"'),
    "a privilege that does not exist": (
        pair(agents={"privilege": "Privileged"}),
        'supported values: "Restricted", "Baseline"',
    ),
    "more CPU set aside than allowed": (
        pair(agents={"resources": {"requests": {"cpu": "3"}}}),
        "requests.cpu must not be more than limits.cpu",
    ),
    "more memory set aside than allowed": (
        pair(agents={"resources": {"limits": {"memory": "32Mi"}}}),
        "requests.memory must not be more than limits.memory",
    ),
    "a label that is ours": (
        pair(agents={"podLabels": {"storagemirror.io/pair": "x"}}),
        "are set by the operator",
    ),
    "an annotation that is ours": (
        pair(agents={"podAnnotations": {"app.kubernetes.io/name": "x"}}),
        "are set by the operator",
    ),
    "a label value that none can be": (pair(agents={"podLabels": {"team": "x" * 64}}), "spec.agents.podLabels.team"),
    "a field that does not exist": (pair(mirror={"maxDeletes": 3}), 'unknown field "spec.mirror.maxDeletes"'),
    "a field of a later release": (pair(drills=[{"name": "orders"}]), 'unknown field "spec.drills"'),
}


@pytest.mark.parametrize(("body", "message"), BAD.values(), ids=BAD.keys())
def test_it_refuses(apiserver: ApiServer, namespace: str, body: dict[str, Any], message: str) -> None:
    answer = create(apiserver, namespace, body)
    assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message


def test_an_unknown_field_is_never_stored_even_where_it_is_let_through(apiserver: ApiServer, namespace: str) -> None:
    body = pair(drills=[{"name": "orders"}])
    answer = apiserver.client().post(endpoint(namespace, body), body)
    assert "drills" not in answer.value["spec"]
    assert any("drills" in w for w in answer.warnings)


class TestASpecThatChanges:
    @pytest.fixture
    def stored(self, apiserver: ApiServer, namespace: str) -> dict[str, Any]:
        return created(apiserver, namespace, pair(volume(), volume("logs", "orders-logs", "logs-standby")))

    @pytest.mark.parametrize("side", ["source", "target"])
    def test_a_volume_keeps_its_claims(self, apiserver: ApiServer, stored: dict[str, Any], side: str) -> None:
        stored["spec"]["volumes"][1][side]["claimName"] = "another"
        answer = change(apiserver, stored)
        assert answer.status == 422
        assert "the claims of a volume cannot change" in answer.message

    def test_volumes_come_and_go_in_any_order(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored["spec"]["volumes"] = [volume("logs", "orders-logs", "logs-standby"), volume("more", "m", "m2")]
        assert change(apiserver, stored).status == 200

    def test_everything_else_may_change(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        stored["spec"].update(paused=True, mirror={"target": "Adopt", "confirm": "tok"})
        stored["spec"]["agents"]["privilege"] = "Restricted"
        found = change(apiserver, stored)
        assert (found.status, found.value["metadata"]["generation"]) == (200, 2)


LIVE: dict[str, Any] = {
    "phase": "Replicating",
    "activeSide": "Source",
    "epoch": 3,
    "lagSeconds": 2,
    "lag": "2s",
    "syncedThrough": "2026-01-02T03:04:05Z",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Replicating",
            "message": "1 volume follows",
            "lastTransitionTime": "2026-01-02T03:04:05Z",
        }
    ],
    "volumes": [{"name": "data", "phase": "Replicating", "notKept": [{"kind": "Owner", "count": 2}]}],
}


class TestStatus:
    @pytest.fixture
    def stored(self, apiserver: ApiServer, namespace: str) -> dict[str, Any]:
        body = created(apiserver, namespace, pair())
        return publish(apiserver, body, LIVE).value  # type: ignore[no-any-return]

    def test_it_is_written_apart_from_the_spec(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        assert stored["status"] == LIVE
        changed = copy.deepcopy(stored)
        changed["spec"]["paused"] = True
        found = publish(apiserver, changed, LIVE).value
        assert (found["spec"]["paused"], found["metadata"]["generation"]) == (False, 1)

    def test_nobody_writes_it_with_the_spec(self, apiserver: ApiServer, namespace: str) -> None:
        assert "status" not in created(apiserver, namespace, {**pair(), "status": {"epoch": 7}})

    @pytest.mark.parametrize(
        "change",
        [{"epoch": 3}, {"epoch": 4}, {"epoch": 4, "activeSide": "Target"}, {"phase": "Held"}],
        ids=["the same", "a higher epoch", "the other side with a higher epoch", "another phase"],
    )
    def test_it_takes(self, apiserver: ApiServer, stored: dict[str, Any], change: dict[str, Any]) -> None:
        answer = publish(apiserver, stored, {**LIVE, **change})
        assert answer.status == 200, answer.message

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"epoch": 2}, "the epoch never falls"),
            ({"epoch": None}, "the epoch never falls"),
            ({"epoch": 0}, "should be greater than or equal to 1"),
            ({"activeSide": "Target"}, "the live side changes only with a higher epoch"),
            ({"activeSide": None}, "the live side changes only with a higher epoch"),
            ({"activeSide": "Nowhere"}, 'supported values: "Source", "Target"'),
            ({"phase": "Fine"}, "supported values"),
            ({"conditions": [LIVE["conditions"][0]] * 2}, "Duplicate value"),
            ({"somethingElse": 1}, "unknown field"),
        ],
    )
    def test_it_refuses(
        self, apiserver: ApiServer, stored: dict[str, Any], change: dict[str, Any], message: str
    ) -> None:
        status = {k: v for k, v in {**LIVE, **change}.items() if v is not None}
        answer = publish(apiserver, stored, status)
        assert (answer.status in {400, 422}, message in answer.message) == (True, True), answer.message

    def test_a_status_is_not_taken_away_to_start_at_a_low_epoch(
        self, apiserver: ApiServer, stored: dict[str, Any]
    ) -> None:
        path = f"{endpoint(stored['metadata']['namespace'], stored)}/orders/status"
        without = {k: v for k, v in stored.items() if k != "status"}
        for body in ({**without, "status": {}}, without):
            answer = apiserver.client().put(path, body, check=False)
            assert (answer.status, "the epoch never falls" in answer.message) == (422, True), answer.message

    def test_an_old_copy_of_the_object_does_not_overwrite_a_newer_status(
        self, apiserver: ApiServer, stored: dict[str, Any]
    ) -> None:
        newer = publish(apiserver, stored, {**LIVE, "epoch": 4})
        assert newer.status == 200
        assert publish(apiserver, stored, {**LIVE, "epoch": 5}).status == 409

    def test_kubectl_get_shows_it_in_one_line(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        words = ["get", "mp", "-n", stored["metadata"]["namespace"]]
        head, line = apiserver.kubectl(*words).text.splitlines()
        assert head.split() == ["NAME", "PHASE", "LIVE", "EPOCH", "LAG", "READY", "AGE"]
        assert line.split()[:6] == ["orders", "Replicating", "Source", "3", "2s", "True"]
        wide = apiserver.kubectl(*words, "-o", "wide").text
        assert ["SYNCED THROUGH" in wide, "2026-01-02T03:04:05Z" in wide, "1 volume follows" in wide] == [True] * 3

    def test_kubectl_wait_judges_by_its_conditions(self, apiserver: ApiServer, stored: dict[str, Any]) -> None:
        namespace = stored["metadata"]["namespace"]
        apiserver.kubectl("wait", "--for=condition=Ready", "mirrorpair/orders", "-n", namespace, "--timeout=5s")


@pytest.fixture(scope="module")
def explained(apiserver: ApiServer) -> None:
    """The API server publishes what it explains a moment after it serves it."""
    wait_for(
        "kubectl explain to know the kind",
        lambda: apiserver.kubectl("explain", "mirrorpair", check=False).status == 0,
        30,
    )


class TestExplaining:
    @pytest.mark.usefixtures("explained")
    @pytest.mark.parametrize(
        ("path", "words"),
        [
            ("mirrorpair", ["live copy of volumes", "the conditions say what is wrong"]),
            ("mirrorpair.spec", ["volumes", "mirror", "agents", "paused"]),
            ("mirrorpair.spec.volumes.target", ["claimTemplate", "what the source does not have is deleted"]),
            ("mirrorpair.spec.mirror.maxDeletePercent", ["Guard", "Held until a person confirms"]),
            ("mirrorpair.spec.mirror.confirm", ["status.volumes[].hold", "one hold"]),
            ("mirrorpair.spec.agents.privilege", ["CHOWN", "PodSecurity level baseline", "Restricted"]),
            ("mirrorpair.status.syncedThrough", ["safe"]),
            ("mirrorpair.status.epoch", ["live side"]),
        ],
    )
    def test_kubectl_explain_teaches(self, apiserver: ApiServer, path: str, words: list[str]) -> None:
        text = " ".join(apiserver.kubectl("explain", path).text.split())
        assert [w for w in words if w not in text] == []

    @pytest.mark.usefixtures("explained")
    def test_the_whole_spec_is_told_at_once(self, apiserver: ApiServer) -> None:
        text = apiserver.kubectl("explain", "mirrorpair.spec", "--recursive").text
        assert [w for w in ("claimName", "claimTemplate", "maxDeletePercent", "privilege") if w not in text] == []


def test_it_is_found_by_its_short_name_and_its_category(apiserver: ApiServer, namespace: str) -> None:
    created(apiserver, namespace, pair())
    for word in ("mp", "storagemirror", "mirrorpair.storagemirror.io"):
        assert "orders" in apiserver.kubectl("get", word, "-n", namespace, "-o", "name").text
