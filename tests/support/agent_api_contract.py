"""What an agent needs of an API server; run against the small one of the tests and against a real one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import pytest

from storagemirror.agent.api import ApiClient, ApiRefused
from storagemirror.agent.heartbeat import Heartbeat
from storagemirror.agent.orders import Orders
from storagemirror.agent.settings import ApiSettings
from storagemirror.agent.view import View
from storagemirror.clock import SystemClock, from_rfc3339
from storagemirror.contract import Action, Order, Phase, Report, Role
from storagemirror.errors import ApiUnavailable

ORDER = Order(
    pair_uid="uid-1",
    pair_name="orders",
    namespace="shop",
    volume="data",
    role=Role.SOURCE,
    revision=1,
    instance=1,
    epoch=1,
)


class Api(Protocol):
    """An API server, with the operator's rights."""

    def settings(self) -> ApiSettings: ...
    def make_lease(self, namespace: str, name: str) -> None: ...
    def put_order(self, namespace: str, name: str, order: Order) -> None: ...
    def put_data(self, namespace: str, name: str, data: dict[str, str]) -> None: ...
    def delete_order(self, namespace: str, name: str) -> None: ...
    def lease(self, namespace: str, name: str) -> dict[str, Any]: ...
    def report(self, namespace: str, name: str) -> Report | None: ...
    def outage(self) -> AbstractContextManager[None]: ...
    def unavailable(self) -> AbstractContextManager[None]: ...


def eventually(true: Callable[[], object], seconds: float = 15.0) -> None:
    """Fail unless it becomes true in time."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.01)


class Following:
    """An agent's order and heartbeat threads, against one API server."""

    def __init__(self, api: Api, namespace: str, name: str) -> None:
        self.view = View(1, "pod-uid", SystemClock())
        self.orders = Orders(ApiClient(api.settings()), namespace, name, Role.SOURCE)
        path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{name}"
        self.heart = Heartbeat(ApiClient(api.settings()), path, "pod-1", self.view, SystemClock())
        self.heart.on_recovered = self.orders.refresh
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self.orders.follow),
            threading.Thread(target=self.heart.beat, args=(self._stop,)),
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._stop.set()
        self.orders.close()
        self.view.wake()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


class AgentApiContract:
    """The promises. A subclass gives the fixtures `api`, `namespace` and `name` (of order and Lease)."""

    @pytest.fixture
    def following(self, api: Api, namespace: str, name: str) -> Iterator[Following]:
        following = Following(api, namespace, name)
        yield following
        following.close()

    def test_what_is_not_there_and_what_is_not_allowed_is_refused(self, api: Api, namespace: str) -> None:
        with pytest.raises(ApiRefused) as e:
            ApiClient(api.settings()).get(f"/api/v1/namespaces/{namespace}/configmaps/none")
        assert e.value.status in (403, 404)
        assert e.value.hint

    def test_an_order_that_comes_late_is_found_and_each_change_is_seen_at_once(
        self, api: Api, namespace: str, name: str, following: Following
    ) -> None:
        eventually(lambda: following.orders.problem() is not None)
        assert following.orders.current() is None
        api.put_order(namespace, name, ORDER)
        assert following.orders.wait(None, 20.0) == ORDER
        for revision in range(2, 6):
            known = following.orders.current()
            action = Action.PAUSE if revision % 2 else Action.RUN
            order = Order(**{**_fields(ORDER), "revision": revision, "action": action})
            start = time.monotonic()
            api.put_order(namespace, name, order)
            assert following.orders.wait(known, 10.0) == order
            assert time.monotonic() - start < 3.0

    def test_an_order_that_cannot_be_read_leaves_the_last_one_standing(
        self, api: Api, namespace: str, name: str, following: Following
    ) -> None:
        api.put_order(namespace, name, ORDER)
        assert following.orders.wait(None, 20.0) == ORDER
        api.put_data(namespace, name, {"order.json": "{}"})
        eventually(lambda: following.orders.problem() is not None)
        problem = following.orders.problem()
        assert problem is not None
        assert problem.reason == "OrderInvalid"
        assert following.orders.current() == ORDER
        api.delete_order(namespace, name)
        newer = Order(**{**_fields(ORDER), "revision": 2})
        api.put_order(namespace, name, newer)
        assert following.orders.wait(ORDER, 20.0) == newer
        assert following.orders.problem() is None

    def test_the_lease_is_renewed_and_news_come_at_once(
        self, api: Api, namespace: str, name: str, following: Following
    ) -> None:
        api.make_lease(namespace, name)
        eventually(lambda: api.report(namespace, name) is not None)
        spec = api.lease(namespace, name)["spec"]
        assert spec["holderIdentity"] == "pod-1"
        assert abs(from_rfc3339(spec["renewTime"]) / 1e9 - time.time()) < 10
        start = time.monotonic()
        following.view.see(phase=Phase.REPLICATING)
        eventually(lambda: _phase(api.report(namespace, name)) is Phase.REPLICATING)
        assert time.monotonic() - start < 2.0

    @pytest.mark.parametrize("kind", ["gone", "503"])
    def test_after_an_outage_the_new_order_is_there_within_seconds(
        self, api: Api, namespace: str, name: str, following: Following, kind: str
    ) -> None:
        api.make_lease(namespace, name)
        api.put_order(namespace, name, ORDER)
        assert following.orders.wait(None, 20.0) == ORDER
        with api.outage() if kind == "gone" else api.unavailable():
            eventually(lambda: _unavailable(api.settings(), namespace, name))
            time.sleep(2)
            assert following.orders.current() == ORDER
        newer = Order(**{**_fields(ORDER), "revision": 2})
        api.put_order(namespace, name, newer)
        assert following.orders.wait(ORDER, 25.0) == newer


def _fields(order: Order) -> dict[str, Any]:
    return {f: getattr(order, f) for f in order.__struct_fields__}


def _phase(report: Report | None) -> Phase | None:
    return report.phase if report else None


def _unavailable(settings: ApiSettings, namespace: str, name: str) -> bool:
    try:
        ApiClient(settings).get(f"/api/v1/namespaces/{namespace}/configmaps/{name}")
    except ApiUnavailable:
        return True
    except ApiRefused:
        return False
    return False
