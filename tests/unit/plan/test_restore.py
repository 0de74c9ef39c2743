"""A restore brings the application home: one step each, and at every moment one side that holds everything."""

from __future__ import annotations

import pytest

from storagemirror.contract import Action, Problem, ProofStage, Role
from tests.support.failover_world import SOURCE, TARGET, FailoverWorld
from tests.support.world import NAMESPACE

ATTESTED = {"approval": "Automatic", "sufficientProof": ["Proven", "Attested"]}
WAY_HOME = [
    "Validating",
    "Mirroring",
    "Proving",
    "Fencing",
    "Draining",
    "Promoting",
    "Switching",
    "Verifying",
    "Completed",
]


@pytest.fixture
def away() -> FailoverWorld:
    """A pair whose application lives on the target, after a planned failover."""
    world = FailoverWorld()
    world.protected(failover=ATTESTED)
    world.run(15)
    world.failover()
    world.ends()
    assert world.status()["phase"] == "FailedOver"
    assert world.running(TARGET)
    return world


def mounts(world: FailoverWorld, role: Role) -> list[str]:
    """The claims that the agents of a role have."""
    return [
        v["persistentVolumeClaim"]["claimName"]
        for p in world.agents(role)
        for v in p["spec"]["volumes"]
        if v["name"] == "volume" and "deletionTimestamp" not in p["metadata"]
    ]


def test_it_comes_home_step_by_step_and_replicates_in_the_first_direction_again(away: FailoverWorld) -> None:
    away.restore()
    away.ends()
    told = away.told_home()
    assert [s["phase"] for s in told["timeline"]] == WAY_HOME, told["message"]
    assert (told["phase"], told["reason"], told["rpoSeconds"], told["epoch"]) == (
        "Completed",
        "RestoreCompleted",
        0,
        3,
    )
    assert told["wholeOn"] == ["Source", "Target"]
    assert {e["stage"] for e in told["equality"]} == {"Live", "Final"}
    assert {p["grade"] for p in told["proofs"]} == {"Proven"}
    assert away.running(SOURCE)
    assert not away.running(TARGET)
    assert away.selector() == {"app": SOURCE}
    away.run(20)
    status = away.status()
    assert (status["phase"], status["activeSide"], status["epoch"]) == ("Replicating", "Source", 3)
    assert status["closedSides"] == ["Target"]
    assert (mounts(away, Role.SOURCE), mounts(away, Role.TARGET)) == (["orders-data"], ["orders-standby"])
    assert away.two_writers == []


def test_while_it_mirrors_the_live_side_serves_and_the_old_one_is_written(away: FailoverWorld) -> None:
    away.finishes = False
    away.restore()
    away.until("Proving")
    away.run(2)
    assert away.running(TARGET)
    assert away.selector() == {"app": TARGET}
    assert (mounts(away, Role.SOURCE), mounts(away, Role.TARGET)) == (["orders-standby"], ["orders-data"])
    order = away.order(Role.TARGET)
    assert (order.action, order.epoch) == (Action.RUN, 2)
    assert order.restore is not None
    assert (order.restore.epoch, order.restore.attempt) == (2, 2)
    prove = away.order(Role.SOURCE).prove
    assert prove is not None
    assert prove.stage is ProofStage.LIVE
    status = away.status()
    assert (status["phase"], status["activeSide"], status["closedSides"]) == ("Restoring", "Target", ["Source"])
    ready = next(c for c in status["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "Restoring")
    assert away.told_home()["wholeOn"] == ["Target"]


def test_nothing_goes_on_before_what_the_old_side_wrote_is_kept_aside(away: FailoverWorld) -> None:
    away.keeps = False
    away.restore()
    away.run(60)
    assert away.operation()["phase"] == "Mirroring"
    assert away.told_home()["diverged"] == []
    away.keeps = True
    away.ends()
    (diverged,) = away.told_home()["diverged"]
    assert (diverged["volume"], diverged["epoch"], diverged["path"]) == ("data", 2, ".storagemirror/diverged/2")
    assert (diverged["entries"], diverged["bytes"], diverged["deleted"], diverged["complete"]) == (2, 20, 1, True)


def test_by_hand_it_follows_until_somebody_says_when(away: FailoverWorld) -> None:
    away.restore(cutOver="Manual")
    away.run(200)
    told = away.told_home()
    assert (told["phase"], told["reason"]) == ("AwaitingCutOver", "AwaitingCutOver")
    assert away.running(TARGET)
    assert mounts(away, Role.TARGET) == ["orders-data"]
    spec = {"approved": True, "approvedBy": "jo"}
    away.api.put("restores", {"metadata": {"name": "home", "namespace": NAMESPACE}, "spec": spec})
    away.ends()
    told = away.told_home()
    assert (told["phase"], told["approvedBy"]) == ("Completed", "jo")


def test_who_thinks_again_while_it_mirrors_is_asked_when(away: FailoverWorld) -> None:
    away.keeps = False
    away.restore()
    away.until("Mirroring")
    away.api.put("restores", {"metadata": {"name": "home", "namespace": NAMESPACE}, "spec": {"cutOver": "Manual"}})
    away.keeps = True
    away.run(20)
    assert away.told_home()["phase"] == "AwaitingCutOver"
    assert away.running(TARGET)


def test_onto_a_side_that_is_live_nothing_is_done() -> None:
    world = FailoverWorld()
    world.protected()
    world.run(15)
    world.restore(epoch=1)
    world.run(3)
    told = world.told_home()
    assert (told["phase"], told["reason"]) == ("Failed", "SideIsLive")
    assert world.status()["phase"] == "Replicating"


def test_of_a_past_epoch_nothing_is_done(away: FailoverWorld) -> None:
    away.restore(epoch=1)
    away.run(3)
    assert (away.told_home()["phase"], away.told_home()["reason"]) == ("Superseded", "PastEpoch")
    assert away.status()["phase"] == "FailedOver"


def test_a_failover_to_the_side_that_is_live_is_refused(away: FailoverWorld) -> None:
    away.failover("again", epoch=2)
    away.run(3)
    assert (away.told("again")["phase"], away.told("again")["reason"]) == ("Failed", "SideIsLive")


def test_without_its_claim_it_waits_and_then_is_refused(away: FailoverWorld) -> None:
    away.api.remove(("persistentvolumeclaims", NAMESPACE, "orders-data"))
    away.restore()
    away.run(20)
    told = away.told_home()
    assert (told["phase"], told["reason"]) == ("Validating", "ClaimMissing")
    assert "source claim orders-data" in told["message"]
    away.run(900)
    assert (away.told_home()["phase"], away.told_home()["reason"]) == ("Failed", "ClaimMissing")
    assert away.running(TARGET)


def test_a_claim_that_was_made_anew_is_seeded(away: FailoverWorld) -> None:
    away.api.remove(("persistentvolumeclaims", NAMESPACE, "orders-data"))
    away.restore()
    away.run(10)
    away.claim("orders-data")
    away.ends()
    assert away.told_home()["phase"] == "Completed"


def test_deleted_before_the_cut_over_the_live_side_goes_on(away: FailoverWorld) -> None:
    away.finishes = False
    away.restore()
    away.until("Proving")
    away.api.remove(("restores", NAMESPACE, "home"))
    away.run(15)
    status = away.status()
    assert (status["phase"], status["activeSide"], status["epoch"]) == ("FailedOver", "Target", 2)
    assert (status["operation"]["phase"], status["operation"]["reason"]) == ("RolledBack", "Cancelled")
    assert "the source claims are no copy" in status["operation"]["timeline"][-1]["message"]
    assert away.running(TARGET)
    assert away.agents() == []


def test_deleted_while_it_fences_the_live_side_is_started_again(away: FailoverWorld) -> None:
    away.restore()
    away.until("Draining")
    away.api.remove(("restores", NAMESPACE, "home"))
    away.ends()
    away.run(10)
    status = away.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Target", 2, ["Source"])
    assert status["operation"]["phase"] == "RolledBack"
    assert status["operation"]["wholeOn"] == ["Target"]
    assert away.running(TARGET)
    assert not away.running(SOURCE)


def test_one_after_another_that_was_given_up(away: FailoverWorld) -> None:
    away.finishes = False
    away.restore()
    away.until("Proving")
    away.api.remove(("restores", NAMESPACE, "home"))
    away.run(15)
    away.finishes = True
    away.restore("again")
    away.ends()
    told = away.told_home("again")
    assert (told["phase"], told["attempt"]) == ("Completed", 3)


def test_what_hinders_an_agent_is_told_in_its_own_words(away: FailoverWorld) -> None:
    away.keeps = False
    away.problem = Problem(reason="TargetFull", message="no space, inodes or quota left on the target")
    away.restore()
    away.run(20)
    told = away.told_home()
    assert (told["phase"], told["reason"]) == ("Mirroring", "TargetFull")
    assert "no space" in told["message"]
    assert "The target is the live side, serves, and holds everything." in told["message"]
    assert next(c for c in told["conditions"] if c["type"] == "Stalled")["status"] == "True"


def test_a_home_that_is_in_doubt_is_not_waited_for(away: FailoverWorld) -> None:
    """Its agent was killed in the cut-over: what the kernel had not written may be gone. The live side is whole."""
    away.doubt = Problem(reason="TargetInDoubt", message="its machine or its disk failed", retrying=False)
    away.restore()
    away.ends()
    told = away.told_home()
    assert (told["phase"], told["reason"], told["wholeOn"]) == ("RolledBack", "TargetInDoubt", ["Target"])
    assert "its machine or its disk failed" in told["message"]
    away.run(10)
    status = away.status()
    assert (status["activeSide"], status["epoch"], status["closedSides"]) == ("Target", 2, ["Source"])
    assert away.running(TARGET)
    assert away.two_writers == []


def test_a_home_whose_agent_refuses_the_promotion_is_not_waited_for(away: FailoverWorld) -> None:
    away.restore()
    away.until("Promoting")
    away.doubt, away.refuses = Problem(reason="TargetInDoubt", message="its disk failed", retrying=False), True
    began = away.clock.moment
    away.until("RolledBack")
    assert (away.clock.moment - began).total_seconds() < 60
    away.run(10)
    assert away.status()["activeSide"] == "Target"
    assert away.running(TARGET)
    assert away.two_writers == []


def test_the_application_is_not_stopped_while_some_pod_s_end_cannot_be_proven(away: FailoverWorld) -> None:
    """A pod of the live side went without anybody seeing it end. Its node has to be Ready for two minutes first."""
    away.restore(cutOver="Manual")
    away.until("AwaitingCutOver")
    away.force_delete(TARGET)
    spec = {"approved": True, "approvedBy": "jo"}
    away.api.put("restores", {"metadata": {"name": "home", "namespace": NAMESPACE}, "spec": spec})
    away.run(60)
    told = away.told_home()
    assert (told["phase"], told["reason"]) == ("AwaitingCutOver", "NoProof")
    assert "the target serves meanwhile" in told["message"]
    assert away.replicas(TARGET) == 1
    assert away.status()["closedSides"] == ["Source"]
    away.heal("node-b")  # it has been Ready from here on
    away.run(130)
    away.ends()
    assert away.told_home()["phase"] == "Completed"


def test_a_live_side_that_dies_is_waited_for_and_named(away: FailoverWorld) -> None:
    away.finishes = False
    away.restore()
    away.until("Proving")
    away.power_off("node-b")
    away.dead_nodes.add(next(p["spec"]["nodeName"] for p in away.agents(Role.SOURCE)))
    away.run(120)
    told = away.told_home()
    assert told["phase"] == "Mirroring"
    assert "The target is the live side, serves, and holds everything." in told["message"]
    assert told["wholeOn"] == ["Target"]


def test_a_cut_over_that_cannot_be_finished_goes_back(away: FailoverWorld) -> None:
    away.restore()
    away.until("Fencing")
    away.finishes = False
    away.run(320)
    away.ends()
    told = away.told_home()
    assert (told["phase"], told["reason"]) == ("RolledBack", "TimedOut")
    assert "The target is the live side as before and holds everything." in told["message"]
    assert told["wholeOn"] == ["Target"]
    assert away.running(TARGET)
    assert away.two_writers == []


def test_a_promotion_at_home_that_is_taken_back_wears_an_epoch_of_its_own(away: FailoverWorld) -> None:
    away.restore()
    away.until("Promoting")
    away.silent.add(Role.TARGET)
    away.run(320)
    away.ends()
    status = away.status()
    assert (status["activeSide"], status["epoch"]) == ("Target", 4)
    assert status["operation"]["phase"] == "RolledBack"
    away.silent.clear()
    away.restore("again", epoch=4)
    away.until("Proving")
    order = away.order(Role.TARGET)
    assert order.restore is not None
    assert (order.restore.epoch, order.epoch) == (2, 4), "what the old side wrote is told apart by the cut"
    away.ends()
    assert (away.status()["activeSide"], away.status()["epoch"]) == ("Source", 5)


def test_a_pod_of_the_old_side_that_may_still_write_is_waited_for() -> None:
    world = FailoverWorld()
    world.protected(failover=ATTESTED)
    world.run(15)
    world.power_off("node-a")
    world.attest("node-a")
    world.ends()
    assert world.status()["phase"] == "FailedOver"
    world.force_delete(SOURCE)
    world.restore()
    world.run(60)
    told = world.told_home()
    assert (told["phase"], told["reason"]) == ("Validating", "OldSideInUse")
    assert "node-a" in told["message"]
    world.boot("node-a")
    world.run(60)
    assert world.operation()["phase"] == "Validating", "a kubelet that has just come back has not ended them yet"
    world.run(80)
    world.ends()
    assert world.told_home()["phase"] == "Completed"
    assert world.two_writers == []


def test_git_that_puts_both_sides_back_midway_changes_nothing(away: FailoverWorld) -> None:
    away.restore()
    for _ in range(80):
        away.workload(TARGET, 1)
        away.workload(SOURCE, 1)
        away.run(1)
    away.ends()
    assert away.told_home()["phase"] == "Completed"
    assert away.two_writers == []


def test_as_many_pods_come_home_as_there_were() -> None:
    world = FailoverWorld()
    world.protected()
    world.workload(SOURCE, 3)
    world.run(15)
    world.failover()
    world.ends()
    assert world.replicas(TARGET) == 1
    world.restore()
    world.ends()
    assert world.replicas(SOURCE) == 3


TO = {"volumes": [{"name": "data", "claimName": "copy"}]}


class TestElsewhere:
    def test_the_live_side_is_copied_and_goes_on(self, away: FailoverWorld) -> None:
        away.claim("copy")
        away.restore(epoch=None, to=TO)
        away.until("Mirroring")
        away.run(3)
        assert sorted(mounts(away, Role.TARGET)) == ["copy"]
        assert sorted(mounts(away, Role.SOURCE)) == ["orders-standby"]
        away.ends()
        told = away.told_home()
        assert [s["phase"] for s in told["timeline"]] == [
            "Validating",
            "Mirroring",
            "Proving",
            "Draining",
            "Completed",
        ]
        assert [(e["volume"], e["stage"]) for e in told["equality"]] == [("data", "Live")]
        away.run(15)
        assert away.agents() == []
        status = away.status()
        assert (status["phase"], status["activeSide"], status["epoch"]) == ("FailedOver", "Target", 2)
        assert away.running(TARGET)

    def test_while_the_pair_replicates_it_goes_on_too(self) -> None:
        world = FailoverWorld()
        world.protected()
        world.run(15)
        world.claim("copy")
        world.restore(epoch=None, to=TO)
        world.until("Mirroring")
        world.run(3)
        assert sorted(mounts(world, Role.TARGET)) == ["copy", "orders-standby"]
        assert world.status()["phase"] == "Replicating"
        world.ends()
        assert world.told_home()["phase"] == "Completed"
        world.run(10)
        assert sorted(mounts(world, Role.TARGET)) == ["orders-standby"]

    def test_it_gives_way_to_a_failover_and_is_done_afterwards(self) -> None:
        world = FailoverWorld()
        world.protected(failover=ATTESTED)
        world.run(15)
        world.claim("copy")
        world.finishes = False
        world.restore(epoch=None, to=TO)
        world.until("Proving")
        world.power_off("node-a")
        world.attest("node-a")
        world.run(60)
        assert world.status()["activeSide"] == "Target"
        world.finishes = True
        world.run(60)
        assert world.told_home()["phase"] == "Completed"

    @pytest.mark.parametrize(
        ("to", "reason"),
        [
            ({"name": "other", "claimName": "copy"}, "VolumeUnknown"),
            ({"name": "data", "claimName": "orders-standby"}, "ClaimTaken"),
        ],
    )
    def test_what_cannot_be_is_refused_at_once(self, away: FailoverWorld, to: dict[str, str], reason: str) -> None:
        away.restore(epoch=None, to={"volumes": [to]})
        away.run(3)
        assert (away.told_home()["phase"], away.told_home()["reason"]) == ("Failed", reason)

    def test_of_a_pair_that_nobody_fails_over_to(self) -> None:
        world = FailoverWorld()
        world.usual()
        world.run(15)
        world.claim("copy")
        world.restore(epoch=None, to=TO)
        world.run(40)
        assert world.told_home()["phase"] == "Completed"
