"""An agent and the small API server of the tests: the contract, and what a real one cannot be made to do at will."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storagemirror.agent.api import ApiClient
from storagemirror.agent.heartbeat import Heartbeat
from storagemirror.agent.orders import Orders
from storagemirror.agent.view import View
from storagemirror.clock import SystemClock
from storagemirror.contract import Order, Phase, Role
from storagemirror.errors import ApiUnavailable
from tests.support.agent_api_contract import ORDER, AgentApiContract, eventually
from tests.support.smallapi import SmallApi, config_map, lease


@pytest.fixture
def api(tmp_path: Path) -> Iterator[SmallApi]:
    api = SmallApi(tmp_path)
    yield api
    api.stop()


class TestSmallApi(AgentApiContract):
    """The small API server keeps the contract."""

    @pytest.fixture
    def namespace(self) -> str:
        return "shop"

    @pytest.fixture
    def name(self) -> str:
        return "orders-data-source"


def test_a_watch_that_is_too_old_is_begun_again_with_what_is_there_now(api: SmallApi) -> None:
    orders = Orders(ApiClient(api.settings()), "shop", "o", Role.SOURCE)
    api.put_order("shop", "o", ORDER)
    thread = threading.Thread(target=orders.follow)
    thread.start()
    assert orders.wait(None, 10.0) == ORDER
    newer = Order(**{**{f: getattr(ORDER, f) for f in ORDER.__struct_fields__}, "revision": 9})
    with api.store.changed:
        api.put_order("shop", "o", newer)
        api.store.expire()
    assert orders.wait(ORDER, 10.0) == newer
    orders.close()
    thread.join(10)
    assert not thread.is_alive()


def test_a_token_that_was_replaced_is_read_again(api: SmallApi) -> None:
    client = ApiClient(api.settings())
    api.put_order("shop", "o", ORDER)
    client.get(config_map("shop", "o"))
    api.renew_token("another-token")
    client.get(config_map("shop", "o"))


def test_a_server_of_another_ca_gets_no_token(api: SmallApi, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    other = SmallApi(tmp_path / "second")
    settings = api.settings()
    wrong = type(settings)(settings.host, settings.port, other.settings().ca_file, settings.token_file)
    with pytest.raises(ApiUnavailable, match="certificate"):
        ApiClient(wrong).get(config_map("shop", "o"))
    assert not api.store.requests
    other.stop()


def test_a_mirror_that_moves_on_is_told_at_most_each_second(api: SmallApi) -> None:
    api.make_lease("shop", "l")
    view = View(1, "uid", SystemClock())
    view.see(phase=Phase.MIRRORING)
    stop = threading.Event()
    heart = Heartbeat(ApiClient(api.settings()), lease("shop", "l"), "pod", view, SystemClock())
    thread = threading.Thread(target=heart.beat, args=(stop,))
    thread.start()
    eventually(lambda: api.store.requests)
    before = len(api.store.requests)
    for i in range(150):
        view.see(through_ns=i)
        time.sleep(0.01)
    assert len(api.store.requests) - before <= 3
    stop.set()
    view.wake()
    thread.join(10)
