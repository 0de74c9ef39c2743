"""The rights that the chart gives to the operator are enough: it gets all its work done and is refused nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from storagemirror.contract import Role
from tests.support.apiserver import ApiServer
from tests.support.operator_process import OperatorProcess, eventually
from tests.support.pairs import CORE, Playground

pytestmark = pytest.mark.apiserver

HOME = "storagemirror-system"


def test_a_pairs_whole_life_needs_no_right_that_the_chart_does_not_give(
    apiserver: ApiServer, namespace: str, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    play = Playground(apiserver, namespace)
    operator = OperatorProcess(tmp_path, operator_kubeconfig, namespace=HOME)
    template = {"storageClassName": "fast", "resources": {"requests": {"storage": "10Gi"}}}
    target = {"claimName": "orders-standby", "claimTemplate": template}
    volume = {"name": "data", "source": {"claimName": "orders-data"}, "target": target}
    apiserver.client().post(
        "/apis/storage.k8s.io/v1/storageclasses", {"metadata": {"name": "fast"}, "provisioner": "x"}
    )
    apiserver.client().post("/api/v1/nodes", {"metadata": {"name": "node-a"}}, check=False)
    play.claim("orders-data")
    play.writer("orders-0", "orders-data")

    # Operators of earlier tests had the same account, and were refused things on purpose.
    earlier = len(apiserver.requests_of(HOME, "storagemirror"))

    def requests() -> list[tuple[str, int]]:
        return apiserver.requests_of(HOME, "storagemirror")[earlier:]

    def asked(path: str) -> bool:
        return any(path in what for what, _ in requests())

    operator.start()
    try:
        play.pair(volumes=[volume])
        made = CORE.format(namespace, "persistentvolumeclaims") + "/orders-standby"
        eventually("the target claim", lambda: play.api.get(made, check=False).status == 200)
        eventually("a look at the class of the claim that is not bound", lambda: asked("/storageclasses/fast"))
        play.bind("orders-standby")
        eventually("both agents", lambda: len(play.agents()) == 2)
        play.replicate()
        eventually("a whole copy", lambda: play.says("Ready", "True", "Replicating"))
        assert play.events() != []
        orders = [play.order(role) for role in Role]
        play.change({"mirror": {"confirm": "token"}})
        eventually("new orders", lambda: [play.order(role) for role in Role] != orders)
        play.change({"agents": {"podLabels": {"team": "shop"}}})
        eventually("agents made anew", lambda: "team" in str(play.agents("source")[-1]["metadata"]["labels"]))
        eventually("a look at the node of an agent that is silent", lambda: asked("/nodes/node-"), 40)
        assert operator.stop() == 0
    finally:
        if operator.alive:
            operator.kill()
    assert [what for what, status in requests() if status == 403] == [], operator.log
