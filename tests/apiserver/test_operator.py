"""The operator, a process with the chart's rights, against a real API server. The test plays everybody else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storagemirror.contract import Action, Phase, Problem, Role
from tests.support.apiserver import ApiServer
from tests.support.operator_process import HOME, OperatorProcess, eventually
from tests.support.pairs import CORE, LEASES, MIRRORED_AT, PAIRS, RBAC, Playground
from tests.support.played import replicating, usual

pytestmark = pytest.mark.apiserver


@pytest.fixture(scope="module")
def leader(tmp_path_factory: pytest.TempPathFactory, operator_kubeconfig: Path) -> Iterator[OperatorProcess]:
    """One operator for all tests of this file; each has a namespace of its own."""
    process = OperatorProcess(tmp_path_factory.mktemp("operator"), operator_kubeconfig, namespace=HOME)
    process.start()
    yield process
    process.stop()
    print(process.log)


@pytest.fixture
def play(apiserver: ApiServer, namespace: str) -> Playground:
    return Playground(apiserver, namespace)


KINDS = ("ConfigMap", "Lease", "Pod", "Role", "RoleBinding", "Secret", "ServiceAccount")


def test_a_pair_gets_everything_that_its_agents_need(play: Playground, leader: OperatorProcess) -> None:
    usual(play)
    eventually("both agents", lambda: len(play.agents()) == 2)
    assert play.children() == dict.fromkeys(KINDS, 2)
    assert play.status()["epoch"] == 1
    assert play.status()["activeSide"] == "Source"


def test_everything_goes_with_the_pair(play: Playground, leader: OperatorProcess) -> None:
    usual(play)
    eventually("both agents", lambda: len(play.agents()) == 2)
    pair = play.get_pair()["metadata"]
    assert "finalizers" not in pair
    assert not any("kopf" in key for key in pair.get("annotations", {}))
    core = [CORE.format(play.namespace, kind) for kind in ("configmaps", "secrets", "serviceaccounts", "pods")]
    rest = [RBAC.format(play.namespace, kind) for kind in ("roles", "rolebindings")]
    for where in (*core, *rest, LEASES.format(play.namespace)):
        for found in play.listed(f"{where}?labelSelector=app.kubernetes.io/component=agent"):
            owners = found["metadata"]["ownerReferences"]
            assert [o["uid"] for o in owners] == [pair["uid"]]
            assert owners[0].get("controller", False) == (where.endswith("/pods"))
            assert not owners[0].get("blockOwnerDeletion", False)


def test_metrics_say_what_the_status_says_and_go_with_the_pair(play: Playground, leader: OperatorProcess) -> None:
    replicating(play)
    pair = f'namespace="{play.namespace}",pair="orders"'
    lag = f'storagemirror_lag_seconds{{{pair},volume="data"}}'
    eventually("the lag", lambda: f"{lag} 0.0" in leader.metrics())
    assert f'storagemirror_condition{{{pair},status="True",type="Replicating"}} 1.0' in leader.metrics()
    play.report(Role.SOURCE, peer_connected=True, mirrored_at=MIRRORED_AT, lag_seconds=7.2)
    eventually("a lag that has just been told", lambda: f"{lag} 8.0" in leader.metrics())
    play.report(Role.SOURCE, peer_connected=True, mirrored_at=MIRRORED_AT, lag_seconds=None)
    eventually("no lag where none is known", lambda: lag not in leader.metrics())
    assert pair in leader.metrics()
    play.api.delete(f"{PAIRS.format(play.namespace)}/orders")
    eventually("no series of a pair that is gone", lambda: pair not in leader.metrics())


def test_agents_come_to_replicate_and_the_columns_say_so(play: Playground, leader: OperatorProcess) -> None:
    replicating(play)
    shown = play.server.kubectl("get", "mp", "-n", play.namespace, "orders").text.split()
    for word in ("PHASE", "LIVE", "EPOCH", "LAG", "READY", "Replicating", "Source", "1", "0s", "True"):
        assert word in shown
    order = play.order(Role.SOURCE)
    assert order is not None
    assert order.peer is not None
    assert order.peer.address == "10.0.0.9"
    waited = play.server.kubectl(
        "wait", "-n", play.namespace, "mp/orders", "--for=condition=Replicating", "--timeout=5s"
    )
    assert waited.status == 0


def test_an_agents_token_opens_its_own_order_and_lease_and_nothing_else(
    play: Playground, leader: OperatorProcess
) -> None:
    usual(play)
    eventually("both agents", lambda: len(play.agents()) == 2)
    mine, other = (play.agents(role)[0]["spec"]["serviceAccountName"] for role in ("source", "target"))
    agent = play.server.client(play.server.service_account_token(play.namespace, mine))
    orders, leases = CORE.format(play.namespace, "configmaps"), LEASES.format(play.namespace)
    assert agent.get(f"{orders}/{mine}").status == 200
    assert agent.merge(f"{leases}/{mine}", {"spec": {"holderIdentity": "me"}}).status == 200
    for path in (f"{orders}/{other}", f"{leases}/{other}", CORE.format(play.namespace, "secrets") + f"/{mine}", orders):
        assert agent.get(path, check=False).status == 403
    assert agent.merge(f"{orders}/{mine}", {"data": {"order.json": "{}"}}, check=False).status == 403


def test_a_spec_reaches_both_orders_within_seconds(play: Playground, leader: OperatorProcess) -> None:
    replicating(play)
    play.change({"paused": True, "mirror": {"confirm": "t-1"}})

    def told() -> bool:
        orders = [play.order(role) for role in Role]
        return all(o is not None and (o.action, o.mirror.confirm) == (Action.PAUSE, "t-1") for o in orders)

    eventually("both orders", told, 3)


def test_the_agent_follows_the_application_to_another_node_within_five_seconds(
    play: Playground, leader: OperatorProcess
) -> None:
    replicating(play)
    old = play.agents("source")[0]["metadata"]["uid"]
    play.remove("pods", "orders-0")
    play.writer("orders-1", "orders-data", "node-c")
    began = time.monotonic()

    def followed() -> bool:
        found = {p["metadata"]["uid"]: p["metadata"] for p in play.agents("source")}
        new = [m for uid, m in found.items() if uid != old]
        leaving = old not in found or "deletionTimestamp" in found[old]
        return leaving and [m["annotations"]["storagemirror.io/node"] for m in new] == ["node-c"]

    eventually("the agent beside the application", followed, 5)
    print(f"moved after {time.monotonic() - began:.1f} s")


def test_a_namespace_of_the_level_restricted_refuses_baseline_and_takes_restricted(
    play: Playground, leader: OperatorProcess
) -> None:
    where = f"/api/v1/namespaces/{play.namespace}"
    usual(play)
    play.api.merge(where, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}})
    for pod in play.agents():
        play.remove("pods", pod["metadata"]["name"])
    eventually("the refusal", lambda: play.says("Stalled", "True", "PodSecurityRefused"), 20)
    eventually("the event", lambda: ("Warning", "PodSecurityRefused") in play.events())
    play.change({"agents": {"privilege": "Restricted"}})
    eventually("restricted agents", lambda: len(play.agents()) == 2, 20)
    assert {p["spec"]["securityContext"]["runAsNonRoot"] for p in play.agents()} == {True}


def test_a_namespace_of_the_level_baseline_takes_baseline(play: Playground, leader: OperatorProcess) -> None:
    where = f"/api/v1/namespaces/{play.namespace}"
    play.api.merge(where, {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}})
    usual(play)
    eventually("both agents", lambda: len(play.agents()) == 2)


def _limit_range(play: Playground) -> Callable[[], None]:
    where = CORE.format(play.namespace, "limitranges")
    most = [{"type": "Container", "max": {"memory": "64Mi"}, "default": {"memory": "32Mi"}}]
    play.api.post(where, {"metadata": {"name": "small"}, "spec": {"limits": most}})
    return lambda: play.remove("limitranges", "small", grace=None)


def _quota(play: Playground) -> Callable[[], None]:
    where = CORE.format(play.namespace, "resourcequotas")
    hard = {"pods": "1"}
    play.api.post(where, {"metadata": {"name": "few"}, "spec": {"hard": hard}})
    play.api.merge(f"{where}/few/status", {"status": {"hard": hard, "used": {"pods": "1"}}})
    return lambda: play.remove("resourcequotas", "few", grace=None)


@pytest.mark.parametrize(
    ("wall", "reason"),
    [(_limit_range, "LimitRangeRefused"), (_quota, "QuotaExceeded")],
    ids=["limit range", "quota"],
)
def test_what_admission_refuses_has_its_reason_and_goes_on_by_itself(
    play: Playground,
    leader: OperatorProcess,
    wall: Callable[[Playground], Callable[[], None]],
    reason: str,
) -> None:
    play.claim("orders-data")
    play.claim("orders-standby")
    play.writer("orders-0", "orders-data")
    take_down = wall(play)
    play.pair()
    eventually(f"Stalled: {reason}", lambda: play.says("Stalled", "True", reason), 20)
    eventually("the event", lambda: ("Warning", reason) in play.events())
    assert play.agents() == []
    assert play.children()["ConfigMap"] == 0
    take_down()
    eventually("both agents", lambda: len(play.agents()) == 2, 30)


def test_a_missing_claim_is_told_and_made_up_for(play: Playground, leader: OperatorProcess) -> None:
    play.claim("orders-standby")
    play.pair()
    eventually("ClaimMissing", lambda: play.says("ClaimsReady", "False", "ClaimMissing"))
    eventually("a warning", lambda: ("Warning", "ClaimMissing") in play.events())
    play.claim("orders-data")
    play.writer("orders-0", "orders-data")
    eventually("both agents", lambda: len(play.agents()) == 2)


def test_a_target_claim_is_made_from_its_template(play: Playground, leader: OperatorProcess) -> None:
    play.claim("orders-data")
    play.writer("orders-0", "orders-data")
    wanted = {"resources": {"requests": {"storage": "3Gi"}}}
    target = {"claimName": "orders-standby", "claimTemplate": wanted}
    play.pair(volumes=[{"name": "data", "source": {"claimName": "orders-data"}, "target": target}])
    claims = CORE.format(play.namespace, "persistentvolumeclaims")
    eventually("the claim", lambda: len(play.listed(claims)) == 2)
    made = next(c for c in play.listed(claims) if c["metadata"]["name"] == "orders-standby")
    assert made["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert "ownerReferences" not in made["metadata"]
    play.bind("orders-standby")
    eventually("both agents", lambda: len(play.agents()) == 2)


def test_of_two_pairs_on_one_target_the_younger_waits(play: Playground, leader: OperatorProcess) -> None:
    replicating(play)
    play.claim("other-data")
    play.writer("other-0", "other-data")
    taken = {"name": "data", "source": {"claimName": "other-data"}, "target": {"claimName": "orders-standby"}}
    time.sleep(1.1)
    play.pair("younger", volumes=[taken])
    eventually("TargetClaimTaken", lambda: play.says("Stalled", "True", "TargetClaimTaken", "younger"))
    assert len(play.agents()) == 2
    assert play.says("Ready", "True", "Replicating")


def test_names_of_63_characters_work(play: Playground, leader: OperatorProcess) -> None:
    name, volume = "p" * 63, "v" * 63
    play.claim("orders-data")
    play.claim("orders-standby")
    play.writer("orders-0", "orders-data")
    claims = {"source": {"claimName": "orders-data"}, "target": {"claimName": "orders-standby"}}
    play.pair(name, volumes=[{"name": volume, **claims}])
    eventually("both agents", lambda: len(play.agents()) == 2)
    play.replicate(name)
    eventually("Replicating", lambda: play.says("Ready", "True", "Replicating", name))


def test_a_hold_is_shown_and_its_confirmation_passed_on(play: Playground, leader: OperatorProcess) -> None:
    replicating(play)
    problem = Problem(reason="MassDelete", message="12 of 20 files would go.", token="t-7", retrying=False)
    play.report(Role.TARGET, phase=Phase.HELD, peer_connected=True, problem=problem)
    eventually("Held", lambda: play.says("Held", "True", "MassDelete"))
    assert play.status()["phase"] == "Held"
    assert play.status()["volumes"][0]["hold"]["token"] == "t-7"
    eventually("the event", lambda: ("Warning", "MassDelete") in play.events())


def test_an_idle_pair_is_left_in_peace(play: Playground, leader: OperatorProcess) -> None:
    replicating(play)
    play.beat()
    time.sleep(2)
    before = play.get_pair()["metadata"]["resourceVersion"]
    time.sleep(8)
    assert play.get_pair()["metadata"]["resourceVersion"] == before
