"""A real API whose user can be killed at any write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes import client as k8s
from kubernetes import config as k8s_config

from storagemirror.clock import SystemClock
from storagemirror.kube.client import Api
from storagemirror.kube.throttle import Throttle
from tests.support.fake_api import Killed


def real_client(kubeconfig: Path) -> k8s.ApiClient:
    """A client of the server that `kubeconfig` names."""
    configuration = k8s.Configuration()
    k8s_config.load_kube_config(str(kubeconfig), client_configuration=configuration)
    return k8s.ApiClient(configuration)


class FragileApi(Api):
    """As `Api`; raises `Killed` before (False) or after (True) the write number `kill_at[0]`."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(real_client(kubeconfig), Throttle(SystemClock(), per_second=500, burst=500))
        self.kill_at: tuple[int, bool] | None = None

    def request(
        self,
        method: str,
        where: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        kind: str = "",
        user: str = "",
    ) -> bytes:
        writes = method != "GET" and "dryRun" not in (query or {})
        if writes and self.kill_at == (self.writes + 1, False):
            raise Killed
        answer = super().request(method, where, query=query, body=body, kind=kind, user=user)
        if writes and self.kill_at == (self.writes, True):
            raise Killed
        return answer
