"""Does the live side answer? A connection says so, or its readiness after a while; nothing of the other side does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from storagemirror.api.mirrorpair import MirrorPair
from storagemirror.plan.objects import EndpointSlice
from storagemirror.plan.observed import Observed, Reached
from storagemirror.plan.services import ANSWER_PATIENCE, answers, targets_to_reach
from tests.support.fronts import (
    BLIND,
    MANAGED,
    ON_TARGET,
    STANDBY,
    around,
    foreign,
    standing,
    workload,
    workloads,
)
from tests.support.seen import NOW, pair, seen

TURNED = foreign(selector={"app": "orders-standby"})


def endpoint(
    ip: str = "10.0.1.7", of: str | None = "standby-1", *, uid: str | None = None, **state: bool
) -> dict[str, Any]:
    ref = {"kind": "Pod", "name": of, "uid": uid or f"uid-{of}"} if of is not None else None
    return {"addresses": [ip], "conditions": {"ready": True, **state}, **({"targetRef": ref} if ref else {})}


def slices(
    *endpoints: dict[str, Any], ports: tuple[int, ...] = (8080,), protocol: str = "TCP"
) -> tuple[EndpointSlice, ...]:
    told = [{"port": p, "protocol": protocol} for p in ports]
    return (msgspec.convert({"endpoints": list(endpoints), "ports": told}, EndpointSlice),)


def asked(there: Any, *reached: Reached, pods: Any = (), service: Mapping[str, Any] = MANAGED) -> Observed:
    """While it is verified whether the standby answers."""
    given = {"pods": pods or (standing(),), "endpoints": {"orders": there}, "reached": {"orders": reached}}
    return around(service, TURNED, ON_TARGET, **given)


def test_a_slice_without_endpoints_as_the_api_server_writes_it_is_one_that_nobody_is_behind() -> None:
    """Its lists are null, not empty."""
    empty = msgspec.json.decode(
        b'{"metadata": {"name": "orders-x"}, "endpoints": null, "ports": null}', type=EndpointSlice
    )
    found = answers(asked((empty,)), NOW, None)
    assert isinstance(found, str)
    assert targets_to_reach(asked((empty,))) in ({}, {"orders": ()})


OPEN = Reached("10.0.1.7:8080", connected=True)
SHUT = Reached("10.0.1.7:8080", connected=False, why="timed out")


def how(observed: Observed, *, for_seconds: float | None = None) -> str:
    """Of the one answer; or what is missing, after `missing: `."""
    since = None if for_seconds is None else NOW - timedelta(seconds=for_seconds)
    found = answers(observed, NOW, since)
    if isinstance(found, str):
        return f"missing: {found}"
    (one,) = found
    assert (one.service, one.at) == ("orders", "2026-01-02T03:04:05Z")
    return one.how


def test_a_connection_to_a_ready_endpoint_of_the_live_side_is_an_answer() -> None:
    assert how(asked(slices(endpoint()), OPEN)) == "10.0.1.7:8080 accepted a connection"
    several = slices(endpoint(), endpoint("10.0.1.8"))
    assert how(asked(several, SHUT, Reached("10.0.1.8:8080", True))) == "10.0.1.8:8080 accepted a connection"


NOT_READY: dict[str, tuple[EndpointSlice, ...]] = {
    "no slices": (),
    "no endpoints": slices(),
    "not ready": slices(endpoint(ready=False)),
    "on its way out": slices(endpoint(terminating=True)),
}


@pytest.mark.parametrize("there", NOT_READY.values(), ids=NOT_READY)
def test_without_a_ready_endpoint_nothing_answers_however_long_it_takes(there: tuple[EndpointSlice, ...]) -> None:
    assert "no endpoint that is Ready" in how(asked(there, OPEN), for_seconds=600)


def test_an_endpoint_that_does_not_say_counts_as_ready() -> None:
    silent = endpoint()
    del silent["conditions"]
    assert how(asked(slices(silent), OPEN)) == "10.0.1.7:8080 accepted a connection"


STRANGERS = {
    "a pod of the other side": endpoint("10.0.1.9", "orders-0"),
    "a pod of the same name that is another": endpoint("10.0.1.9", uid="uid-earlier"),
    "no pod": endpoint("10.0.1.9", None),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=STRANGERS)
def test_an_endpoint_that_is_not_of_the_live_side_is_no_answer(stranger: dict[str, Any]) -> None:
    pods = (standing(), standing("orders-0", "orders"))
    assert "not of the live side: 10.0.1.9" in how(
        asked(slices(endpoint(), stranger), OPEN, pods=pods), for_seconds=600
    )
    going = slices(endpoint(), stranger | {"conditions": {"ready": False}})
    assert how(asked(going, OPEN, pods=pods)) == "10.0.1.7:8080 accepted a connection"


def test_readiness_is_taken_where_nothing_can_be_reached_from_the_operator_and_that_is_said() -> None:
    observed = asked(slices(endpoint()), SHUT)
    assert how(observed).startswith("missing: ")
    assert how(observed, for_seconds=ANSWER_PATIENCE - 1).startswith("missing: ")
    assert how(observed, for_seconds=ANSWER_PATIENCE) == (
        "its endpoints are Ready; none could be connected to from the operator (10.0.1.7:8080: timed out)"
    )


def test_a_connection_to_what_was_an_endpoint_a_moment_ago_is_no_answer() -> None:
    assert how(asked(slices(endpoint("10.0.1.8")), OPEN)).startswith("missing: ")


@pytest.mark.parametrize("protocol", ["UDP", "SCTP"])
def test_without_a_tcp_port_readiness_is_enough(protocol: str) -> None:
    observed = asked(slices(endpoint(), protocol=protocol))
    assert "none of its ports is TCP" in how(observed)
    assert targets_to_reach(observed) == {}


def test_what_could_not_be_looked_at_is_no_answer() -> None:
    for observed in (
        asked(BLIND, OPEN),
        asked(slices(endpoint()), OPEN, pods=BLIND),
        around(MANAGED, TURNED, ON_TARGET, pods=(standing(),)),
    ):
        assert "could not be looked at" in how(observed, for_seconds=600)


def test_every_service_must_answer() -> None:
    both = [MANAGED, MANAGED | {"name": "admin"}]
    given = {"pods": (standing(),), "workloads": workloads(), "reached": {"orders": (OPEN,), "admin": (OPEN,)}}
    one = seen(pair(ON_TARGET, services=both), endpoints={"orders": slices(endpoint()), "admin": slices()}, **given)
    assert "Service admin" in str(answers(one, NOW, None))
    all_of_them = {"orders": slices(endpoint()), "admin": slices(endpoint())}
    found = answers(seen(pair(ON_TARGET, services=both), endpoints=all_of_them, **given), NOW, None)
    assert not isinstance(found, str)
    assert [a.service for a in found] == ["orders", "admin"]


def bare(of: MirrorPair, target: Any) -> tuple[Any, ...] | str:
    return answers(seen(of, workloads=workloads(None, target)), NOW, None)


def test_a_pair_without_services_answers_when_its_live_workloads_have_ready_pods() -> None:
    found = bare(pair(ON_TARGET), workload("orders-standby", replicas=3))
    assert not isinstance(found, str)
    assert [(a.service, a.how) for a in found] == [("", "Deployment orders-standby: 3 of 3 pods Ready")]
    for target, words in (
        (workload("orders-standby", replicas=0), "no pod that is Ready"),
        (None, "does not exist"),
        (BLIND, "503"),
    ):
        assert words in str(bare(pair(ON_TARGET), target))
    assert "names no workloads" in str(bare(pair(ON_TARGET, sides=None), STANDBY))


# what to connect to


def test_at_most_three_tcp_addresses_of_ready_endpoints_of_the_live_side_are_tried() -> None:
    many = slices(*(endpoint(f"10.0.1.{n}") for n in range(7, 12)))
    assert targets_to_reach(asked(many)) == {"orders": ("10.0.1.7:8080", "10.0.1.8:8080", "10.0.1.9:8080")}
    mixed = slices(
        endpoint("10.0.1.1", "orders-0"), endpoint("10.0.1.2", ready=False), endpoint("fd00::7"), ports=(80, 81)
    )
    assert targets_to_reach(asked(mixed)) == {"orders": ("[fd00::7]:80", "[fd00::7]:81")}
    for nothing in (BLIND, (), slices()):
        assert targets_to_reach(asked(nothing)) == {}
    assert targets_to_reach(asked(many, pods=BLIND)) == {}
