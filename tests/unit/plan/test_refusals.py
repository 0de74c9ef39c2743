"""Each thing that can be in the way: its condition, its reason, its event, and what becomes of the agents."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.api.conditions import ConditionType
from storagemirror.api.reasons import HINTS, Reason
from storagemirror.contract import Phase, Problem, Report, Role
from storagemirror.kube.gather import Key
from storagemirror.plan.conditions import SOMETIMES
from tests.support.world import NAMESPACE, World


def message(world: World, kind: str, name: str = "orders") -> str:
    return next(str(c["message"]) for c in world.status(name)["conditions"] if c["type"] == kind)


def stopped(world: World, reason: str, *, condition: str = "ClaimsReady") -> None:
    """The reason stands in the condition, in Ready and in Stalled; there is a warning; no agent runs."""
    assert world.condition(condition) == ("False", reason)
    assert world.condition("Ready") == ("False", reason)
    assert world.condition("Stalled") == ("True", reason)
    assert world.condition("Reconciling")[0] == "False"
    assert ("Warning", reason) in world.events()
    assert HINTS[Reason(reason)] in message(world, condition)
    assert world.status()["phase"] == "Error"
    assert world.agents() == []


def test_a_source_claim_that_is_missing_is_named() -> None:
    world = World()
    world.claim("orders-standby")
    world.pair()
    world.settle()
    stopped(world, "ClaimMissing")
    assert "orders-data" in message(world, "ClaimsReady")


def test_it_goes_on_by_itself_when_the_claim_comes() -> None:
    world = World()
    world.claim("orders-standby")
    world.pair()
    world.settle()
    world.claim("orders-data")
    world.writer("orders-0", "node-a")
    world.settle()
    assert world.status()["phase"] == "Replicating"


def test_a_target_claim_that_is_missing_without_a_template_is_named() -> None:
    world = World()
    world.claim("orders-data")
    world.pair()
    world.settle()
    stopped(world, "ClaimMissing")


def test_a_claim_that_is_being_deleted_is_let_go() -> None:
    world = World()
    world.usual()
    world.settle()
    meta = {"name": "orders-data", "namespace": NAMESPACE, "deletionTimestamp": "2026-01-02T03:04:05Z"}
    world.api.put("persistentvolumeclaims", {"metadata": meta})
    world.settle()
    stopped(world, "ClaimDeleting")


@pytest.mark.parametrize("claim", ["orders-data", "orders-standby"])
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"accessModes": ["ReadWriteOncePod"]}, "AccessModeUnsupported"),
        ({"volumeMode": "Block"}, "VolumeModeUnsupported"),
    ],
)
def test_a_claim_that_cannot_be_mirrored_is_refused(claim: str, spec: dict[str, Any], reason: str) -> None:
    world = World()
    for name in ("orders-data", "orders-standby"):
        world.claim(name, **(spec if name == claim else {}))
    world.writer("orders-0", "node-a")
    world.pair()
    world.settle()
    stopped(world, reason)


def test_a_target_that_can_only_be_read_is_refused() -> None:
    world = World()
    world.claim("orders-data")
    world.claim("orders-standby", accessModes=["ReadOnlyMany"])
    world.pair()
    world.settle()
    stopped(world, "AccessModeUnsupported")


def test_a_claim_that_lost_its_volume_is_named() -> None:
    world = World()
    world.usual()
    name = {"name": "orders-data", "namespace": NAMESPACE}
    world.api.put("persistentvolumeclaims", {"metadata": name, "status": {"phase": "Lost"}})
    world.settle()
    stopped(world, "ClaimLost")


def test_an_agent_is_never_the_first_consumer_of_the_source() -> None:
    world = World()
    late = {"metadata": {"name": "local"}, "volumeBindingMode": "WaitForFirstConsumer"}
    world.api.put("storageclasses", late)
    world.claim("orders-data", bound=False, storageClassName="local")
    world.claim("orders-standby")
    world.pair()
    world.settle()
    assert world.agents() == []
    assert world.condition("ClaimsReady") == ("False", "WaitingForFirstConsumer")
    assert world.condition("Stalled")[0] == "False"
    assert world.status()["phase"] == "Pending"


def test_a_claim_that_names_a_volume_that_is_not_there_waits_for_no_pod() -> None:
    world = World()
    late = {"metadata": {"name": "local"}, "volumeBindingMode": "WaitForFirstConsumer"}
    world.api.put("storageclasses", late)
    world.claim("orders-data", bound=False, storageClassName="local", volumeName="gone")
    world.claim("orders-standby")
    world.pair()
    world.settle()
    assert world.condition("ClaimsReady") == ("False", "ClaimUnbound")


def test_a_claim_that_nothing_binds_needs_somebody_after_a_minute() -> None:
    world = World()
    world.usual()
    world.claim("orders-standby", bound=False)
    world.settle()
    assert world.condition("Stalled")[0] == "False"
    world.clock.sleep(60)
    world.settle()
    assert world.condition("Stalled") == ("True", "ClaimUnbound")


def test_of_two_pairs_that_write_one_target_the_older_goes_on() -> None:
    world = World()
    world.usual()
    world.settle()
    world.claim("other-data")
    world.writer("other-0", "node-a", "other-data")
    taken = {"name": "data", "source": {"claimName": "other-data"}, "target": {"claimName": "orders-standby"}}
    world.pair("younger", [taken])
    world.passes(Key(NAMESPACE, "younger"))
    assert world.condition("ClaimsReady", "younger") == ("False", "TargetClaimTaken")
    assert "orders" in message(world, "ClaimsReady", "younger")
    assert {p["metadata"]["labels"]["storagemirror.io/pair-name"] for p in world.agents()} == {"orders"}
    world.settle()
    assert world.status()["phase"] == "Replicating"


@pytest.mark.parametrize("between", [[], [("middle", "orders-standby", "third")]])
def test_a_loop_of_pairs_is_refused_in_the_youngest(between: list[tuple[str, str, str]]) -> None:
    world = World()
    world.usual()
    world.claim("third")
    world.settle()
    last = "orders-standby"
    for name, source, target in [*between, ("back", between[-1][2] if between else last, "orders-data")]:
        world.clock.sleep(1.0)
        one = {"name": "data", "source": {"claimName": source}, "target": {"claimName": target}}
        world.pair(name, volumes=[one], mirror={"target": "Adopt"})
    for _ in range(20):
        world.tick()
        for name in ("orders", *(b[0] for b in between), "back"):
            world.pass_once(Key(NAMESPACE, name))
    assert world.condition("ClaimsReady", "back") == ("False", "MirrorLoop")
    assert world.condition("Stalled", "back") == ("True", "MirrorLoop")
    assert world.condition("Ready") == ("True", "Replicating")
    pods = [p["metadata"]["labels"]["storagemirror.io/pair-name"] for p in world.agents()]
    assert "back" not in pods


def test_a_chain_is_allowed() -> None:
    world = World()
    world.usual()
    world.claim("third")
    link = {"name": "data", "source": {"claimName": "orders-standby"}, "target": {"claimName": "third"}}
    world.pair("chain", [link])
    world.passes(Key(NAMESPACE, "chain"))
    assert world.condition("ClaimsReady", "chain")[0] == "True"


def test_a_smaller_target_is_a_warning() -> None:
    world = World()
    world.usual()
    world.claim("orders-standby", size="1Gi")
    world.settle()
    assert world.condition("ClaimsReady") == ("True", "TargetSmaller")
    assert ("Warning", "TargetSmaller") in world.events()
    assert world.status()["phase"] == "Replicating"


def test_a_pod_that_can_write_the_target_is_a_warning() -> None:
    world = World()
    world.usual()
    world.writer("intruder", "node-b", "orders-standby")
    world.settle()
    assert world.condition("ClaimsReady") == ("True", "TargetInUse")
    assert "intruder" in message(world, "ClaimsReady")


ADMISSION = {
    'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true': "PodSecurityRefused",
    'pods "x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1': "QuotaExceeded",
    'pods "x" is forbidden: failed quota: q: must specify limits.ephemeral-storage': "QuotaExceeded",
    'pods "x" is forbidden: maximum memory usage per Container is 64Mi, but limit is 512Mi': "LimitRangeRefused",
    'admission webhook "policy.example.com" denied the request: no': "AdmissionRefused",
}


@pytest.mark.parametrize(("words", "reason"), ADMISSION.items(), ids=ADMISSION.values())
def test_a_pod_that_admission_refuses_is_told_and_costs_no_number(words: str, reason: str) -> None:
    world = World()
    world.usual()
    world.api.admission = lambda plural, manifest: words if plural == "pods" else None
    world.settle()
    stopped(world, reason, condition="AgentsReady")
    assert words.rsplit(":", maxsplit=1)[-1].strip() in message(world, "AgentsReady")
    assert world.api.all("configmaps") == []
    world.api.admission = lambda plural, manifest: None
    world.settle()
    assert world.status()["phase"] == "Replicating"
    assert world.order(Role.SOURCE).instance == 1


def test_a_template_that_is_refused_is_told() -> None:
    world = World()
    world.claim("orders-data")
    world.writer("orders-0", "node-a")
    wanted = {"resources": {"requests": {"storage": "10Gi"}}}
    target = {"claimName": "orders-standby", "claimTemplate": wanted}
    world.pair(volumes=[{"name": "data", "source": {"claimName": "orders-data"}, "target": target}])
    claims = "persistentvolumeclaims"
    world.api.admission = lambda plural, manifest: "exceeded quota: q" if plural == claims else None
    world.settle()
    assert world.condition("ClaimsReady") == ("False", "QuotaExceeded")
    assert world.condition("Stalled") == ("True", "QuotaExceeded")


def _says(world: World, role: Role, problem: Problem | None, **more: Any) -> None:
    """The agent of `role` says this, and goes on saying it."""
    world.silent.add(role)
    pod = world.agents(role)[-1]
    base = pod["metadata"]["name"].rpartition("-")[0]
    order = world.order(role)
    given: dict[str, Any] = {"phase": Phase.FAILED, **more}
    report = Report(instance=order.instance, epoch=order.epoch, revision=order.revision, problem=problem, **given)
    world.say(role, base, report)
    world.pass_once()
    world.say(role, base, report)
    world.pass_once()


@pytest.mark.parametrize("reason", ["TargetNotEmpty", "TargetOwnedByAnother", "TargetFull", "TargetNotWritable"])
def test_what_stops_an_agent_is_passed_on(reason: str) -> None:
    world = World()
    world.usual()
    world.settle()
    _says(world, Role.TARGET, Problem(reason=reason, message="It says why.", retrying=True))
    assert world.condition("Replicating") == ("False", reason)
    assert world.condition("Stalled") == ("True", reason)
    assert "It says why." in message(world, "Ready")
    assert world.status()["phase"] == "Error"
    assert ("Warning", reason) in world.events()
    assert len(world.agents()) == 2


@pytest.mark.parametrize("reason", ["MassDelete", "SourceReplaced"])
def test_a_hold_shows_its_token_and_the_word_reaches_both_agents(reason: str) -> None:
    world = World()
    world.usual()
    world.settle()
    problem = Problem(reason=reason, message="7 of 9 files would go.", token="t-42", retrying=False)
    _says(world, Role.TARGET, problem, phase=Phase.HELD)
    assert world.status()["phase"] == "Held"
    assert world.condition("Held") == ("True", reason)
    assert world.condition("Stalled") == ("True", reason)
    hold = world.status()["volumes"][0]["hold"]
    assert (hold["reason"], hold["token"]) == (reason, "t-42")
    assert ("Warning", reason) in world.events()
    world.pair(mirror={"confirm": "t-42"})
    world.pass_once()
    assert {world.order(role).mirror.confirm for role in Role} == {"t-42"}


def test_a_hold_is_told_also_while_the_agent_that_holds_is_not_heard() -> None:
    world = World()
    world.usual()
    world.settle()
    _says(world, Role.TARGET, Problem(reason="MassDelete", message="7 of 9.", token="t-42"), phase=Phase.HELD)
    for _ in range(20):
        world.tick()
        world.pass_once()
    assert world.condition("AgentsReady") == ("False", "AgentSilent")
    assert world.status()["volumes"][0]["hold"]["token"] == "t-42"
    assert world.condition("Held") == ("True", "MassDelete")


def test_agents_that_do_not_reach_each_other_are_disconnected_and_nobody_is_called() -> None:
    world = World()
    world.usual()
    world.settle()
    _says(world, Role.SOURCE, Problem(reason="Disconnected", message="No answer."), phase=Phase.CONNECTING)
    assert world.condition("Connected") == ("False", "Disconnected")
    assert world.condition("Stalled")[0] == "False"
    assert world.status()["phase"] == "Disconnected"
    assert "lagSeconds" not in world.status()["volumes"][0]


def test_an_agent_that_is_not_heard_is_named_and_its_lag_is_not_known() -> None:
    world = World()
    world.usual()
    world.settle()
    world.silent.add(Role.SOURCE)
    for _ in range(20):
        world.tick()
    world.pass_once()
    assert world.condition("AgentsReady") == ("False", "AgentSilent")
    assert world.status()["phase"] == "Disconnected"
    assert "lagSeconds" not in world.status()
    assert "lag" not in world.status()


def test_an_agent_on_a_node_that_is_not_ready_is_told_so_and_left_alone() -> None:
    world = World()
    world.usual()
    world.settle()
    node = world.agents(Role.SOURCE)[0]["spec"]["nodeName"]
    world.dead_nodes.add(node)
    down = {"conditions": [{"type": "Ready", "status": "Unknown"}]}
    world.api.put("nodes", {"metadata": {"name": node}, "status": down})
    pods = {p["metadata"]["uid"] for p in world.agents()}
    for _ in range(90):
        world.tick()
    world.pass_once()
    assert world.condition("AgentsReady") == ("False", "NodeNotReady")
    assert {p["metadata"]["uid"] for p in world.agents()} == pods


def test_an_agent_that_hangs_on_a_good_node_is_replaced() -> None:
    world = World()
    world.usual()
    world.settle()
    world.silent.add(Role.TARGET)
    for _ in range(70):
        world.tick()
    world.pass_once()
    world.silent.clear()
    world.settle()
    assert world.order(Role.TARGET).instance == 2
    assert world.status()["phase"] == "Replicating"
    world.check()


def test_an_agent_whose_node_has_just_come_back_is_given_time_to_be_heard() -> None:
    world = World()
    world.usual()
    world.settle()
    node = world.agents(Role.TARGET)[0]["spec"]["nodeName"]
    pods = {p["metadata"]["uid"] for p in world.agents()}
    world.silent.add(Role.TARGET)
    for _ in range(90):
        world.tick()
    stamp = world.clock.moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    back = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp}]}
    world.api.put("nodes", {"metadata": {"name": node}, "status": back})
    world.tick()
    world.passes()
    assert {p["metadata"]["uid"] for p in world.agents()} == pods


def test_what_cannot_be_looked_at_changes_nothing() -> None:
    world = World()
    world.usual()
    world.settle()
    told, writes = world.status(), world.api.writes
    world.api.blind = lambda where: "persistentvolumeclaims" in where or where.endswith("/pods")
    world.pass_once()
    assert (world.status(), world.api.writes) == (told, writes)


def test_a_right_that_the_operator_lacks_is_named() -> None:
    world = World()
    world.usual()
    world.settle()
    world.api.forbidden = lambda where: "persistentvolumeclaims" in where
    world.passes()
    assert world.condition("ClaimsReady") == ("Unknown", "Forbidden")
    assert world.condition("Stalled") == ("True", "Forbidden")
    assert len(world.agents()) == 2


def test_every_condition_has_its_place() -> None:
    world = World()
    world.usual()
    world.settle()
    everywhere = {str(kind) for kind in set(ConditionType) - SOMETIMES}
    assert {c["type"] for c in world.status()["conditions"]} == everywhere


def test_a_pods_name_that_is_anothers_costs_a_number_and_no_more() -> None:
    world = World()
    world.usual()
    world.settle()
    taken = world.agents(Role.SOURCE)[0]["metadata"]["name"].removesuffix("1") + "2"
    meta = {"name": taken, "namespace": NAMESPACE}
    world.api.put("pods", {"metadata": meta, "spec": {"nodeName": "node-c"}, "status": {"phase": "Running"}})
    world.api.remove(("pods", NAMESPACE, "orders-0"))
    world.writer("orders-0", "node-b")
    world.settle()
    assert world.replicates("node-b")
    assert world.order(Role.SOURCE).instance == 3
    assert ("pods", NAMESPACE, taken) in world.api.objects
