"""Keys: once each, one thread a key, with delays and retries; and how events become keys."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import pytest

from storagemirror.contract import Role
from storagemirror.handlers.health import STALE_SECONDS, Pulse, serve_health
from storagemirror.handlers.interest import Interest
from storagemirror.handlers.listener import Listener
from storagemirror.handlers.queue import LAST_RETRY, WorkQueue
from storagemirror.handlers.watches import BACKOFF_CAP, Endless, Watches
from storagemirror.kube.endings import Endings
from storagemirror.kube.gather import Key
from tests.support.world import KEY, HeldClock, World

A, B = Key("shop", "a"), Key("shop", "b")


def queue() -> tuple[WorkQueue, HeldClock]:
    clock = HeldClock()
    return WorkQueue(clock), clock


def test_a_key_that_is_added_twice_is_given_once() -> None:
    q, _ = queue()
    q.add(A)
    q.add(A)
    assert q.take(0) == A
    q.done(A)
    assert q.take(0) is None


def test_while_a_thread_has_a_key_no_other_gets_it() -> None:
    q, _ = queue()
    q.add(A)
    assert q.take(0) == A
    q.add(A)
    q.add(B)
    assert q.take(0) == B
    assert q.take(0) is None
    q.done(A)
    assert q.take(0) == A


def test_a_delay_is_kept_and_shortened_by_what_comes_sooner() -> None:
    q, clock = queue()
    q.add(A, after=10)
    assert q.take(0) is None
    q.add(A, after=1)
    clock.sleep(1)
    assert q.take(0) == A
    q.done(A)
    clock.sleep(20)
    assert q.take(0) is None


def test_retries_come_later_each_time_and_never_end() -> None:
    q, clock = queue()
    q.add(A)
    assert q.take(0) == A
    waits = []
    for _ in range(8):
        q.retry(A)
        began = clock.monotonic()
        while q.take(0) is None:
            clock.sleep(0.05)
        waits.append(clock.monotonic() - began)
    assert waits == sorted(waits)
    assert waits[0] <= 0.3
    assert waits[-1] == pytest.approx(LAST_RETRY, abs=0.1)


def test_the_wait_between_requests_to_a_dead_api_is_short_and_endless() -> None:
    waits = iter(Endless())
    assert [next(waits) for _ in range(1000)][-1] == BACKOFF_CAP


def test_an_event_of_a_writer_wakes_just_the_pairs_of_its_claim() -> None:
    q, _ = queue()
    interest = Interest()
    interest.note(A, frozenset({"data", "standby"}))
    interest.note(B, frozenset({"other"}))
    watches = Watches(q, interest, Endings(), heard=lambda: None)
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "emptyDir": {}}]
    watches.pod("shop", {"metadata": {"name": "p"}, "spec": {"volumes": volumes}})
    watches.pod("elsewhere", {"metadata": {"name": "p"}, "spec": {"volumes": volumes}})
    assert q.take(0) == A
    assert q.take(0) is None


def test_a_claim_of_no_pair_wakes_nobody_and_one_that_changed_hands_the_new_pair() -> None:
    q, _ = queue()
    interest = Interest()
    watches = Watches(q, interest, Endings(), heard=lambda: None)
    interest.note(A, frozenset({"data"}))
    interest.note(A, frozenset())
    interest.note(B, frozenset({"data"}))
    watches.claim("shop", "data")
    watches.claim("shop", "unknown")
    assert q.take(0) == B
    assert q.take(0) is None
    assert interest.keys() == {B}


def test_our_own_status_writes_wake_nobody() -> None:
    q, _ = queue()
    watches = Watches(q, Interest(), Endings(), heard=lambda: None)
    meta = {"uid": "u", "namespace": "shop", "name": "a", "generation": 1}
    watches.pair(None, meta)
    assert q.take(0) == A
    q.done(A)
    watches.pair("MODIFIED", meta)
    assert q.take(0) is None
    watches.pair("MODIFIED", meta | {"generation": 2})
    assert q.take(0) == A
    q.done(A)
    watches.pair("DELETED", meta | {"generation": 2})
    assert q.take(0) == A


def test_an_agents_pod_wakes_its_pair() -> None:
    q, _ = queue()
    watches = Watches(q, Interest(), Endings(), heard=lambda: None)
    owner = {"kind": "MirrorPair", "name": "a"}
    meta = {"name": "p", "labels": {"storagemirror.io/pair": "u"}, "ownerReferences": [owner]}
    watches.pod("shop", {"metadata": meta, "spec": {}})
    assert q.take(0) == A


def test_the_listener_wakes_a_pair_for_news_and_now_and_then_for_figures() -> None:
    world = World()
    world.usual()
    world.settle()
    q = WorkQueue(world.clock)
    listener = Listener(world.api, world.heartbeats, q, world.clock)
    listener.once()
    assert q.take(0) == KEY
    q.done(KEY)
    woken = 0
    for _ in range(60):
        world.tick()
        listener.once()
        if q.take(0) is not None:
            woken += 1
            q.done(KEY)
    assert woken == 2
    world.silent.update(Role)
    for _ in range(20):
        world.tick()
        listener.once()
    assert q.take(0) == KEY


def test_a_loop_that_hangs_is_not_healthy() -> None:
    clock = HeldClock()
    pulse = Pulse(clock)
    server = serve_health(pulse, 0)
    url = f"http://127.0.0.1:{server.server_address[1]}/healthz"
    try:
        pulse.beat("resync")
        with urllib.request.urlopen(url) as answer:
            assert answer.read() == b"ok\n"
        clock.sleep(STALE_SECONDS + 1)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(url)
        assert error.value.code == 503
        assert b"resync hangs" in error.value.read()
    finally:
        server.shutdown()
        server.server_close()


def test_a_node_wakes_the_pairs_that_write_there_when_it_is_called_another_thing() -> None:
    q, _ = queue()
    interest = Interest()
    interest.note_nodes(A, frozenset({"n1"}))
    interest.note_nodes(B, frozenset({"n2"}))
    watches = Watches(q, interest, Endings(), heard=lambda: None)
    node: dict[str, Any] = {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    watches.node(None, node)
    assert q.take(0) == A
    q.done(A)
    watches.node("MODIFIED", node | {"metadata": {"name": "n1", "resourceVersion": "2"}})
    assert q.take(0) is None, "a node's own heartbeat is no news"
    watches.node("MODIFIED", node | {"spec": {"taints": [{"key": "node.kubernetes.io/out-of-service"}]}})
    assert q.take(0) == A
    q.done(A)
    watches.node("DELETED", node)
    assert q.take(0) == A


def test_a_failover_wakes_the_pair_that_it_names_also_where_there_is_none() -> None:
    q, _ = queue()
    interest = Interest()
    watches = Watches(q, interest, Endings(), heard=lambda: None)
    body = {"metadata": {"name": "f", "uid": "u"}, "spec": {"pairName": "a"}}
    watches.request("ADDED", "shop", body)
    assert q.take(0) == A
    assert interest.named(A)
    q.done(A)
    watches.request("DELETED", "shop", body)
    assert q.take(0) == A
    assert not interest.named(A)


def test_the_end_of_a_writer_is_kept_although_its_object_goes() -> None:
    q, _ = queue()
    interest, endings = Interest(), Endings()
    interest.note(A, frozenset({"data"}))
    watches = Watches(q, interest, endings, heard=lambda: None)
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    running = {"name": "c", "containerID": "c://1", "state": {"running": {}}}
    ended = {"name": "c", "containerID": "c://1", "state": {"terminated": {"exitCode": 0}}}
    done = [{"type": "Ready", "status": "False", "reason": "PodCompleted"}]
    pod: dict[str, Any] = {"metadata": {"name": "p", "uid": "u1"}, "spec": {"volumes": volumes, "nodeName": "n1"}}
    watches.pod("shop", pod | {"status": {"phase": "Failed", "containerStatuses": [running]}})
    assert endings.known() == frozenset()
    watches.pod("shop", pod | {"status": {"phase": "Succeeded", "containerStatuses": [ended], "conditions": done}})
    assert endings.known() == {"u1"}


def test_a_service_of_ours_wakes_its_pair() -> None:
    q, _ = queue()
    watches = Watches(q, Interest(), Endings(), heard=lambda: None)
    watches.service("shop", {"storagemirror.io/pair-name": "a"})
    assert q.take(0) == A
