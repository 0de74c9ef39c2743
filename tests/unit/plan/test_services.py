"""Services follow the live side: made, turned, and refused where that cannot be done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from storagemirror.api.conditions import ConditionType
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Side, WorkloadKind
from storagemirror.plan.decisions import ApplyService, LabelPod
from storagemirror.plan.objects import Pod, ServiceObject
from storagemirror.plan.observed import Observed
from storagemirror.plan.services import (
    service_steps,
    service_verdict,
    service_warning,
    side_of,
    turned,
)
from storagemirror.resources import labels
from tests.support.fronts import (
    BLIND,
    BOTH_CLOSED,
    LABEL,
    MANAGED,
    ON_TARGET,
    SOURCE,
    STANDBY,
    around,
    foreign,
    made,
    standing,
    workload,
    workloads,
)
from tests.support.seen import NOW, agent, pair, seen


def applied(observed: Observed) -> Mapping[str, Any]:
    """The one manifest that is to be applied."""
    (step,) = service_steps(observed, NOW)
    assert isinstance(step, ApplyService)
    return step.manifest


NEW = applied(around(MANAGED, None))
TURNED = applied(around(MANAGED, None, ON_TARGET))


# Managed


def test_a_managed_service_is_made_for_the_live_sides_pods_and_outlives_the_pair() -> None:
    meta = NEW["metadata"]
    assert (meta["namespace"], meta["name"]) == ("shop", "orders")
    assert meta["labels"] == {labels.APP_MANAGED_BY: "storagemirror", labels.PAIR_NAME: "orders"}
    assert meta["annotations"][labels.PAIR] == "uid-pair"
    assert "ownerReferences" not in meta
    assert NEW["spec"]["selector"] == {"app": "orders"}
    assert NEW["spec"]["ports"] == [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]


def test_it_is_turned_by_its_whole_selector_when_the_live_side_changes() -> None:
    observed = around(MANAGED, made(NEW), ON_TARGET)
    assert side_of(observed.pair) is Side.TARGET
    assert applied(observed)["spec"]["selector"] == {"app": "orders-standby"}


def test_ports_have_names_and_a_target_port_of_their_own_or_the_same() -> None:
    ports = [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"}]
    assert applied(around({"name": "orders", "ports": ports}, None))["spec"]["ports"] == [
        {"name": "http", "port": 80, "targetPort": 80, "protocol": "TCP"},
        {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    ]


def test_one_that_is_as_it_should_be_is_left_alone() -> None:
    assert service_steps(around(MANAGED, made(NEW)), NOW) == ()
    assert service_steps(around(MANAGED, made(NEW, type="LoadBalancer")), NOW) == ()
    another = {"port": 9, "protocol": "TCP"}
    assert service_steps(around(MANAGED, made(NEW, ports=[*NEW["spec"]["ports"], another])), NOW) == ()


CHANGED: dict[str, dict[str, Any]] = {
    "a label more in the selector would select nobody": {"selector": {"app": "orders", "tier": "db"}},
    "no selector": {"selector": {}},
    "another port": {"ports": [{"port": 81, "targetPort": 8080, "protocol": "TCP"}]},
    "another target port": {"ports": [{"port": 80, "targetPort": 81, "protocol": "TCP"}]},
    "publishNotReadyAddresses": {"publishNotReadyAddresses": True},
}


@pytest.mark.parametrize("spec", CHANGED.values(), ids=CHANGED)
def test_what_somebody_changed_in_ours_is_put_right(spec: dict[str, Any]) -> None:
    assert applied(around(MANAGED, made(NEW, **spec))) == NEW


def test_a_port_that_is_not_wanted_any_more_goes() -> None:
    two = {"name": "orders", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}
    one = {"name": "orders", "ports": [{"name": "a", "port": 80}]}
    there = made(applied(around(two, None)))
    assert [p["port"] for p in applied(around(one, there))["spec"]["ports"]] == [80]


def test_nothing_moves_while_both_sides_are_closed() -> None:
    for there in (None, made(NEW), made(TURNED)):
        assert service_steps(around(MANAGED, there, BOTH_CLOSED), NOW) == ()
        assert service_steps(around(MANAGED, there, ON_TARGET | BOTH_CLOSED), NOW) == ()


def test_one_of_an_earlier_pair_of_the_same_name_is_ours_again() -> None:
    earlier = made({**NEW, "metadata": {**NEW["metadata"], "annotations": {labels.PAIR: "uid-earlier"}}})
    assert service_verdict(around(MANAGED, earlier)) is None
    assert applied(around(MANAGED, earlier)) == NEW


def another_pairs() -> ServiceObject:
    marks = {"labels": {labels.APP_MANAGED_BY: "storagemirror", labels.PAIR_NAME: "b"}, "annotations": {}}
    return made({**NEW, "metadata": {**NEW["metadata"], **marks}})


def by_name_alone() -> ServiceObject:
    return made({**NEW, "metadata": {**NEW["metadata"], "labels": {labels.PAIR_NAME: "orders"}}})


@pytest.mark.parametrize(
    "there", [foreign(selector={"app": "orders"}), another_pairs(), by_name_alone()], ids=["user", "pair", "no manager"]
)
def test_one_that_is_not_ours_is_never_touched(there: ServiceObject) -> None:
    for status in ({}, ON_TARGET):
        observed = around(MANAGED, there, status)
        assert service_steps(observed, NOW) == ()
        assert reason(observed) is Reason.SERVICE_NOT_OURS
        assert "not made for this pair" in str(turned(observed))


def test_one_that_is_being_deleted_is_waited_for() -> None:
    leaving = made({**NEW, "metadata": {**NEW["metadata"], "deletionTimestamp": "2026-01-02T03:04:05Z"}})
    assert service_steps(around(MANAGED, leaving, ON_TARGET), NOW) == ()


def test_what_could_not_be_looked_at_changes_nothing_and_is_no_fault() -> None:
    for observed in (
        around(MANAGED, BLIND, ON_TARGET),
        around(MANAGED, made(NEW), ON_TARGET, services={}),
        around(MANAGED, made(NEW), ON_TARGET, workloads={}),
        around(MANAGED, made(NEW), ON_TARGET, workloads=workloads(SOURCE, BLIND)),
        around(LABEL, BLIND, ON_TARGET, pods=BLIND),
        around(LABEL, BLIND, ON_TARGET, pods=(standing(),), workloads=workloads(BLIND, STANDBY)),
    ):
        assert service_steps(observed, NOW) == ()
        assert service_verdict(observed) is None
        assert turned(observed) is not None


def test_where_a_side_has_several_workloads_the_service_says_which_one_answers() -> None:
    sides = {
        "source": {"workloads": [{"kind": "Deployment", "name": n} for n in ("orders", "web")]},
        "target": {"workloads": [{"kind": "Deployment", "name": n} for n in ("orders-standby", "web-standby")]},
    }
    kind = WorkloadKind.DEPLOYMENT
    all_of_them = workloads() | {(kind, n): workload(n) for n in ("web", "web-standby")}
    front = MANAGED | {"workloads": {"source": "web", "target": "web-standby"}}

    def given(service: Mapping[str, Any], status: dict[str, Any]) -> Observed:
        return seen(pair(status, services=[service], sides=sides), workloads=all_of_them, services={"orders": None})

    assert applied(given(front, {}))["spec"]["selector"] == {"app": "web"}
    assert applied(given(front, ON_TARGET))["spec"]["selector"] == {"app": "web-standby"}
    wrong = given(MANAGED | {"workloads": {"source": "web", "target": "nobody"}}, {})
    assert reason(wrong) is Reason.WORKLOAD_MISSING


# Label


SELECTS_LIVE = foreign(selector={labels.LIVE: "orders"})


def label(name: str, value: str | None) -> LabelPod:
    return LabelPod("shop", name, f"uid-{name}", labels.LIVE, value)


def test_the_live_sides_pods_get_the_label_and_the_others_lose_it_first() -> None:
    pods = (
        standing("new"),
        standing("has-it", live="orders"),
        standing("leaving", leaving=True),
        standing("over", status={"phase": "Failed"}),
        standing("old", "orders", live="orders"),
        standing("old-without", "orders"),
        standing("stranger", "another", live="orders"),
        agent(app="orders-standby"),
    )
    observed = around(LABEL, SELECTS_LIVE, ON_TARGET, pods=pods)
    assert service_steps(observed, NOW) == (label("old", None), label("new", "orders"))


def test_labels_stay_while_both_sides_are_closed() -> None:
    observed = around(
        LABEL, SELECTS_LIVE, ON_TARGET | BOTH_CLOSED, pods=(standing(), standing("a", "orders", live="orders"))
    )
    assert service_steps(observed, NOW) == ()


def test_a_managed_service_needs_no_labels_on_pods() -> None:
    assert service_steps(around(MANAGED, made(TURNED), ON_TARGET, pods=(standing(),)), NOW) == ()


def test_a_service_of_the_users_own_is_never_applied() -> None:
    assert service_steps(around(LABEL, None), NOW) == ()
    assert service_steps(around(LABEL, foreign(selector={})), NOW) == ()


# what is wrong


def reason(observed: Observed) -> Reason | str | None:
    found = service_verdict(observed)
    if found is None:
        return None
    assert found.condition is ConditionType.SERVICES_READY
    assert "orders" in found.message
    return found.reason


def test_nothing_is_wrong_with_what_is_as_it_should_be() -> None:
    assert reason(around(MANAGED, None)) is None
    assert reason(around(MANAGED, made(NEW))) is None
    assert reason(around(LABEL, SELECTS_LIVE)) is None
    assert reason(around(LABEL, foreign(selector={labels.LIVE: "orders", "app": "orders"}))) is None


def test_a_label_service_that_is_missing_or_does_not_follow_is_told() -> None:
    assert reason(around(LABEL, None)) is Reason.SERVICE_MISSING
    assert reason(around(LABEL, foreign(selector={"app": "orders"}))) is Reason.SERVICE_UNSAFE
    assert reason(around(LABEL, foreign(selector={labels.LIVE: "another"}))) is Reason.SERVICE_UNSAFE
    unready = foreign(selector={labels.LIVE: "orders"}, publishNotReadyAddresses=True)
    assert reason(around(LABEL, unready)) is Reason.SERVICE_UNSAFE
    assert reason(around(MANAGED, made(NEW, publishNotReadyAddresses=True))) is Reason.SERVICE_UNSAFE


def test_a_workload_that_is_missing_is_named() -> None:
    for service, there in ((MANAGED, None), (LABEL, SELECTS_LIVE)):
        observed = around(service, there, workloads=workloads(SOURCE, None))
        assert reason(observed) is Reason.WORKLOAD_MISSING
        assert "orders-standby" in str(service_verdict(observed))


def test_two_sides_whose_pods_no_service_can_tell_apart_are_refused() -> None:
    same = workload("orders-standby", "orders")
    more = workload("orders-standby", template={"metadata": {"labels": {"app": "orders", "side": "b"}}})
    for target in (same, more):
        assert reason(around(MANAGED, None, workloads=workloads(SOURCE, target))) is Reason.SERVICE_AMBIGUOUS
    wide = workload("orders", template={"metadata": {"labels": {"app": "orders-standby"}}})
    assert reason(around(MANAGED, None, workloads=workloads(wide, STANDBY))) is Reason.SERVICE_AMBIGUOUS


def test_a_selector_that_a_service_cannot_say_is_refused() -> None:
    expressions = {"matchLabels": {"app": "b"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]}
    for selector in (expressions, {}):
        observed = around(MANAGED, None, ON_TARGET, workloads=workloads(SOURCE, workload("b", selector=selector)))
        assert reason(observed) is Reason.SERVICE_AMBIGUOUS
        assert service_steps(observed, NOW) == ()


def test_a_headless_service_gets_a_warning_and_no_more() -> None:
    observed = around(LABEL, foreign(selector={labels.LIVE: "orders"}, clusterIP="None"))
    assert reason(observed) is None
    found = service_warning(observed)
    assert found is not None
    assert found[0] is Reason.SERVICE_HEADLESS
    assert service_warning(around(LABEL, SELECTS_LIVE)) is None
    assert service_warning(around(LABEL, BLIND)) is None


def test_a_pair_without_services_has_nothing_to_say() -> None:
    observed = seen(pods=(standing(),), workloads=workloads())
    assert service_steps(observed, NOW) == ()
    assert (service_verdict(observed), service_warning(observed), turned(observed)) == (None, None, None)


# turned


def test_a_managed_service_is_turned_when_the_object_read_says_so() -> None:
    assert turned(around(MANAGED, made(NEW))) is None
    assert "does not point to the target side" in str(turned(around(MANAGED, made(NEW), ON_TARGET)))
    assert turned(around(MANAGED, made(TURNED), ON_TARGET)) is None
    assert "does not exist" in str(turned(around(MANAGED, None, ON_TARGET)))


def test_a_label_service_is_turned_when_a_live_pod_bears_the_label_and_no_other() -> None:
    def given(*pods: Pod, there: ServiceObject = SELECTS_LIVE) -> str | None:
        return turned(around(LABEL, there, ON_TARGET, pods=pods))

    assert given() is None
    assert given(standing(live="orders"), standing("b")) is None
    assert given(standing(leaving=True)) is None
    assert "no pod of the target side bears" in str(given(standing()))
    old = standing("old", "orders", live="orders")
    assert "pods of the source side still bear" in str(given(standing(live="orders"), old))
    assert "does not select" in str(given(standing(live="orders"), there=foreign(selector={})))


def test_a_pod_that_both_sides_select_is_not_one_of_the_other_side() -> None:
    alike = workloads(SOURCE, workload("orders-standby", "orders"))
    pods = (standing("either", "orders", live="orders"),)
    observed = around(LABEL, SELECTS_LIVE, ON_TARGET, pods=pods, workloads=alike)
    assert service_steps(observed, NOW) == ()
    assert turned(observed) is None
