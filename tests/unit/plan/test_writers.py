"""Whoever was seen mounting a claim is a writer until its end is proven; absence, time and wishes prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storagemirror.api.conditions import ConditionStatus
from storagemirror.api.operation import FENCED, Grade, OperationPhase
from storagemirror.api.reasons import Reason
from storagemirror.api.sides import ProofGrade
from storagemirror.api.status import Side, Writer
from storagemirror.plan.decisions import HoldWriter, ReleaseWriter
from storagemirror.plan.objects import Node, Pod
from storagemirror.plan.observed import Observed, OtherPair, Unseen
from storagemirror.plan.writers import (
    END_PROOF,
    IN_TOUCH_SECONDS,
    MOST_WRITERS,
    attainable,
    fenceable,
    has_ended,
    hold_steps,
    known_since,
    overflow,
    proof_of,
    release_steps,
    tracked,
)
from tests.support.seen import ENDED, NOW, TARGET_CLAIM, agent, ago, node, operation, pair, pod, seen

PROVEN = (ProofGrade.PROVEN,)
ATTESTED = (ProofGrade.PROVEN, ProofGrade.ATTESTED)
DECIDING = (*sorted(FENCED), OperationPhase.SWITCHING, OperationPhase.VERIFYING)
BLIND = Unseen("503")


def writer(
    name: str = "orders-0", *, on: str = "node-a", side: Side = Side.SOURCE, gone: float | None = None
) -> Writer:
    """`gone`: for how many seconds."""
    since = ago(gone) if gone is not None else None
    return Writer(uid=f"uid-{name}", name=name, side=side, node=on, since=ago(3600), gone_since=since)


def after(*writers: Writer, status: dict[str, Any] | None = None, **more: Any) -> Observed:
    """A pass after one that knew `writers`."""
    told = {"writers": [w.dump() for w in writers], **(status or {})}
    return seen(pair(told), **more)


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
        absent = absent + step if state == "gone" and not was_there else absent if state == "unseen" else 0.0
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


# what a proof is


def grade(observed: Observed, sufficient: tuple[ProofGrade, ...] = PROVEN, *, accepted: bool = False) -> Grade | None:
    found = proof_of(observed.pair.status.writers[0], observed, sufficient, accepted, NOW)
    return found.grade if found is not None else None


def test_an_object_read_as_ended_is_a_proof_that_names_the_exit_code() -> None:
    observed = after(writer(), pods=(pod(status=ENDED, leaving=True),))
    found = proof_of(writer(), observed, PROVEN, False, NOW)
    assert found is not None
    assert (found.uid, found.name, found.node) == ("uid-orders-0", "orders-0", "node-a")
    assert (found.grade, found.at) == (Grade.PROVEN, ago(0))
    assert "app with exit code 137" in found.evidence
    assert grade(after(writer(gone=5), pods=(), ended=frozenset({"uid-orders-0"}))) is Grade.PROVEN


def test_a_pod_that_runs_or_is_gone_is_no_proof() -> None:
    assert grade(after(writer(), pods=(pod(leaving=True),), nodes={"node-a": node()})) is None
    assert grade(after(writer(gone=7200), pods=(), nodes={"node-a": node()})) is None


@pytest.mark.parametrize(
    ("of_node", "words"),
    [(None, "was deleted"), (node(ready=False, off=True), "out-of-service")],
    ids=["deleted", "taint"],
)
def test_a_node_that_somebody_called_dead_attests_only_where_that_is_enough(of_node: Node | None, words: str) -> None:
    observed = after(writer(), pods=(pod(),), nodes={"node-a": of_node})
    assert grade(observed, PROVEN) is None
    found = proof_of(writer(), observed, ATTESTED, False, NOW)
    assert found is not None
    assert found.grade is Grade.ATTESTED
    assert words in found.evidence


def test_nothing_else_attests() -> None:
    silent = (node(ready=False), node(), BLIND)
    for of_node in silent:
        assert grade(after(writer(), pods=(pod(),), nodes={"node-a": of_node}), ATTESTED) is None
    assert grade(after(writer(), pods=(pod(),)), ATTESTED) is None, (
        "a node that was not read is not a node that is gone"
    )
    assert grade(after(writer(on=""), pods=(), nodes={"": None}), ATTESTED) is None


def test_the_taint_of_a_node_that_is_ready_is_a_wrong_word() -> None:
    observed = after(writer(), pods=(pod(),), nodes={"node-a": node(off=True)})
    assert grade(observed, ATTESTED) is None


def test_the_better_proof_is_told_and_a_persons_word_comes_last() -> None:
    dead: dict[str, Node | Unseen | None] = {"node-a": None}
    ended = after(writer(), pods=(pod(status=ENDED),), nodes=dead)
    assert grade(ended, ATTESTED, accepted=True) is Grade.PROVEN
    assert grade(after(writer(), pods=(pod(),), nodes=dead), ATTESTED, accepted=True) is Grade.ATTESTED
    assert grade(after(writer(), pods=(pod(),), nodes=dead), PROVEN, accepted=True) is Grade.ACCEPTED


# whether one can be had


def why_not(observed: Observed, sufficient: tuple[ProofGrade, ...] = PROVEN, *, accepted: bool = False) -> str | None:
    return attainable(observed.pair.status.writers[0], observed, sufficient, accepted)


def test_a_proof_is_expected_of_a_kubelet_in_touch_and_where_there_is_one_already() -> None:
    assert why_not(after(writer(), pods=(pod(),), nodes={"node-a": node()})) is None
    assert why_not(after(writer(on=""), pods=(pod(node=""),))) is None
    assert why_not(after(writer(), pods=(pod(status=ENDED),), nodes={"node-a": node(ready=False)})) is None
    assert why_not(after(writer(), pods=(pod(),), nodes={"node-a": None}), ATTESTED) is None
    assert why_not(after(writer(), pods=(pod(),), nodes={"node-a": node(ready=False)}), accepted=True) is None


def test_where_none_is_to_be_had_pod_and_node_are_named() -> None:
    there = (pod(),)
    assert why_not(after(writer(), pods=there, nodes={"node-a": node(ready=False)})) == (
        "pod orders-0 on node node-a: the node is not Ready and nobody has said that it is off"
    )
    assert why_not(after(writer(), pods=(), nodes={"node-a": node()})) == (
        "pod orders-0 is gone from the API, and nobody saw it end on node node-a"
    )
    assert why_not(after(writer(), pods=there, nodes={"node-a": None})) == (
        "pod orders-0 on node node-a: node node-a was deleted, and sufficientProof does not list Attested"
    )
    assert why_not(after(writer(), pods=there, nodes={"node-a": BLIND})) == (
        "pod orders-0 on node node-a: the node could not be looked at: 503"
    )
    assert why_not(after(writer(), pods=there)) == "pod orders-0 on node node-a: the node could not be looked at"
    assert why_not(after(writer(on="", gone=9), pods=())) == "pod orders-0 is gone from the API, and nobody saw it end"


def test_a_pod_that_its_kubelet_refused_never_tells_more_and_must_be_deleted() -> None:
    refused = pod(status={"phase": "Failed", "reason": "NodeAffinity"})
    found = why_not(after(writer(), pods=(refused,), nodes={"node-a": node()}))
    assert found is not None
    assert "delete the pod" in found


# the finalizer


def held(name: str = "orders-0", by: str = "uid-pair", **more: Any) -> Pod:
    return pod(name, finalizers=[END_PROOF], labels={END_PROOF: by}, **more)


def test_the_finalizer_goes_on_every_pod_that_may_write_the_source() -> None:
    pods = (
        pod(),
        pod("waiting", node=""),
        pod("leaving", leaving=True),
        pod("ended", status=ENDED),
        pod("standby", claims=(TARGET_CLAIM,)),
        held("held"),
        agent(),
    )
    assert hold_steps(seen(pods=pods)) == tuple(
        HoldWriter("shop", name, f"uid-{name}", "uid-pair") for name in ("orders-0", "waiting")
    )


@pytest.mark.parametrize("phase", sorted(OperationPhase))
def test_it_stays_on_a_pod_that_has_not_ended_while_the_operation_needs_the_proof(phase: OperationPhase) -> None:
    observed = after(writer(), pods=(held(leaving=True),), status={"operation": operation(phase)})
    needed = phase in (*DECIDING,) and phase is not OperationPhase.ROLLING_BACK
    assert bool(release_steps(observed, observed.pair)) is not needed


def test_it_goes_when_the_end_is_read_and_stored() -> None:
    pods = (held(status=ENDED, leaving=True),)
    fencing = operation(OperationPhase.FENCING)
    unknown = after(writer(), pods=pods, status={"operation": fencing})
    assert release_steps(unknown, unknown.pair) == ()
    proof = proof_of(writer(), unknown, PROVEN, False, NOW)
    assert proof is not None
    in_operation = after(writer(), pods=pods, status={"operation": fencing | {"proofs": [proof.dump()]}})
    off_the_list = after(pods=pods, status={"operation": fencing})
    for stored in (in_operation, off_the_list):
        assert release_steps(stored, stored.pair) == (ReleaseWriter("shop", "orders-0", "uid-orders-0"),)


def test_without_an_operation_it_is_left_behind_and_goes() -> None:
    observed = seen(pods=(held(), pod("b")))
    assert release_steps(observed, observed.pair) == (ReleaseWriter("shop", "orders-0", "uid-orders-0"),)


def test_a_pair_that_is_being_deleted_holds_up_nothing() -> None:
    observed = after(writer(), pods=(held(),), status={"operation": operation(OperationPhase.FENCING)})
    meta = observed.pair.metadata.model_copy(update={"deletion_timestamp": ago(1)})
    going = observed.pair.model_copy(update={"metadata": meta})
    assert release_steps(observed, observed.pair) == ()
    assert release_steps(observed, going) == (ReleaseWriter("shop", "orders-0", "uid-orders-0"),)


def test_that_of_another_pair_of_the_same_claim_stays_while_that_pair_is_there() -> None:
    other = OtherPair("b", "uid-other", ago(60), frozenset({("orders-data", "b")}))
    pods = (held(by="uid-other"),)
    for others, released in (((other,), 0), ((), 1), (BLIND, 0)):
        observed = seen(pods=pods, others=others)
        assert len(release_steps(observed, observed.pair)) == released
