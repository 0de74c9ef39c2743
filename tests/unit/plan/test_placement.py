"""Where agents go, when they leave, and who may follow them."""

from __future__ import annotations

from typing import Any

from storagemirror.contract import Action, Role
from storagemirror.kube.gather import Key
from storagemirror.resources import labels
from tests.support.fake_api import Object
from tests.support.world import NAMESPACE, World


def replicating(**spec: Any) -> World:
    world = World()
    world.usual(**spec)
    world.settle()
    assert world.status()["phase"] == "Replicating"
    return world


def affinity(pod: Object) -> tuple[str, str, list[str]]:
    """How strictly, In or NotIn, which nodes."""
    rules = pod["spec"]["affinity"]["nodeAffinity"]
    if "requiredDuringSchedulingIgnoredDuringExecution" in rules:
        term = rules["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"][0]
        how = "required"
    else:
        term = rules["preferredDuringSchedulingIgnoredDuringExecution"][0]["preference"]
        how = "preferred"
    field = term["matchFields"][0]
    assert field["key"] == "metadata.name"
    return how, field["operator"], field["values"]


def remove_writer(world: World, name: str = "orders-0") -> None:
    world.api.remove(("pods", NAMESPACE, name))


def test_the_source_agent_may_only_go_to_the_writers_node_and_the_scheduler_has_its_say() -> None:
    pod = replicating().agents(Role.SOURCE)[0]
    assert affinity(pod) == ("required", "In", ["node-a"])


def test_a_writer_that_is_leaving_draws_no_agent() -> None:
    world = World()
    world.claim("orders-data")
    world.claim("orders-standby")
    world.writer("orders-0", "node-a")
    world.api.put("pods", {"metadata": {"name": "orders-0", "namespace": NAMESPACE, "deletionTimestamp": "2026-01-02"}})
    world.dead_nodes.add("node-a")
    world.writer("orders-1", "node-c")
    world.pair()
    world.passes()
    assert affinity(world.agents(Role.SOURCE)[0]) == ("required", "In", ["node-c"])


def test_the_agent_follows_the_application_within_one_pass() -> None:
    world = replicating()
    remove_writer(world)
    world.writer("orders-1", "node-c")
    world.pass_once()
    leaving = [p for p in world.agents(Role.SOURCE) if "deletionTimestamp" in p["metadata"]]
    coming = [p for p in world.agents(Role.SOURCE) if "deletionTimestamp" not in p["metadata"]]
    assert [p["spec"]["nodeName"] for p in leaving] == ["node-a"]
    assert [affinity(p) for p in coming] == [("required", "In", ["node-c"])]
    assert leaving[0]["spec"]["terminationGracePeriodSeconds"] <= 5
    world.settle()
    assert world.replicates("node-c")


def test_the_agent_stays_where_it_is_while_any_writer_stays_there() -> None:
    world = replicating()
    uid = world.agents(Role.SOURCE)[0]["metadata"]["uid"]
    world.writer("a-second", "node-b")
    world.settle()
    assert [p["metadata"]["uid"] for p in world.agents(Role.SOURCE)] == [uid]


def test_an_older_number_is_outdated_before_its_successor_is_made() -> None:
    world = replicating()
    remove_writer(world)
    world.writer("orders-1", "node-c")
    seen = len(world.api.history)
    world.pass_once()
    writes = [(m, a[0]) for m, a in world.api.history[seen:] if a[0] in ("configmaps", "pods")]
    assert writes == [("DELETE", "pods"), ("PUT", "configmaps"), ("POST", "pods")]


def test_the_application_that_waits_for_its_node_is_left_the_choice() -> None:
    world = World()
    world.claim("orders-data")
    world.claim("orders-standby")
    world.writer("orders-0", None)
    world.pair()
    world.settle(10)
    assert world.agents(Role.SOURCE) == []
    assert world.condition("Stalled")[0] == "False"


def test_with_no_writer_the_agent_runs_until_everything_is_copied_and_then_leaves() -> None:
    world = replicating()
    remove_writer(world)
    world.settle(30, quiet=30)
    assert len(world.agents(Role.SOURCE)) == 1
    for _ in range(60):
        world.tick()
        world.pass_once()
    assert world.agents(Role.SOURCE) == []
    assert world.status()["phase"] == "Replicating"
    assert world.condition("Ready") == ("True", "Replicating")
    before = world.api.writes
    world.passes()
    assert world.api.writes == before


def test_with_no_writer_ever_a_copy_is_made_all_the_same() -> None:
    world = World()
    world.claim("orders-data")
    world.claim("orders-standby")
    world.pair()
    world.settle()
    assert world.status()["phase"] == "Replicating"


def test_the_agent_comes_back_with_the_application() -> None:
    world = replicating()
    remove_writer(world)
    for _ in range(90):
        world.tick()
        world.pass_once()
    assert world.agents(Role.SOURCE) == []
    world.writer("orders-1", "node-c")
    world.pass_once()
    assert [affinity(p) for p in world.agents(Role.SOURCE)] == [("required", "In", ["node-c"])]
    world.settle()
    assert world.replicates("node-c")


def late_target(world: World) -> None:
    """The target is bound by its first pod."""
    world.api.put("storageclasses", {"metadata": {"name": "local"}, "volumeBindingMode": "WaitForFirstConsumer"})
    world.claim("orders-data")
    world.claim("orders-standby", bound=False, storageClassName="local")


def test_a_target_that_is_not_bound_is_kept_off_the_sources_node() -> None:
    world = World()
    late_target(world)
    world.writer("orders-0", "node-a")
    world.pair()
    world.passes()
    assert affinity(world.agents(Role.TARGET)[0]) == ("required", "NotIn", ["node-a"])


def test_a_target_that_is_bound_is_kept_off_where_it_can_be_helped() -> None:
    assert affinity(replicating().agents(Role.TARGET)[0]) == ("preferred", "NotIn", ["node-a"])


def test_a_target_whose_claim_is_bound_a_moment_before_its_pod_is_let_be() -> None:
    world = World()
    late_target(world)
    world.writer("orders-0", "node-a")
    world.pair()
    world.passes()
    before = world.agents(Role.TARGET)[0]["metadata"]["uid"]
    world.claim("orders-standby", storageClassName="local")
    world.passes()
    assert [pod["metadata"]["uid"] for pod in world.agents(Role.TARGET)] == [before]


def test_where_no_other_node_will_do_both_sides_share_one_and_the_pair_says_so() -> None:
    world = World()
    late_target(world)
    world.dead_nodes = {"node-b", "node-c"}
    world.writer("orders-0", "node-a")
    world.pair()
    world.settle(5, quiet=9)
    assert world.condition("AgentsReady") == ("False", "AgentUnschedulable")
    world.settle(40, quiet=40)
    pod = world.agents(Role.TARGET)[0]
    assert affinity(pod) == ("preferred", "NotIn", ["node-a"])
    assert pod["spec"]["nodeName"] == "node-a"
    assert world.order(Role.TARGET).instance == 2
    world.claim("orders-standby", storageClassName="local")
    world.settle()
    assert world.condition("SeparateNodes") == ("False", "SameNode")
    assert ("Warning", "SameNode") in world.events()
    assert world.status()["phase"] == "Replicating"


def test_a_target_agent_waits_until_the_one_before_is_gone() -> None:
    world = replicating()
    node = world.agents(Role.TARGET)[0]["spec"]["nodeName"]
    world.dead_nodes.add(node)
    world.pair(agents={"podLabels": {"team": "shop"}})
    for _ in range(70):
        world.tick()
        world.pass_once()
        assert len(world.agents(Role.TARGET)) == 1
    assert world.condition("AgentsReady") == ("False", "OldAgentNotGone")
    world.dead_nodes.clear()
    world.settle()
    assert world.replicates("node-a")
    world.check()


def test_an_evicted_agent_is_made_anew_with_the_next_number() -> None:
    world = replicating()
    for role in Role:
        name = {"name": world.agents(role)[0]["metadata"]["name"], "namespace": NAMESPACE}
        world.api.put("pods", {"metadata": name, "status": {"phase": "Failed", "reason": "Evicted"}})
    world.settle()
    assert {world.order(role).instance for role in Role} == {2}
    world.check()


def test_another_image_replaces_both_agents() -> None:
    world = replicating()
    world.image = "storagemirror:2"
    world.start_operator()
    world.settle()
    assert {p["spec"]["containers"][0]["image"] for p in world.agents()} == {"storagemirror:2"}
    assert world.replicates("node-a")


def test_a_pause_keeps_the_pods_and_orders_them_to_wait() -> None:
    world = replicating()
    uids = {p["metadata"]["uid"] for p in world.agents()}
    world.pair(paused=True)
    world.pass_once()
    assert {world.order(role).action for role in Role} == {Action.PAUSE}
    assert {p["metadata"]["uid"] for p in world.agents()} == uids
    assert world.status()["phase"] == "Paused"
    assert world.condition("Stalled")[0] == "False"


def test_a_pair_that_was_born_paused_makes_no_pod() -> None:
    world = World()
    world.usual(paused=True)
    world.passes()
    assert world.agents() == []
    assert world.status()["phase"] == "Paused"


def test_pods_of_a_volume_that_left_the_spec_go() -> None:
    world = World()
    world.claim("a")
    world.claim("b")
    world.claim("c")
    world.claim("d")
    world.writer("one", "node-a", "a")
    world.writer("two", "node-a", "c")
    first = {"name": "first", "source": {"claimName": "a"}, "target": {"claimName": "b"}}
    second = {"name": "second", "source": {"claimName": "c"}, "target": {"claimName": "d"}}
    world.pair(volumes=[first, second])
    world.settle()
    assert len(world.agents()) == 4
    assert world.status()["phase"] == "Replicating"
    world.pair(volumes=[first])
    world.settle()
    assert {p["metadata"]["labels"][labels.VOLUME] for p in world.agents()} == {"first"}
    assert [v["name"] for v in world.status()["volumes"]] == ["first"]


def test_one_volumes_trouble_does_not_stop_another() -> None:
    world = World()
    world.claim("a")
    world.claim("b")
    world.claim("c")
    world.writer("one", "node-a", "a")
    first = {"name": "first", "source": {"claimName": "a"}, "target": {"claimName": "b"}}
    second = {"name": "second", "source": {"claimName": "c"}, "target": {"claimName": "missing"}}
    world.pair(volumes=[first, second])
    world.settle()
    assert [v["phase"] for v in world.status()["volumes"]] == ["Replicating", "Error"]
    assert world.status()["phase"] == "Error"


def test_a_claim_made_from_a_template_outlives_the_pair() -> None:
    world = World()
    world.claim("orders-data")
    world.writer("orders-0", "node-a")
    wanted = {"storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}
    target = {"claimName": "orders-standby", "claimTemplate": wanted}
    world.pair(volumes=[{"name": "data", "source": {"claimName": "orders-data"}, "target": target}])
    world.passes()
    made = world.api.objects["persistentvolumeclaims", NAMESPACE, "orders-standby"]
    assert "ownerReferences" not in made["metadata"]
    assert made["spec"]["storageClassName"] == "fast"
    assert made["spec"]["resources"]["requests"]["storage"] == "5Gi"
    assert ("Normal", "ClaimCreated") in world.events()


def test_a_pair_of_the_same_name_made_again_does_not_touch_what_the_old_one_left() -> None:
    world = replicating()
    old = {p["metadata"]["name"] for p in world.agents()}
    world.api.remove(("mirrorpairs", NAMESPACE, "orders"))
    world.pair()
    world.passes(Key(NAMESPACE, "orders"))
    new = {p["metadata"]["name"] for p in world.agents()} - old
    assert len(new) == 2


def test_nothing_is_done_for_a_pair_that_is_being_deleted() -> None:
    world = World()
    world.usual()
    meta = {"name": "orders", "namespace": NAMESPACE, "deletionTimestamp": "2026-01-02T03:04:05Z"}
    world.api.put("mirrorpairs", {"metadata": meta})
    world.passes()
    assert world.agents() == []
    assert "phase" not in world.status()


def test_a_restricted_agent_is_the_applications_user_even_while_the_application_is_at_zero() -> None:
    world = World()
    world.claim("orders-data")
    world.claim("orders-standby")
    world.writer("orders-0", "node-a", securityContext={"runAsUser": 999, "fsGroup": 1000})
    world.pair(agents={"privilege": "Restricted"})
    world.settle()
    remove_writer(world)
    world.settle()
    world.start_operator()
    world.api.remove(("pods", NAMESPACE, world.agents(Role.TARGET)[0]["metadata"]["name"]))
    world.settle()
    for pod in world.agents():
        assert pod["spec"]["securityContext"]["runAsUser"] == 999
        assert pod["spec"]["securityContext"]["supplementalGroups"] == [1000]


def test_the_agent_belongs_beside_a_pod_that_writes_not_beside_one_that_only_reads() -> None:
    world = World()
    world.claim("orders-data", accessModes=["ReadWriteMany"])
    world.claim("orders-standby")
    mount = {"name": "data", "mountPath": "/data", "readOnly": True}
    world.writer("reader", "node-a", containers=[{"name": "app", "volumeMounts": [mount]}])
    world.pair()
    world.settle()
    assert world.replicates("node-a"), "with none that writes, a reader will do"
    world.writer("writer", "node-b")
    world.settle()
    assert world.replicates("node-b")
