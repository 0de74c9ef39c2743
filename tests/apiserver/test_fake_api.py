"""The API in memory that the unit tests use makes the same promises as the real one.

And what those tests find out about crashes is found out once more on the real one.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from storagemirror.clock import SystemClock
from storagemirror.contract import Role
from storagemirror.kube import paths
from storagemirror.kube.authority import CertificateAuthority
from storagemirror.kube.client import Api
from storagemirror.kube.credentials import Credentials
from storagemirror.kube.events import Events
from storagemirror.kube.execute import Executor
from storagemirror.kube.faults import Conflict, Missing
from storagemirror.kube.gather import Key, Sources
from storagemirror.kube.heartbeats import Heartbeats
from storagemirror.kube.passes import Reconciler
from storagemirror.plan.objects import PartialObject, Pod
from storagemirror.resources.pod import Image
from tests.support.apiserver import ApiServer
from tests.support.fake_api import FakeApi, Killed
from tests.support.fragile import FragileApi
from tests.support.pairs import Playground

pytestmark = pytest.mark.apiserver


@pytest.fixture(params=["in memory", "real"])
def api(request: pytest.FixtureRequest, apiserver: ApiServer, namespace: str) -> Api:
    if request.param == "real":
        return FragileApi(apiserver.kubeconfig())
    return FakeApi(lambda: datetime.now(UTC))


def config_map(namespace: str, **data: str) -> dict[str, Any]:
    meta = {"name": "one", "namespace": namespace, "labels": {"app": "x"}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def pod(namespace: str, name: str = "p", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "c", "image": "i"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": containers, **spec},
    }


def read(api: Api, namespace: str) -> dict[str, Any]:
    return api.get(dict[str, Any], paths.CONFIG_MAPS, namespace, "one")


def test_what_is_not_there_is_missing(api: Api, namespace: str) -> None:
    with pytest.raises(Missing):
        read(api, namespace)


def test_what_is_there_cannot_be_made_again(api: Api, namespace: str) -> None:
    api.create(paths.CONFIG_MAPS, config_map(namespace))
    with pytest.raises(Conflict):
        api.create(paths.CONFIG_MAPS, config_map(namespace))


def test_a_dry_run_makes_nothing(api: Api, namespace: str) -> None:
    api.create(paths.CONFIG_MAPS, config_map(namespace), dry_run=True)
    with pytest.raises(Missing):
        read(api, namespace)
    assert api.writes == 0


def test_a_replacement_names_the_version_that_it_replaces(api: Api, namespace: str) -> None:
    api.create(paths.CONFIG_MAPS, config_map(namespace, a="1"))
    version = read(api, namespace)["metadata"]["resourceVersion"]
    changed = config_map(namespace, a="2")
    changed["metadata"]["resourceVersion"] = version
    api.replace(paths.CONFIG_MAPS, changed)
    with pytest.raises(Conflict):
        api.replace(paths.CONFIG_MAPS, changed)
    assert read(api, namespace)["data"] == {"a": "2"}
    assert read(api, namespace)["metadata"]["uid"]


def test_a_write_that_changes_nothing_gives_no_new_version(api: Api, namespace: str) -> None:
    for _ in range(2):
        api.apply(paths.CONFIG_MAPS, config_map(namespace, a="1"))
    before = read(api, namespace)["metadata"]["resourceVersion"]
    api.apply(paths.CONFIG_MAPS, config_map(namespace, a="1"))
    assert read(api, namespace)["metadata"]["resourceVersion"] == before


def test_apply_makes_what_is_missing_and_changes_what_is_there(api: Api, namespace: str) -> None:
    api.apply(paths.CONFIG_MAPS, config_map(namespace, a="1"))
    uid = read(api, namespace)["metadata"]["uid"]
    api.apply(paths.CONFIG_MAPS, config_map(namespace, a="2"))
    assert (read(api, namespace)["metadata"]["uid"], read(api, namespace)["data"]) == (uid, {"a": "2"})


def test_lists_are_of_one_namespace_and_of_what_the_labels_say(api: Api, namespace: str) -> None:
    api.create(paths.CONFIG_MAPS, config_map(namespace))
    names = {p.metadata.name for p in api.list(PartialObject, paths.CONFIG_MAPS, namespace, labels="app=x")}
    assert names == {"one"}
    assert api.list(PartialObject, paths.CONFIG_MAPS, namespace, labels="app=y") == []
    assert "one" in {p.metadata.name for p in api.list(PartialObject, paths.CONFIG_MAPS, labels="app=x")}


def test_metadata_alone_holds_no_data(api: Api, namespace: str) -> None:
    api.create(paths.CONFIG_MAPS, config_map(namespace, secret="x"))
    found = api.get_metadata(dict[str, Any], paths.CONFIG_MAPS, namespace, "one")
    assert found["metadata"]["name"] == "one"
    assert "secret" not in json.dumps(found["metadata"].get("labels", {})) + json.dumps(found.get("data", {}))


def test_a_delete_hits_only_the_uid_that_was_meant(api: Api, namespace: str) -> None:
    api.create(paths.PODS, pod(namespace))
    with pytest.raises(Conflict):
        api.delete(paths.PODS, namespace, "p", uid="another")
    api.delete(paths.PODS, namespace, "p", uid=api.get(Pod, paths.PODS, namespace, "p").metadata.uid)
    with pytest.raises(Missing):
        api.get(Pod, paths.PODS, namespace, "p")


def test_a_pod_that_has_a_node_goes_only_when_its_kubelet_says_so(api: Api, namespace: str) -> None:
    api.create(paths.PODS, pod(namespace, nodeName="n"))
    api.delete(paths.PODS, namespace, "p", uid=api.get(Pod, paths.PODS, namespace, "p").metadata.uid)
    assert api.get(Pod, paths.PODS, namespace, "p").leaving


def _operator(api: FragileApi) -> Reconciler:
    clock = SystemClock()
    authority = CertificateAuthority(api, "default", clock)
    image = Image("storagemirror:test")
    sources = Sources(api, Heartbeats(clock), image, authority.authority, clock, lambda targets: {}, Credentials(clock))
    return Reconciler(sources, Executor(api, authority), Events(api, clock), clock, lambda: True)


def _drive(operator: Reconciler, key: Key) -> None:
    for _ in range(12):
        try:
            if not operator.run(key).wrote:
                return
        except Conflict:
            continue


def test_killed_at_any_write_the_real_api_comes_to_the_same_end(apiserver: ApiServer) -> None:
    number = 0
    while True:
        number += 1
        died = [_killed_at(apiserver, number, after) for after in (False, True)]
        if not any(died):
            break
    assert number > 10


def _killed_at(apiserver: ApiServer, number: int, after: bool) -> bool:
    play = Playground(apiserver, apiserver.namespace(f"k-{number}-{'after' if after else 'before'}"))
    key = Key(play.namespace, "orders")
    play.claim("orders-data")
    play.claim("orders-standby")
    play.writer("orders-0", "orders-data")
    play.pair()
    api = FragileApi(apiserver.kubeconfig())
    api.kill_at = (number, after)
    died = False
    try:
        _drive(_operator(api), key)
    except Killed:
        died = True
    again = FragileApi(apiserver.kubeconfig())
    _drive(_operator(again), key)
    assert set(play.children().values()) == {2}
    for role in Role:
        order = play.order(role)
        pods = play.agents(role.value.lower())
        assert order is not None
        assert [p["metadata"]["annotations"]["storagemirror.io/instance"] for p in pods] == [str(order.instance)]
    writes = again.writes
    _drive(_operator(again), key)
    assert again.writes == writes
    return died


def test_a_status_is_written_by_compare_and_swap(apiserver: ApiServer, namespace: str) -> None:
    play = Playground(apiserver, namespace)
    play.pair()
    stale = play.get_pair()
    api = FragileApi(apiserver.kubeconfig())
    api.replace_status(paths.PAIRS, {**stale, "status": {"epoch": 1, "activeSide": "Source"}})
    with pytest.raises(Conflict):
        api.replace_status(paths.PAIRS, {**stale, "status": {"epoch": 1, "activeSide": "Source", "phase": "Paused"}})


def test_a_kubeconfig_is_all_that_a_client_needs(apiserver: ApiServer, tmp_path: Path) -> None:
    api = FragileApi(apiserver.kubeconfig())
    assert api.list(PartialObject, paths.PAIRS) is not None
