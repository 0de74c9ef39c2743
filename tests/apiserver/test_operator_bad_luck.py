"""The operator is killed, cut off, blinded and replaced, and goes on from what the API server holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.contract import Action, Role
from tests.support.apiserver import ApiServer
from tests.support.operator_process import HOME, OperatorProcess, eventually
from tests.support.pairs import CORE, LEASES, Playground
from tests.support.played import live, replicating, usual

pytestmark = pytest.mark.apiserver


@pytest.fixture
def play(apiserver: ApiServer, namespace: str) -> Playground:
    return Playground(apiserver, namespace)


@pytest.fixture
def operator(tmp_path: Path, operator_kubeconfig: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(tmp_path, operator_kubeconfig, namespace=HOME)
    process.start()
    yield process
    if process.alive:
        process.stop()
    print(process.log)


def test_a_pair_is_deleted_with_the_operator_down_and_leaves_nothing(
    apiserver: ApiServer, play: Playground, operator: OperatorProcess
) -> None:
    usual(play)
    eventually("both agents", lambda: len(play.agents()) == 2)
    operator.kill()
    apiserver.start_controllers("garbage-collector-controller")
    play.remove_pair()
    eventually("the pair gone", lambda: not play.pair_exists(), 5)
    eventually("the children gone", lambda: not any(play.children().values()), 60)
    claims = play.listed(CORE.format(play.namespace, "persistentvolumeclaims"))
    assert {c["metadata"]["name"] for c in claims} == {"orders-data", "orders-standby"}


def test_a_pod_that_is_deleted_while_nobody_looks_is_found_after_a_restart(
    play: Playground, operator: OperatorProcess
) -> None:
    replicating(play)
    operator.kill()
    play.remove("pods", play.agents("source")[0]["metadata"]["name"])
    operator.start()
    eventually("the next number", lambda: [p["metadata"]["name"][-2:] for p in live(play, "source")] == ["-2"], 40)


@pytest.mark.parametrize("after", [0.3, 0.9, 1.5, 2.1])
def test_killed_at_any_moment_it_goes_on_from_what_the_api_holds(
    play: Playground, operator: OperatorProcess, after: float
) -> None:
    usual(play)
    time.sleep(after)
    operator.kill()
    operator.start()
    eventually("both agents", lambda: all(len(live(play, r)) == 1 for r in ("source", "target")), 40)
    for role in Role:
        order = play.order(role)
        assert order is not None
        assert live(play, role.value.lower())[0]["metadata"]["annotations"]["storagemirror.io/instance"] == str(
            order.instance
        )


def test_an_api_that_answers_503_for_a_while_does_not_end_the_operator(
    apiserver: ApiServer, play: Playground, operator: OperatorProcess
) -> None:
    replicating(play)
    pid = operator.pid
    with apiserver.unavailable() as answering:
        time.sleep(12)
        assert answering.requests > 0
        assert operator.alive
        assert operator.health()[0] == 200
    play.remove("pods", play.agents("target")[0]["metadata"]["name"])
    eventually("a new target agent", lambda: len(live(play, "target")) == 1, 30)
    assert operator.alive
    assert operator.pid == pid


def test_an_api_that_is_gone_for_a_while_does_not_end_the_operator(
    apiserver: ApiServer, play: Playground, operator: OperatorProcess
) -> None:
    replicating(play)
    apiserver.stop_server()
    time.sleep(12)
    assert operator.alive
    apiserver.start_server()
    play.change({"paused": True})
    eventually("the order to pause", lambda: getattr(play.order(Role.SOURCE), "action", None) is Action.PAUSE, 30)
    assert operator.alive


def test_two_operators_one_leads_and_the_other_follows_its_death(
    play: Playground, operator: OperatorProcess, tmp_path: Path, operator_kubeconfig: Path
) -> None:
    eventually("a leader", lambda: "leading:" in operator.log)
    (tmp_path / "second").mkdir()
    second = OperatorProcess(tmp_path / "second", operator_kubeconfig, namespace=HOME)
    second.start()
    try:
        eventually("the second waits", lambda: "waiting:" in second.log)
        assert second.health()[0] == 200
        operator.kill()
        usual(play)
        eventually("both agents", lambda: len(play.agents()) == 2, 40)
        assert "leading:" in second.log
    finally:
        second.stop()


def test_an_operator_that_is_told_to_stop_gives_its_lease_back(play: Playground, operator: OperatorProcess) -> None:
    eventually("a leader", lambda: "leading:" in operator.log)
    eventually("it listens to signals", lambda: operator.health()[0] == 200)
    time.sleep(1)
    assert operator.stop() == 0
    lease = play.api.get(LEASES.format(HOME) + "/storagemirror-operator").value
    assert not lease["spec"].get("holderIdentity")


def test_an_operator_that_waits_for_the_lead_ends_when_told_to(
    operator: OperatorProcess, tmp_path: Path, operator_kubeconfig: Path
) -> None:
    """As the first process of a container it would else ignore the signal, and be killed half a minute later."""
    eventually("a leader", lambda: "leading:" in operator.log)
    (tmp_path / "second").mkdir()
    second = OperatorProcess(tmp_path / "second", operator_kubeconfig, namespace=HOME)
    second.start()
    eventually("the second waits", lambda: "waiting:" in second.log)
    assert second.stop() == 0
    assert operator.alive


def test_without_any_watch_the_resync_finds_everything(
    apiserver: ApiServer, play: Playground, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    """A watch can die silently. Here the operator may not watch at all, and its passes come from the resync."""
    role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/storagemirror:operator"
    client = apiserver.client()
    before = client.get(role).value
    blind = [
        rule | {"verbs": [v for v in rule["verbs"] if v != "watch" or rule["resources"] == ["configmaps"]]}
        for rule in before["rules"]
    ]
    client.merge(role, {"rules": blind})
    process = OperatorProcess(tmp_path, operator_kubeconfig, namespace=HOME, resync=2)
    process.start()
    try:
        usual(play)
        eventually("both agents", lambda: len(play.agents()) == 2, 40)
        play.remove("pods", play.agents("source")[0]["metadata"]["name"])
        eventually("a new source agent", lambda: len(live(play, "source")) == 1, 20)
        assert process.alive
    finally:
        process.stop()
        client.merge(role, {"rules": before["rules"]})
