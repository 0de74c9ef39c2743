"""The operator's own Failovers: what they are called, and how many are kept."""

from __future__ import annotations

from storagemirror.resources import labels
from storagemirror.resources.failover import NAME_LIMIT, automatic_name, is_automatic
from tests.support.failover_world import FailoverWorld
from tests.support.world import NAMESPACE


def test_it_is_named_for_the_pair_and_the_attempt() -> None:
    assert automatic_name("orders", 3, ()) == "orders-3"


def test_a_name_that_is_taken_is_not_taken_over() -> None:
    assert automatic_name("orders", 3, {"orders-3"}) == "orders-3-1"
    assert automatic_name("orders", 3, {"orders-3", "orders-3-1"}) == "orders-3-2"


def test_long_names_are_shortened_and_stay_apart() -> None:
    names = {automatic_name("o" * 62 + end, attempt, ()) for end in "ab" for attempt in (1, 2, 1234567)}
    assert len(names) == 6
    assert all(len(name) <= NAME_LIMIT for name in names)


def test_the_label_alone_says_who_made_it() -> None:
    assert is_automatic({labels.AUTOMATIC: "true"})
    assert not is_automatic({})


def test_of_the_operator_s_own_that_have_ended_ten_are_kept_and_a_person_s_all() -> None:
    world = FailoverWorld()
    world.protected()
    world.run(10)
    for number in range(14):
        for name, marks in ((f"own-{number:02}", {labels.AUTOMATIC: "true"}), (f"mine-{number:02}", {})):
            spec = {"pairName": "orders", "fromEpoch": 9, "mode": "Unplanned"}
            world.api.put(
                "failovers", {"metadata": {"name": name, "namespace": NAMESPACE, "labels": marks}, "spec": spec}
            )
        world.clock.sleep(1.0)
    world.run(5)
    left = {f["metadata"]["name"] for f in world.api.all("failovers")}
    assert {name for name in left if name.startswith("own-")} == {f"own-{number:02}" for number in range(4, 14)}
    assert len([name for name in left if name.startswith("mine-")]) == 14


def test_a_failover_of_the_operator_s_name_that_somebody_made_is_left_alone() -> None:
    world = FailoverWorld()
    world.protected(failover={"approval": "Automatic", "sufficientProof": ["Proven", "Attested"]})
    world.run(15)
    world.failover("orders-1", epoch=7)
    world.run(2)
    assert world.told("orders-1")["phase"] == "Superseded"
    world.power_off("node-a")
    world.attest("node-a")
    world.run(25)
    assert world.operation()["name"] == "orders-1-1"
    assert world.told("orders-1-1")["phase"] == "Completed"
