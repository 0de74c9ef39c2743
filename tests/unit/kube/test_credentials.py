"""What was read of a pair's accounts and certificates is good for a minute, and for no pass after one that acted."""

from __future__ import annotations

import pytest

from storagemirror.kube.credentials import FRESH_SECONDS, Credentials
from storagemirror.kube.faults import Missing
from storagemirror.kube.gather import Key
from tests.support.world import NAMESPACE, World


class Clock:
    """Stands still unless told."""

    def __init__(self) -> None:
        self.at = 100.0

    def monotonic(self) -> float:
        return self.at

    def now_ns(self) -> int:
        return int(self.at * 1e9)

    def sleep(self, seconds: float) -> None:
        self.at += seconds


def test_within_a_minute_nothing_is_read_again() -> None:
    clock, reads = Clock(), iter(range(10))
    credentials = Credentials(clock)
    assert [credentials.read("a", "Role", lambda: next(reads)) for _ in range(3)] == [0, 0, 0]
    assert credentials.read("b", "Role", lambda: next(reads)) == 1
    clock.at += FRESH_SECONDS
    assert credentials.read("a", "Role", lambda: next(reads)) == 2


def test_all_of_a_pair_grow_old_together() -> None:
    clock = Clock()
    credentials = Credentials(clock)
    credentials.read("a", "Role", lambda: "old")
    clock.at += FRESH_SECONDS / 2
    credentials.read("a", "Secret", lambda: "old")
    clock.at += FRESH_SECONDS / 2
    assert credentials.read("a", "Role", lambda: "new") == "new"
    assert credentials.read("a", "Secret", lambda: "new") == "new"


def test_what_could_not_be_read_is_not_kept() -> None:
    credentials = Credentials(Clock())

    def missing() -> str:
        raise Missing("not there")

    with pytest.raises(Missing):
        credentials.read("a", "Secret", missing)
    assert credentials.read("a", "Secret", lambda: "there") == "there"


def test_what_was_forgotten_is_read_again() -> None:
    credentials = Credentials(Clock())
    credentials.read("a", "Role", lambda: "old")
    credentials.forget("a")
    assert credentials.read("a", "Role", lambda: "new") == "new"


def settled() -> World:
    world = World()
    world.usual()
    world.settle(90)
    assert world.replicates("node-a")
    return world


def test_an_idle_pair_costs_few_requests_a_look() -> None:
    """The pairs, Failovers, Restores, the pods, the Leases; two claims, two orders. (Failovers and Restores only where
    one names the pair, as any may here.) All else is a minute old at most."""
    world = settled()
    before = world.api.requests
    assert not world.pass_once(Key(NAMESPACE, "orders"))
    assert world.api.requests - before == 9


def test_what_somebody_deletes_is_put_back_within_a_minute() -> None:
    world = settled()
    gone = [address for address in world.api.objects if address[0] in ("roles", "secrets") and address[1] == NAMESPACE]
    for address in gone:
        del world.api.objects[address]
    for _ in range(int(FRESH_SECONDS) + 2):
        world.tick()
        world.passes()
    assert len(gone) == 4
    assert all(address in world.api.objects for address in gone)
