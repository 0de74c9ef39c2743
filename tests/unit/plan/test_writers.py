"""Whoever was seen mounting a claim is a writer until its end is proven; absence, time and wishes prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storagemirror.api.conditions import ConditionStatus
from storagemirror.api.operation import FENCED, OperationPhase
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import Side
from storagemirror.api.status import Writer
from storagemirror.plan.objects import Node, Pod
from storagemirror.plan.observed import Observed, Unseen
from storagemirror.plan.writers import (
    IN_TOUCH_SECONDS,
    MOST_WRITERS,
    fenceable,
    has_ended,
    known_since,
    overflow,
    tracked,
)
from tests.support.seen import ENDED, NOW, TARGET_CLAIM, after, agent, ago, node, operation, pod, seen, writer

DECIDING = (*sorted(FENCED), OperationPhase.SWITCHING, OperationPhase.VERIFYING)
BLIND = Unseen("503")


def names(observed: Observed, now: datetime = NOW) -> list[str]:
    return [w.name for w in tracked(observed, now)]


# who is on the list


def test_every_pod_that_mounts_a_claim_is_a_writer_of_that_side() -> None:
    pods = (
        pod("orders-0"),
        pod("debug", node="node-b"),
        pod("standby", claims=(TARGET_CLAIM,)),
        pod("copier", claims=(TARGET_CLAIM, "orders-data")),
        pod("stranger", claims=("another",)),
    )
    found = {w.name: (w.side, w.node, w.since, w.gone_since) for w in tracked(seen(pods=pods), NOW)}
    assert found == {
        "orders-0": (Side.SOURCE, "node-a", ago(0), None),
        "debug": (Side.SOURCE, "node-b", ago(0), None),
        "standby": (Side.TARGET, "node-a", ago(0), None),
        "copier": (Side.SOURCE, "node-a", ago(0), None),
    }


def test_an_agent_is_no_writer() -> None:
    assert names(seen(pods=(agent(), agent("b", TARGET_CLAIM)))) == []


def test_a_pod_that_has_ended_before_it_was_seen_is_none() -> None:
    assert names(seen(pods=(pod(status=ENDED),))) == []
    assert names(seen(pods=(pod(),), ended=frozenset({"uid-orders-0"}))) == []


def test_the_node_is_remembered_once_it_is_known_and_the_first_sight_stays() -> None:
    first = writer(on="")
    found = tracked(after(first, pods=(pod(),)), NOW)
    assert found == (first.model_copy(update={"node": "node-a"}),)


def test_what_could_not_be_looked_at_changes_nothing() -> None:
    known = (writer(), writer("b", gone=7200))
    assert tracked(after(*known, pods=BLIND, nodes={"node-a": node()}), NOW) == known


def test_a_pod_that_is_gone_is_marked_once_and_unmarked_when_it_is_seen_again() -> None:
    assert tracked(after(writer(), pods=()), NOW)[0].gone_since == ago(0)
    assert tracked(after(writer(gone=30), pods=()), NOW)[0].gone_since == ago(30)
    assert tracked(after(writer(gone=30), pods=(pod(),)), NOW)[0].gone_since is None


def test_the_order_of_the_list_does_not_change() -> None:
    known = (writer("z"), writer("a"))
    pods = tuple(pod(name) for name in ("m", "a", "c", "z"))
    assert names(after(*known, pods=pods)) == ["z", "a", "c", "m"]
    assert names(after(*known, pods=pods[::-1])) == ["z", "a", "c", "m"]


def test_more_than_fit_are_told_and_those_that_stood_there_first_stay() -> None:
    known = tuple(writer(f"z-{n}") for n in range(MOST_WRITERS))
    pods = tuple(pod(w.name) for w in known)
    full = after(*known, pods=pods, every_node=(node(),), status={"writersKnownSince": ago(60)})
    assert not overflow(full, NOW)
    assert fenceable(full).status is ConditionStatus.TRUE
    more = after(*known, pods=(pod("a"), *pods), every_node=(node(),), status={"writersKnownSince": ago(60)})
    assert overflow(more, NOW)
    assert tracked(more, NOW) == known
    assert (fenceable(more).status, fenceable(more).reason) == (ConditionStatus.UNKNOWN, Reason.WRITERS_UNKNOWN)
    assert known_since(more, NOW) is None


# what takes a writer off it


def test_an_object_that_was_read_as_ended_takes_it_off() -> None:
    assert names(after(writer(), pods=(pod(status=ENDED, leaving=True),))) == []


def test_the_word_of_a_watch_takes_it_off_although_the_object_is_gone() -> None:
    assert names(after(writer(), pods=(), ended=frozenset({"uid-orders-0"}))) == []


def test_another_pod_of_the_same_name_proves_nothing() -> None:
    found = tracked(after(writer(), pods=(pod(uid="uid-new", status=ENDED),)), NOW)
    assert [w.uid for w in found] == ["uid-orders-0"]


def test_absence_proves_nothing() -> None:
    """The naive rule, object gone: the application wrote on in every one of these."""
    gone = writer(gone=7200)
    cut_off: tuple[dict[str, Node | Unseen | None], ...] = (
        {},
        {"node-a": None},
        {"node-a": BLIND},
        {"node-a": node(ready=False)},
        {"node-a": node(ready=False, off=True)},
        {"node-a": node(since=ago(60))},
    )
    for nodes in cut_off:
        assert names(after(gone, pods=(), nodes=nodes)) == ["orders-0"]


def test_a_kubelet_that_has_been_in_touch_for_long_has_ended_what_the_api_no_longer_has() -> None:
    nodes = {"node-a": node(since=ago(IN_TOUCH_SECONDS))}
    assert names(after(writer(gone=IN_TOUCH_SECONDS), pods=(), nodes=nodes)) == []
    assert names(after(writer(gone=IN_TOUCH_SECONDS - 1), pods=(), nodes=nodes)) == ["orders-0"]
    late = {"node-a": node(since=ago(IN_TOUCH_SECONDS - 1))}
    assert names(after(writer(gone=7200), pods=(), nodes=late)) == ["orders-0"]


def test_a_node_that_does_not_say_since_when_it_is_ready_is_not_in_touch() -> None:
    unsaid = node(since="")
    assert names(after(writer(gone=7200), pods=(), nodes={"node-a": unsaid})) == ["orders-0"]


@pytest.mark.parametrize("phase", DECIDING)
def test_while_an_operation_decides_only_what_was_read_counts(phase: OperationPhase) -> None:
    status = {"operation": operation(phase)}
    there = {"nodes": {"node-a": node()}, "every_node": (node(),)}
    assert names(after(writer(gone=7200), pods=(), status=status, **there)) == ["orders-0"]
    assert names(after(writer(on="", gone=7200), pods=(), status=status, **there)) == ["orders-0"]
    assert names(after(writer(gone=7200), pods=(), status=status, ended=frozenset({"uid-orders-0"}), **there)) == []


@pytest.mark.parametrize("phase", sorted(set(OperationPhase) - set(DECIDING)))
def test_while_none_does_time_counts_too(phase: OperationPhase) -> None:
    status = {"operation": operation(phase)}
    assert names(after(writer(gone=7200), pods=(), status=status, nodes={"node-a": node()})) == []


def test_a_pod_that_vanished_before_it_had_a_node_may_have_been_bound_to_any() -> None:
    gone = writer(on="", gone=7200)
    assert names(after(gone, pods=(), every_node=(node(), node("node-b")))) == []
    for nodes in (None, BLIND, (), (node(), node("node-b", ready=False)), (node(), node("node-b", since=ago(60)))):
        assert names(after(gone, pods=(), every_node=nodes)) == ["orders-0"]
    recent = writer(on="", gone=60)
    assert names(after(recent, pods=(), every_node=(node(),))) == ["orders-0"]


STATES: dict[str, Callable[[], Pod | Unseen | None]] = {
    "running": pod,
    "leaving": lambda: pod(leaving=True),
    "terminated, to restart": lambda: pod(status={**ENDED, "phase": "Running"}, leaving=True),
    "failed by PodGC": lambda: pod(status={"phase": "Failed", "containerStatuses": ENDED["containerStatuses"]}),
    "unscheduled": lambda: pod(node=""),
    "ended": lambda: pod(status=ENDED, leaving=True),
    "gone": lambda: None,
    "unseen": lambda: BLIND,
}
NODES: dict[str, Node | Unseen | None] = {"down": node(ready=False), "deleted": None, "unseen": BLIND, "back": node()}
MOMENT = st.tuples(
    st.sampled_from(sorted(STATES)),
    st.sampled_from(sorted(NODES)),
    st.sampled_from([None, OperationPhase.FENCING, OperationPhase.VALIDATING, OperationPhase.COMPLETED]),
    st.integers(1, 300),
)


@given(st.lists(MOMENT, min_size=1, max_size=12))
@settings(max_examples=300, deadline=None)
def test_through_any_history_a_writer_leaves_the_list_only_on_a_proof(history: list[tuple[Any, ...]]) -> None:
    known: tuple[Writer, ...] = (writer(on=""),)
    now, was_there, absent, node_of = NOW, True, 0.0, ""
    for state, of_node, phase, step in history:
        now += timedelta(seconds=step)
        there = STATES[state]()
        pods = there if isinstance(there, Unseen) else () if there is None else (there,)
        status = {"operation": operation(phase)} if phase else {}
        nodes = {"node-a": NODES[of_node]}
        known_nodes = tuple(n for n in nodes.values() if isinstance(n, Node))
        observed = after(*known, pods=pods, status=status, nodes=nodes, every_node=known_nodes)
        known = tracked(observed, now)
        # A pod that is gone does not come back: the time in which nobody could look counts.
        absent = absent + step if state in ("gone", "unseen") and not was_there else 0.0
        was_there = was_there if state == "unseen" else state != "gone"
        node_of = there.spec.node_name or node_of if isinstance(there, Pod) else node_of
        if known:
            assert known[0].node == node_of
            continue
        read = isinstance(there, Pod) and has_ended(there)
        in_touch = phase is not OperationPhase.FENCING and of_node == "back" and absent >= IN_TOUCH_SECONDS
        assert read or (state == "gone" and in_touch)
        return


# what is known, and whether it can be fenced


def test_writers_are_known_once_every_node_was_ready_at_once() -> None:
    assert known_since(seen(every_node=(node(), node("node-b"))), NOW) == ago(0)
    for nodes in (None, BLIND, (), (node(), node("node-b", ready=False))):
        assert known_since(seen(every_node=nodes), NOW) is None


def test_what_was_known_once_stays_known() -> None:
    observed = after(status={"writersKnownSince": ago(900)}, every_node=(node(ready=False),))
    assert known_since(observed, NOW) == ago(900)
    assert fenceable(observed).status is ConditionStatus.TRUE


def test_a_node_out_of_touch_is_named_while_writers_are_not_known() -> None:
    found = fenceable(seen(every_node=(node(), node("node-b", ready=False))))
    assert (found.status, found.reason) == (ConditionStatus.UNKNOWN, Reason.WRITERS_UNKNOWN)
    assert "node-b is not Ready" in found.message
    assert fenceable(seen()).status is ConditionStatus.UNKNOWN


def test_a_gate_that_is_not_in_force_is_told() -> None:
    gate = {"checkedAt": ago(5), "inForce": False, "message": "it was let in"}
    found = fenceable(after(status={"writersKnownSince": ago(900), "gate": gate}))
    assert (found.status, found.reason) == (ConditionStatus.FALSE, Reason.GATE_NOT_IN_FORCE)
    assert "it was let in" in found.message
    gate["inForce"] = True
    assert fenceable(after(status={"writersKnownSince": ago(900), "gate": gate})).status is ConditionStatus.TRUE


def test_writers_of_the_live_side_are_counted_and_those_gone_unseen_are_named() -> None:
    known = (writer(), writer("b", gone=30), writer("standby", side=Side.TARGET))
    found = fenceable(after(*known, status={"writersKnownSince": ago(900)}))
    assert (found.status, found.reason) == (ConditionStatus.TRUE, Reason.WRITERS_TRACKED)
    assert "2 pods may write the source" in found.message
    assert "b on node-a" in found.message
    assert "standby" not in found.message
