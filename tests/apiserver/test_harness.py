"""What the other tests here stand on: the server stops, starts, refuses, and knows who asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.apiserver import ApiServer

pytestmark = pytest.mark.apiserver


def test_while_it_is_stopped_nobody_answers_and_afterwards_nothing_is_lost(
    apiserver: ApiServer, namespace: str
) -> None:
    apiserver.stop_server()
    try:
        with pytest.raises(ConnectionRefusedError):
            apiserver.client().get("/readyz")
    finally:
        apiserver.start_server()
    assert apiserver.client().get(f"/api/v1/namespaces/{namespace}").status == 200


def test_it_can_answer_503_at_its_own_address(apiserver: ApiServer, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    with apiserver.unavailable() as broken:
        refused = apiserver.client().post("/api/v1/namespaces", {"metadata": {"name": "x"}}, check=False)
        assert (refused.status, refused.value["reason"], broken.requests) == (503, "ServiceUnavailable", 1)
    assert apiserver.client().get(path).status == 200


def test_a_service_account_is_who_it_says_and_may_nothing_by_itself(apiserver: ApiServer, namespace: str) -> None:
    client = apiserver.client(apiserver.service_account_token(namespace, "default"))
    refused = client.get(f"/api/v1/namespaces/{namespace}/pods", check=False)
    assert refused.status == 403
    assert f"system:serviceaccount:{namespace}:default" in refused.message
    assert apiserver.requests_of(namespace, "default") == [(f"list /api/v1/namespaces/{namespace}/pods", 403)]


def test_the_operators_account_may_what_the_chart_gives_it(apiserver: ApiServer, operator_kubeconfig: Path) -> None:
    for verb, what, answer in (
        ("list", "mirrorpairs", "yes"),
        ("delete", "mirrorpairs", "no"),
        ("list", "pods", "yes"),
    ):
        said = apiserver.kubectl(
            "auth", "can-i", verb, what, "--all-namespaces", "--kubeconfig", operator_kubeconfig, check=False
        )
        assert said.text.splitlines()[0] == answer, (verb, what)
