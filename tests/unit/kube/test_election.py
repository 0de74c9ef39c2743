"""One leader, whatever happens to clocks, replicas and the API server."""

from __future__ import annotations

import threading

import pytest

from storagemirror.errors import ApiUnavailable, Superseded
from storagemirror.kube.election import LEASE_SECONDS, Election
from storagemirror.kube.heartbeats import Heartbeats
from storagemirror.kube.throttle import Throttle
from storagemirror.plan.objects import Lease, LeaseSpec, Meta
from tests.support.fake_api import FakeApi
from tests.support.world import HOME, HeldClock


def candidates(count: int = 2) -> tuple[FakeApi, HeldClock, list[Election]]:
    clock = HeldClock()
    api = FakeApi(lambda: clock.moment)
    found = [Election(api, clock, namespace=HOME, name="lead", identity=f"op-{i}") for i in range(count)]
    return api, clock, found


def test_the_first_leads_and_the_second_waits() -> None:
    _, _, (first, second) = candidates()
    assert first.step()
    assert not second.step()
    assert (first.leading(), second.leading()) == (True, False)


def test_a_lease_that_is_given_back_is_taken_at_once() -> None:
    _, _, (first, second) = candidates()
    first.step()
    first.release()
    assert not first.leading()
    assert second.step()


def test_a_dead_leader_is_followed_when_its_lease_has_been_seen_unchanged_long_enough() -> None:
    _, clock, (first, second) = candidates()
    first.step()
    assert not second.step()
    clock.sleep(LEASE_SECONDS)
    assert not second.step()
    clock.sleep(1)
    assert second.step()
    assert not first.leading()


def test_the_old_leader_stops_before_the_new_one_can_begin() -> None:
    _, clock, (first, second) = candidates()
    first.step()
    second.step()
    for _ in range(LEASE_SECONDS + 5):
        clock.sleep(1)
        began = second.step()
        assert not (first.leading() and second.leading())
        if began:
            return
    raise AssertionError("nobody followed")


def test_while_the_api_is_down_the_leader_stops_acting_and_goes_on_afterwards() -> None:
    api, clock, (first, _) = candidates()
    first.step()
    api.down = True
    clock.sleep(30)
    with pytest.raises(ApiUnavailable):
        first.step()
    assert not first.leading()
    api.down = False
    assert first.step()
    assert first.leading()


def test_a_leader_that_finds_anothers_name_ends() -> None:
    _, clock, (first, second) = candidates()
    first.step()
    second.step()
    clock.sleep(LEASE_SECONDS + 1)
    second.step()
    with pytest.raises(Superseded):
        first.keep(threading.Event())
    assert not first.leading()


def test_a_second_life_of_one_pod_is_another() -> None:
    api, clock, (first, _) = candidates()
    first.step()
    again = Election(api, clock, namespace=HOME, name="lead", identity="op-0-reborn")
    assert not again.step()


def lease(renewed: str) -> Lease:
    return Lease(metadata=Meta(uid="u", name="l"), spec=LeaseSpec(renew_time=renewed))


def test_silence_is_counted_by_our_own_clock() -> None:
    clock = HeldClock()
    ears = Heartbeats(clock)
    ears.listened([lease("1999-01-01T00:00:00Z")])
    for _ in range(5):
        clock.sleep(2)
        ears.listened([lease("1999-01-01T00:00:00Z")])
    assert ears.heard(lease("1999-01-01T00:00:00Z")).silent_for == 10
    assert ears.heard(lease("1999-01-01T00:00:01Z")).silent_for == 0


def test_time_in_which_we_could_not_listen_does_not_count() -> None:
    clock = HeldClock()
    ears = Heartbeats(clock)
    ears.listened([lease("x")])
    clock.sleep(600)
    ears.listened([lease("x")])
    assert ears.heard(lease("x")).silent_for <= 4


def test_calls_are_spread_when_there_are_too_many() -> None:
    clock = HeldClock()
    gate = Throttle(clock, per_second=10, burst=5)
    for _ in range(25):
        gate.wait()
    assert clock.monotonic() == pytest.approx(2.0)


class EndAfter(threading.Event):
    """Not set until it was waited for `rounds` times; takes no time."""

    def __init__(self, rounds: int) -> None:
        super().__init__()
        self._left = rounds

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        return self._left < 0


def test_a_leader_gives_a_sign_of_life_at_each_renewal_and_not_only_before_it_led() -> None:
    _, _, (first, _) = candidates()
    signs: list[str] = []
    first.acquire(tried=lambda: signs.append("acquire"))
    first.keep(EndAfter(3), tried=lambda: signs.append("keep"))
    assert signs == ["acquire", "keep", "keep", "keep"]
