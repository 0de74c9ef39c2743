"""The operator, a process with the chart's rights, against a real API server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.apiserver import ApiServer
from tests.support.operator_process import OperatorProcess, eventually
from tests.support.pairs import Playground

pytestmark = pytest.mark.apiserver

HOME = "storagemirror-system"


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


def test_a_pair_gets_everything_that_its_agents_need(play: Playground, operator: OperatorProcess) -> None:
    play.claim("orders-data")
    play.claim("orders-standby")
    play.writer("orders-0", "orders-data")
    play.pair()
    eventually("both agents", lambda: len(play.agents()) == 2)
    assert play.children() == dict.fromkeys(
        ("ConfigMap", "Lease", "Pod", "Role", "RoleBinding", "Secret", "ServiceAccount"), 2
    )
