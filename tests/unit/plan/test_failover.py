"""What a failover does, and above all what it does not do."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.contract import Role
from tests.support.failover_world import SOURCE, TARGET, FailoverWorld
from tests.support.world import NAMESPACE

AUTOMATIC = {"approval": "Automatic", "sufficientProof": ["Proven", "Attested"]}
PROVEN_ONLY = {"approval": "Automatic"}


def replicating(**failover: Any) -> FailoverWorld:
    world = FailoverWorld()
    world.protected(failover=failover)
    world.run(15)
    assert world.status()["phase"] == "Replicating"
    return world


def untouched(world: FailoverWorld) -> None:
    """The source is the live side, and nothing was closed or stopped."""
    status = world.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Source", 1, ["Target"])
    assert world.replicas(SOURCE) == 1
    assert world.replicas(TARGET) == 0


# what makes one begin


def test_a_node_that_dies_and_is_called_dead_fails_over_by_itself() -> None:
    world = replicating(**AUTOMATIC)
    world.power_off("node-a")
    world.attest("node-a")
    world.run(25)
    told = world.told("orders-1")
    assert told["phase"] == "Completed"
    assert [p["grade"] for p in told["proofs"]] == ["Attested"]
    assert told["rpoSeconds"] is not None
    assert told["rtoSeconds"] > 0
    assert world.status()["phase"] == "FailedOver"
    assert world.selector() == {"app": TARGET}
    assert world.running(TARGET)


def test_a_node_that_is_only_silent_is_waited_for_and_nothing_is_touched() -> None:
    world = replicating(**AUTOMATIC)
    world.cut("node-a")
    world.run(60)
    assert world.operation()["phase"] == "Validating"
    assert world.operation()["reason"] == "NoProof"
    untouched(world)
    world.heal("node-a")
    world.run(10)
    assert (world.operation()["phase"], world.operation()["reason"]) == ("RolledBack", "SourceReturned")
    assert world.status()["phase"] == "Replicating"
    untouched(world)


def test_where_attested_does_not_suffice_a_word_is_not_enough() -> None:
    world = replicating(**PROVEN_ONLY)
    world.power_off("node-a")
    world.attest("node-a")
    world.run(60)
    assert world.operation()["reason"] == "NoProof"
    assert "sufficientProof" in world.operation()["message"]
    untouched(world)


def test_agents_that_do_not_hear_each_other_are_no_death() -> None:
    world = replicating(**AUTOMATIC)
    for pod in world.agents():
        if pod["metadata"]["labels"]["storagemirror.io/role"] == "source":
            world.api.put("pods", {"metadata": _named(pod), "status": {"phase": "Failed", "reason": "Evicted"}})
    world.run(40)
    assert world.operation() == {}
    untouched(world)


def test_who_scaled_it_to_zero_wants_no_standby_either() -> None:
    world = replicating(**AUTOMATIC)
    world.workload(SOURCE, 0)
    world.run(5)
    world.power_off("node-a")
    world.attest("node-a")
    world.run(60)
    assert world.operation() == {}
    assert world.replicas(TARGET) == 0


def test_manual_waits_for_a_person_and_says_what_would_be_lost() -> None:
    world = replicating(sufficientProof=["Proven", "Attested"])
    world.power_off("node-a")
    world.attest("node-a")
    world.run(30)
    told = world.told("orders-1")
    assert (told["phase"], told["reason"]) == ("AwaitingApproval", "AwaitingApproval")
    assert "would be lost" in told["message"]
    untouched(world)
    world.api.put("failovers", _failover("orders-1", approved=True, approvedBy="jo"))
    world.run(25)
    assert (world.told("orders-1")["phase"], world.told("orders-1")["approvedBy"]) == ("Completed", "jo")


def test_a_second_automatic_failover_after_one_that_was_rolled_back() -> None:
    world = replicating(**AUTOMATIC)
    world.cut("node-a")
    world.run(40)
    world.heal("node-a")
    world.run(10)
    assert world.told("orders-1")["phase"] == "RolledBack"
    world.power_off("node-a")
    world.attest("node-a")
    world.run(80)
    assert world.told("orders-2")["phase"] == "Completed"
    assert world.told("orders-1")["phase"] == "RolledBack"
    assert world.status()["attempt"] == 2


# absence proves nothing


def test_a_writer_that_was_force_deleted_on_a_cut_node_is_not_forgotten() -> None:
    world = replicating(**PROVEN_ONLY)
    world.cut("node-a")
    world.force_delete(SOURCE)
    world.run(300)
    assert world.running(SOURCE), "it writes on in truth"
    assert world.operation()["reason"] == "NoProof"
    untouched(world)
    assert world.two_writers == []


def test_a_pod_that_the_api_calls_failed_while_its_container_runs_is_a_writer() -> None:
    world = replicating(**PROVEN_ONLY)
    world.cut("node-a")
    for pod in world.api.all("pods"):
        if pod["metadata"].get("labels", {}).get("app") == SOURCE:
            world.api.put("pods", {"metadata": _named(pod), "status": {"phase": "Failed", "reason": "PodGC"}})
    world.failover(mode="Unplanned")
    world.run(120)
    assert world.status()["activeSide"] == "Source"
    assert world.two_writers == []


def test_a_deleted_node_is_a_word_and_no_proof() -> None:
    for policy, side in ((PROVEN_ONLY, "Source"), (AUTOMATIC, "Target")):
        world = replicating(**policy)
        world.power_off("node-a")
        world.api.remove(("nodes", "", "node-a"))
        world.run(40)
        assert world.status()["activeSide"] == side


def test_a_person_may_take_the_risk() -> None:
    world = replicating()
    world.power_off("node-a")
    world.failover(mode="Unplanned", acceptSplitBrain=True)
    world.run(60)
    told = world.told()
    assert told["phase"] == "Completed"
    assert [p["grade"] for p in told["proofs"]] == ["Accepted"]


def test_without_the_gate_nothing_is_promoted() -> None:
    world = replicating()
    world.gate = False
    world.failover()
    world.run(60)
    assert (world.told()["phase"], world.told()["reason"]) == ("Fencing", "GateNotInForce")
    assert world.status()["activeSide"] == "Source"
    world.gate = True
    world.run(30)
    assert world.told()["phase"] == "Completed"


def test_a_fence_that_is_never_proven_goes_back_and_the_application_runs_again() -> None:
    world = replicating()
    world.writer("debug", "node-a")
    world.run(2)
    world.failover()
    world.until("Fencing")
    world.run(30)
    assert "debug" in world.told()["message"]
    assert world.replicas(SOURCE) == 0
    world.run(300)
    assert (world.told()["phase"], world.told()["reason"]) == ("RolledBack", "TimedOut")
    world.run(10)
    untouched(world)
    assert world.running(SOURCE)
    assert world.outcome()["held"] == []


def test_a_debug_pod_holds_up_a_planned_failover_until_a_person_ends_it() -> None:
    world = replicating()
    world.writer("debug", "node-a")
    world.run(2)
    world.failover()
    world.until("Fencing")
    world.run(5)
    world.api.put("pods", {"metadata": {"name": "debug", "namespace": NAMESPACE, "deletionTimestamp": world._stamp()}})
    world.run(30)
    assert world.told()["phase"] == "Completed"
    assert {p["name"] for p in world.told()["proofs"]} >= {"debug"}


# what is refused


def test_a_copy_that_is_not_whole_is_refused() -> None:
    world = FailoverWorld()
    world.protected()
    world.failover(mode="Unplanned")
    world.run(2)
    assert world.told()["phase"] in ("Pending", "Validating")
    assert world.told()["reason"] in ("NotMirrored", "Waiting", "TargetNotHeard", "WritersUnknown")


def test_a_copy_that_was_too_far_behind_is_refused_and_says_by_how_much() -> None:
    world = replicating(maxLag="10s", **AUTOMATIC)
    through = world._contact["through"]
    world.run(1)
    world._contact = {"heard": world._contact["heard"], "through": through}
    world.clock.sleep(50)
    world._contact["heard"] = world.clock.moment.isoformat().replace("+00:00", "Z")
    world.power_off("node-a")
    world.attest("node-a")
    world.run(30)
    told = world.told("orders-1")
    assert (told["phase"], told["reason"]) == ("Validating", "TargetBehind")
    assert "s behind" in told["message"]
    untouched(world)
    world.api.put("failovers", _failover("orders-1", acceptLoss={"seconds": 600}))
    world.run(25)
    assert world.told("orders-1")["phase"] == "Completed"


def test_a_failover_of_another_epoch_ends_at_once() -> None:
    world = replicating()
    world.failover(epoch=7)
    world.run(3)
    assert (world.told()["phase"], world.told()["reason"]) == ("Superseded", "PastEpoch")
    untouched(world)


def test_what_git_makes_again_does_not_run_again() -> None:
    world = replicating()
    world.failover()
    world.run(40)
    assert world.told()["phase"] == "Completed"
    world.api.remove(("failovers", NAMESPACE, "now"))
    world.failover()
    world.run(10)
    assert world.told()["phase"] == "Superseded"
    assert world.status()["epoch"] == 2


def test_of_two_at_once_one_runs_and_the_other_is_superseded() -> None:
    world = replicating()
    world.failover("first")
    world.failover("second")
    world.run(3)
    phases = {name: world.told(name)["phase"] for name in ("first", "second")}
    assert sorted(phases.values())[0] != "Completed"
    assert "Pending" in phases.values()
    world.run(40)
    assert sorted(world.told(name)["phase"] for name in ("first", "second")) == ["Completed", "Superseded"]
    assert world.status()["epoch"] == 2


def test_a_failover_without_its_pair_waits_a_while_and_ends() -> None:
    world = FailoverWorld()
    world.failover()
    world.run(3)
    assert (world.told()["phase"], world.told()["reason"]) == ("Pending", "PairMissing")
    world.run(70)
    assert (world.told()["phase"], world.told()["reason"]) == ("Failed", "PairMissing")


def test_a_pair_without_sides_cannot_fail_over() -> None:
    world = FailoverWorld()
    world.claim("orders-data")
    world.claim("orders-standby")
    world.pair()
    world.failover()
    world.run(5)
    assert (world.told()["phase"], world.told()["reason"]) == ("Failed", "NoSides")


# midway


@pytest.mark.parametrize("phase", ["Proving", "Fencing", "Draining"])
def test_a_failover_deleted_before_the_epoch_is_raised_leaves_the_source_as_it_was(phase: str) -> None:
    world = replicating()
    world.failover()
    world.until(phase)
    world.api.remove(("failovers", NAMESPACE, "now"))
    world.run(20)
    assert (world.operation()["phase"], world.operation()["reason"]) == ("RolledBack", "Cancelled")
    untouched(world)
    assert world.running(SOURCE)
    assert world.two_writers == []


@pytest.mark.parametrize("phase", ["Promoting", "Switching", "Verifying"])
def test_a_failover_deleted_later_goes_on_to_its_end(phase: str) -> None:
    world = replicating()
    world.failover()
    world.until(phase)
    world.api.remove(("failovers", NAMESPACE, "now"))
    world.run(30)
    assert world.operation()["phase"] == "Completed"
    assert world.running(TARGET)


def test_git_that_puts_replicas_back_brings_no_writer_back() -> None:
    world = replicating()
    world.failover()
    world.until("Fencing")
    for _ in range(60):
        world.workload(SOURCE, 1)
        world.run(1)
    assert world.told()["phase"] == "Completed"
    assert not world.running(SOURCE)
    assert world.two_writers == []


def test_a_standby_that_never_gets_ready_is_held_and_goes_on_when_it_is_mended() -> None:
    world = replicating()
    world.ready = False
    world.failover()
    world.run(60)
    assert (world.told()["phase"], world.told()["reason"]) == ("Verifying", "StandbyNotReady")
    assert ("Warning", "StandbyNotReady") in world.events()
    world.run(600)
    assert world.told()["phase"] == "Verifying"
    world.ready = True
    world.workload(TARGET, 0)
    world.run(20)
    assert world.told()["phase"] == "Completed"


def test_a_standby_workload_that_is_deleted_midway_is_waited_for() -> None:
    world = replicating()
    world.failover()
    world.until("Promoting")
    world.api.remove(("deployments", NAMESPACE, TARGET))
    world.run(20)
    assert (world.told()["phase"], world.told()["reason"]) == ("Switching", "WorkloadMissing")
    world.workload(TARGET, 0)
    world.run(20)
    assert world.told()["phase"] == "Completed"


def test_a_target_claim_that_is_deleted_midway_sends_it_back() -> None:
    world = replicating()
    world.finishes = False
    world.failover()
    world.until("Proving")
    world.finishes = True
    world.until("Fencing")
    world.api.put("persistentvolumeclaims", {"metadata": _claim("orders-standby", deletionTimestamp=world._stamp())})
    world.run(20)
    assert (world.told()["phase"], world.told()["reason"]) == ("RolledBack", "ClaimDeleting")
    assert world.running(SOURCE)


def test_an_application_that_the_failover_stopped_gets_its_replicas_back() -> None:
    world = replicating()
    world.workload(SOURCE, 3)
    world.run(5)
    world.failover()
    world.until("Draining")
    world.api.remove(("failovers", NAMESPACE, "now"))
    world.run(20)
    assert world.replicas(SOURCE) == 3


def test_promotion_that_is_taken_back_wears_an_epoch_of_its_own() -> None:
    world = replicating()
    world.failover()
    world.until("Promoting")
    assert (world.status()["activeSide"], world.status()["epoch"]) == ("Target", 2)
    world.silent.add(Role.TARGET)
    world.until("RolledBack", seconds=900)
    assert (world.status()["activeSide"], world.status()["epoch"]) == ("Source", 3)
    world.silent.clear()
    world.run(30)
    assert world.status()["phase"] == "Replicating"
    assert world.two_writers == []


def test_a_pair_deleted_while_it_fences_holds_no_pod() -> None:
    world = replicating()
    world.cut_nodes.add("node-a")
    world.failover(mode="Unplanned", acceptLoss={"unknown": True, "seconds": 600})
    world.until("Fencing")
    world.run(3)
    assert world.api.objects[("pods", NAMESPACE, "orders-1")]["metadata"]["finalizers"] == [
        "storagemirror.io/end-proof"
    ]
    world.api.remove(("mirrorpairs", NAMESPACE, "orders"))
    world.run(3)
    assert not world.api.objects[("pods", NAMESPACE, "orders-1")]["metadata"].get("finalizers")


def _named(pod: dict[str, Any]) -> dict[str, Any]:
    return {"name": pod["metadata"]["name"], "namespace": pod["metadata"]["namespace"]}


def _claim(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": NAMESPACE, **more}


def _failover(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def test_the_look_at_pods_that_counts_is_a_whole_second_after_the_gate_was_confirmed() -> None:
    """Seen: the time was stored in whole seconds, and a second was over after 50 ms."""
    world = replicating()
    world.clock.sleep(0.9)
    world.failover(mode="Unplanned")
    world.until("Fencing")
    while not world.operation().get("gateConfirmed"):
        world.pass_once()
    confirmed = world.clock.moment
    for _ in range(40):
        world.clock.sleep(0.05)
        for pod in world.api.all("pods"):
            world._kubelet(pod)
        world.pass_once()
        if world.operation()["phase"] != "Fencing":
            break
    assert (world.clock.moment - confirmed).total_seconds() >= 1.0
