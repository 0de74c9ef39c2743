"""The operator finds the API server as its pod does: by the address in its environment."""

from __future__ import annotations

import kopf
import pytest

from storagemirror.handlers.watches import by_address

ACCOUNT = kopf.ConnectionInfo(server="https://kubernetes.default.svc", token="t")


@pytest.mark.parametrize(
    ("environment", "server"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}, "https://10.96.0.1:443"),
        ({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}, "https://[fd00::1]:6443"),
        ({}, "https://kubernetes.default.svc"),
    ],
)
def test_watches_need_no_cluster_dns(environment: dict[str, str], server: str) -> None:
    found = by_address(ACCOUNT, environment)
    assert (found.server, found.token) == (server, "t")
