"""The old node is back while the failover goes on: too late to matter, and too weak to do harm."""

from __future__ import annotations

import threading

import pytest

from tests.support import ledger_lines as ledger
from tests.support.case import Case
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.operations import operation_is

pytestmark = pytest.mark.e2e


def test_a_node_that_boots_while_its_side_is_fenced_writes_no_more(case: Case, stages: Stages) -> None:
    (stage,) = stages(Shape(kind="StatefulSet"))
    node, begun = stage.nodes.source, threading.Event()

    def boot(_: object) -> None:
        threading.Thread(target=case.cluster.boot, args=(node,), kwargs={"wait": 0}, daemon=True).start()
        begun.set()

    watch = stage.watch_pair()
    case.cluster.power_off(node)
    watch.once(operation_is("Fencing"), boot)
    stage.attest()
    name = stage.until_automatic()
    stage.until_phase(name, "Completed")
    assert begun.is_set()
    stage.until_answers("target")
    case.cluster.up()
    stage.until("the old side's pod to be gone", lambda: stage.pods("source") == [])
    ledger.never_two_writers(stage.source_lines(), stage.target_lines())


@pytest.mark.parametrize("phase", ["Fencing", "Switching"])
def test_a_node_that_was_wrongly_called_off_is_ended_once_it_is_heard(case: Case, stages: Stages, phase: str) -> None:
    """The cable was out, and somebody said that the node was off. Both sides wrote for a while: that is what the word
    means. But nobody is sent to the old side again, and its writer goes as soon as its node is back."""
    (stage,) = stages(Shape())
    node, healed = stage.nodes.source, threading.Event()

    def heal(_: object) -> None:
        case.cluster.heal(node)
        healed.set()

    watch = stage.watch_pair()
    case.cluster.cut(node)
    watch.once(operation_is(phase), heal)
    stage.attest()
    name = stage.until_automatic()
    stage.until_phase(name, "Completed")
    assert healed.is_set()
    turned = stage.until_answers("target")
    stage.until("the old side's pod to be gone", lambda: stage.pods("source") == [], 90)
    length = len(stage.source_lines())
    stage.until_answers("target")
    assert len(stage.source_lines()) == length, "the old side writes although its pod is gone"
    answers = [a for a in stage.client().answers() if a.asked >= turned]
    assert {answer.side for answer in answers} == {"target"}, "the Service went back to the fenced side"
    assert stage.replicas("source") == 0
