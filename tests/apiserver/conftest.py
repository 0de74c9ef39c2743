"""A real API server for the whole session, with our CRDs; a namespace of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.api.model import GROUP, VERSION
from tests.cluster.command import run
from tests.cluster.layout import checkout
from tests.cluster.tools import ensure_tools
from tests.support.apiserver import ApiServer


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """etcd and kube-apiserver, built if need be (minutes, once), with the CRDs of the checkout."""
    tools = ensure_tools(("hyperkube", "kubectl"))
    server = ApiServer(tmp_path_factory.mktemp("apiserver"), tools["hyperkube"], [tools["kubectl"]])
    try:
        server.start()
        server.apply(checkout() / "crds")
        yield server
    finally:
        server.stop()


@pytest.fixture
def namespace(apiserver: ApiServer) -> str:
    """A fresh namespace, with the service account `default`. The pairs of earlier tests are removed: an operator would
    have to look after them all before it comes to those of this test."""
    client = apiserver.client()
    where = f"/apis/{GROUP}/{VERSION}"
    listed = client.get(f"{where}/mirrorpairs", check=False)  # 404 while the CRD is new, or gone with a test
    pairs = listed.value["items"] if listed.status == 200 else []
    for old in {pair["metadata"]["namespace"] for pair in pairs}:
        client.delete(f"{where}/namespaces/{old}/mirrorpairs")
    return apiserver.namespace(f"t-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="session")
def operator_kubeconfig(apiserver: ApiServer, chart: Path) -> Path:
    """A kubeconfig with the rights that the chart gives to the operator, and no more."""
    helm = ensure_tools(("helm",))["helm"]
    home, name = "storagemirror-system", "storagemirror"
    only = ("--show-only=templates/rbac.yaml", "--show-only=templates/serviceaccount.yaml")
    apiserver.namespace(home)
    apiserver.kubectl("apply", "-f", "-", stdin=run(helm, "template", name, chart, "--namespace", home, *only).stdout)
    return apiserver.kubeconfig("operator", apiserver.service_account_token(home, name))


@pytest.fixture(scope="session")
def chart() -> Path:
    """The chart's directory."""
    return checkout() / "charts" / "storagemirror"
