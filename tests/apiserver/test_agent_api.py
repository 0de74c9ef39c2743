"""An agent and a real kube-apiserver, with the rights that an agent has and no others."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from storagemirror.agent.settings import ApiSettings
from storagemirror.contract import ORDER_KEY, REPORT_ANNOTATION, Action, Order, Phase, Report, Role, decode, encode
from tests.support.agent_api_contract import AgentApiContract
from tests.support.agents import AgentPair, name_of, wait_for
from tests.support.apiserver import ApiServer
from tests.support.smallapi import config_map, lease

RIGHTS = "/apis/rbac.authorization.k8s.io/v1"


class RealApi:
    """A real API server, seen by one agent."""

    def __init__(self, server: ApiServer, namespace: str, name: str, directory: Path) -> None:
        self._server = server
        self._token = directory / "token"
        client = server.client()
        client.post(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})
        rules = [
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name], "verbs": ["get", "watch"]},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": [name],
                "verbs": ["get", "patch"],
            },
        ]
        client.post(f"{RIGHTS}/namespaces/{namespace}/roles", {"metadata": {"name": name}, "rules": rules})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }
        client.post(f"{RIGHTS}/namespaces/{namespace}/rolebindings", binding)
        self._token.write_text(server.service_account_token(namespace, name))

    def settings(self) -> ApiSettings:
        host, port = self._server.url.removeprefix("https://").split(":")
        return ApiSettings(host, int(port), str(self._server.ca_file), str(self._token))

    def make_lease(self, namespace: str, name: str) -> None:
        self._server.client().post(lease(namespace, "").rstrip("/"), {"metadata": {"name": name}, "spec": {}})

    def put_order(self, namespace: str, name: str, order: Order) -> None:
        self.put_data(namespace, name, {ORDER_KEY: encode(order)})

    def put_data(self, namespace: str, name: str, data: dict[str, str]) -> None:
        client, path = self._server.client(), config_map(namespace, name)
        if client.get(path, check=False).status == 404:
            client.post(config_map(namespace, "").rstrip("/"), {"metadata": {"name": name}, "data": data})
        else:
            client.merge(path, {"data": data})

    def delete_order(self, namespace: str, name: str) -> None:
        self._server.client().delete(config_map(namespace, name))

    def lease(self, namespace: str, name: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self._server.client().get(lease(namespace, name)).text)
        return value

    def report(self, namespace: str, name: str) -> Report | None:
        text = self.lease(namespace, name)["metadata"].get("annotations", {}).get(REPORT_ANNOTATION)
        return None if text is None else decode(Report, text)

    @contextmanager
    def outage(self) -> Iterator[None]:
        self._server.stop_server()
        try:
            yield
        finally:
            self._server.start_server()

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        with self._server.unavailable():
            yield


@pytest.mark.apiserver
def test_two_agents_mirror_and_follow_under_a_real_api_server_and_through_its_outage(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    def api_of(role: Role) -> RealApi:
        directory = tmp_path / f"api-{role}"
        directory.mkdir()
        return RealApi(apiserver, namespace, name_of(role), directory)

    pair = AgentPair(tmp_path, namespace, api_of)
    try:
        for i in range(200):
            (pair.source.volume / str(i)).write_text(f"{i}\n" * i)
        pair.start()
        pair.until(Phase.REPLICATING)
        assert pair.equal()
        with pair.source.api.outage():
            for i in range(8):
                (pair.source.volume / "1").write_text(f"change {i}")
                wait_for(lambda i=i: _read(pair.target.volume / "1") == f"change {i}", "a change", 10, pair.source.log)  # type: ignore[misc]
                time.sleep(1)
        pair.source.give(action=Action.PAUSE)
        pair.until(Phase.PAUSED)
    finally:
        pair.close()


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.apiserver
class TestRealApi(AgentApiContract):
    """The real API server keeps the contract too."""

    @pytest.fixture
    def name(self) -> str:
        return "orders-data-source"

    @pytest.fixture
    def api(self, apiserver: ApiServer, namespace: str, name: str, tmp_path: Path) -> RealApi:
        return RealApi(apiserver, namespace, name, tmp_path)
