"""What proves that a writer has ended, whether a proof can be had, and the finalizer that keeps it readable."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.api.operation import FENCED, Grade, OperationPhase
from storagemirror.api.sides import ProofGrade, Side
from storagemirror.plan.decisions import HoldWriter, ReleaseWriter
from storagemirror.plan.objects import Node, Pod
from storagemirror.plan.observed import Observed, OtherPair, Unseen
from storagemirror.plan.writers import (
    END_PROOF,
    attainable,
    hold_steps,
    proof_of,
    release_steps,
)
from tests.support.seen import ENDED, NOW, TARGET_CLAIM, after, agent, ago, node, operation, pod, seen, writer

DECIDING = (*sorted(FENCED), OperationPhase.SWITCHING, OperationPhase.VERIFYING)
BLIND = Unseen("503")
PROVEN = (ProofGrade.PROVEN,)
ATTESTED = (ProofGrade.PROVEN, ProofGrade.ATTESTED)


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


def test_a_pod_that_its_kubelet_refused_tells_more_once_fencing_deletes_it() -> None:
    refused = pod(status={"phase": "Failed", "reason": "NodeAffinity"})
    assert why_not(after(writer(), pods=(refused,), nodes={"node-a": node()})) is None


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
    assert hold_steps(seen(pods=pods), Side.SOURCE) == tuple(
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
