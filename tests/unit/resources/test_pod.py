"""The agent's pod, and its other objects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from storagemirror.api.agents import AgentResources, Agents, Privilege, ResourceLimits, SecretName, Toleration
from storagemirror.contract import Order, Role
from storagemirror.resources import labels
from storagemirror.resources.access import role, role_binding, service_account
from storagemirror.resources.names import AgentRef
from storagemirror.resources.order import Kept, kept_of, order_config_map
from storagemirror.resources.placement import NO_WRITER, Placement, WriterTraits
from storagemirror.resources.pod import Image, PodInput, agent_pod, settings_digest, writer_digest

UID = "0b6b7c9e-8d0f-4a53-9c39-1f1d1c3e7a55"
IMAGE = Image("registry.example/storagemirror:1")
WRITER = WriterTraits(run_as_user=999, run_as_group=998, groups=(1000,), priority_class="shop")


def ref(which: Role = Role.SOURCE, *, pair: str = "orders", volume: str = "data") -> AgentRef:
    return AgentRef(pair, UID, "shop", volume, which)


def pod(which: Role = Role.SOURCE, *, writer: WriterTraits = NO_WRITER, **agents: Any) -> dict[str, Any]:
    given = PodInput(ref(which), 3, "orders-data", IMAGE, Agents(**agents), writer, Placement(node="node-a"))
    return agent_pod(given)


def container(found: dict[str, Any]) -> dict[str, Any]:
    one: dict[str, Any] = found["spec"]["containers"][0]
    return one


@pytest.mark.parametrize("which", Role)
@pytest.mark.parametrize("privilege", Privilege)
def test_no_agent_ever_asks_for_more_than_its_rung(which: Role, privilege: Privilege) -> None:
    made = pod(which, privilege=privilege, writer=WRITER)
    security = container(made)["securityContext"]
    assert security["capabilities"]["drop"] == ["ALL"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert not security["privileged"]
    assert made["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "nodeName" not in made["spec"]
    text = json.dumps(made)
    for never in ("fsGroup", "hostPath", "hostNetwork", "hostPID", "SYS_ADMIN", "DAC_READ_SEARCH"):
        assert never not in text
    allowed = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"}
    assert set(security["capabilities"].get("add", [])) <= allowed


def guarded_pod(**agents: Any) -> dict[str, Any]:
    given = PodInput(ref(), 3, "orders-data", IMAGE, Agents(privilege=Privilege.FREEZE, **agents), guarded=True)
    return agent_pod(given)


def test_two_guards_that_can_freeze_and_nothing_else_stand_beside_the_agent() -> None:
    made = guarded_pod()
    agent, *guards, _ = made["spec"]["containers"]
    plain = container(pod(privilege=Privilege.BASELINE))
    assert agent["securityContext"] == plain["securityContext"]  # the engine gets nothing of it
    assert [g["name"] for g in guards] == ["guard-1", "guard-2"]
    for guard in guards:
        security = guard["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH", "IPC_LOCK", "SYS_ADMIN"]}
        assert security["readOnlyRootFilesystem"]
        assert not security["privileged"]
        assert guard["args"] == ["guard"]
        mounts = {m["name"]: m.get("readOnly", False) for m in guard["volumeMounts"]}
        assert mounts == {"volume": True, "guard": False}
        assert guard["resources"]["requests"]["memory"] == guard["resources"]["limits"]["memory"]
    text = json.dumps(made)
    for never in ("fsGroup", "hostPath", "hostNetwork", "hostPID"):
        assert never not in text


def test_a_tracer_that_may_mount_tracefs_and_nothing_else_stands_beside_the_agent() -> None:
    tracer = guarded_pod()["spec"]["containers"][-1]
    assert (tracer["name"], tracer["args"]) == ("tracer", ["tracer"])
    security = tracer["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH", "SYS_ADMIN"]}
    assert security["appArmorProfile"] == {"type": "Unconfined"}
    assert security["readOnlyRootFilesystem"]
    assert not security["privileged"]
    assert "seccompProfile" not in security  # the pod's: the runtime's own
    mounts = {m["name"]: m.get("readOnly", False) for m in tracer["volumeMounts"]}
    assert mounts == {"volume": True, "tracer": False}
    assert [e["name"] for e in tracer["env"]] == ["POD_UID"]


def test_agent_and_tracer_share_a_directory_of_their_own() -> None:
    made = guarded_pod()
    agent = container(made)
    assert {"name": "tracer", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}} in made["spec"]["volumes"]
    assert {"name": "tracer", "mountPath": "/tracer", "readOnly": True} in agent["volumeMounts"]
    assert {"name": "STORAGEMIRROR_TRACER_PATH", "value": "/tracer"} in agent["env"]


def test_agent_and_guards_share_a_directory_that_is_on_no_disk() -> None:
    made = guarded_pod()
    agent = container(made)
    assert {"name": "guard", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}} in made["spec"]["volumes"]
    assert {"name": "guard", "mountPath": "/guard", "readOnly": True} in agent["volumeMounts"]
    assert {"name": "STORAGEMIRROR_GUARD_PATH", "value": "/guard"} in agent["env"]


def test_where_the_agent_s_resources_are_guaranteed_so_are_the_guards() -> None:
    same = {"cpu": "1", "memory": "256Mi"}
    made = guarded_pod(resources=AgentResources.model_validate({"requests": same, "limits": same}))
    assert all(c["resources"]["requests"] == c["resources"]["limits"] for c in made["spec"]["containers"])


def test_a_pod_that_is_to_be_guarded_is_another_one() -> None:
    agents = Agents(privilege=Privilege.FREEZE)
    assert settings_digest("c", IMAGE, agents, True) != settings_digest("c", IMAGE, agents)
    assert guarded_pod()["metadata"]["annotations"][labels.SETTINGS] == settings_digest(
        "orders-data", IMAGE, agents, True
    )


def test_baseline_is_root_with_what_keeps_owners_and_modes() -> None:
    made = pod(Role.TARGET)
    assert made["spec"]["securityContext"]["runAsUser"] == 0
    wanted = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
    assert container(made)["securityContext"]["capabilities"]["add"] == wanted


def test_the_source_agent_may_read_everything_and_write_nothing() -> None:
    made = pod(Role.SOURCE)
    assert container(made)["securityContext"]["capabilities"]["add"] == ["DAC_OVERRIDE", "FOWNER"]
    mounts = {m["name"]: m.get("readOnly", False) for m in container(made)["volumeMounts"]}
    assert mounts == {"volume": True, "tls": True, "scratch": False}
    volume = next(v for v in made["spec"]["volumes"] if v["name"] == "volume")
    assert volume == {"name": "volume", "persistentVolumeClaim": {"claimName": "orders-data"}}


def test_restricted_is_the_writers_user_and_groups() -> None:
    made = pod(privilege=Privilege.RESTRICTED, writer=WRITER)
    assert made["spec"]["securityContext"] == {
        "seccompProfile": {"type": "RuntimeDefault"},
        "runAsNonRoot": True,
        "runAsUser": 999,
        "runAsGroup": 998,
        "supplementalGroups": [1000],
    }
    assert "add" not in container(made)["securityContext"]["capabilities"]


@pytest.mark.parametrize("user", [None, 0])
def test_restricted_is_never_root(user: int | None) -> None:
    made = pod(privilege=Privilege.RESTRICTED, writer=WriterTraits(run_as_user=user))
    assert made["spec"]["securityContext"]["runAsUser"] == 65532


def test_the_writers_label_priority_and_tolerations_are_taken_over() -> None:
    taint = (("effect", "NoSchedule"), ("key", "db"), ("operator", "Exists"))
    writer = WriterTraits(se_linux=(("level", "s0:c1"),), tolerations=(taint,), priority_class="shop")
    made = pod(writer=writer)
    assert made["spec"]["securityContext"]["seLinuxOptions"] == {"level": "s0:c1"}
    assert made["spec"]["tolerations"] == [{"effect": "NoSchedule", "key": "db", "operator": "Exists"}]
    assert made["spec"]["priorityClassName"] == "shop"


def test_what_the_pair_says_comes_first() -> None:
    made = pod(
        writer=WRITER,
        priority_class_name="low",
        tolerations=(Toleration(key="k"),),
        pod_labels={"team": "shop", labels.PAIR: "not yours"},
        pod_annotations={"note": "yes"},
        image_pull_secrets=(SecretName(name="pull"),),
        resources=AgentResources(limits=ResourceLimits(memory="1Gi")),
    )
    assert made["spec"]["priorityClassName"] == "low"
    assert made["spec"]["tolerations"] == [{"key": "k"}]
    assert made["metadata"]["labels"]["team"] == "shop"
    assert made["metadata"]["labels"][labels.PAIR] == UID
    assert made["metadata"]["annotations"]["note"] == "yes"
    assert made["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert container(made)["resources"] == {
        "requests": {"cpu": "25m", "memory": "64Mi"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }


def test_no_mesh_puts_a_sidecar_beside_an_agent() -> None:
    made = pod()
    assert made["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"
    assert made["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_the_agent_finds_what_it_needs_in_its_environment() -> None:
    found = {e["name"]: e.get("value") or e["valueFrom"]["fieldRef"]["fieldPath"] for e in container(pod())["env"]}
    assert found == {
        "STORAGEMIRROR_NAMESPACE": "shop",
        "STORAGEMIRROR_ORDER": ref().base,
        "STORAGEMIRROR_LEASE": ref().base,
        "STORAGEMIRROR_INSTANCE": "3",
        "STORAGEMIRROR_ROLE": "Source",
        "TMPDIR": "/scratch",
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
        "POD_IP": "status.podIP",
        "NODE_NAME": "spec.nodeName",
    }


def test_the_pair_controls_the_pod_and_owns_the_rest() -> None:
    owner = pod()["metadata"]["ownerReferences"][0]
    assert (owner["uid"], owner["kind"], owner["controller"]) == (UID, "MirrorPair", True)
    for made in (service_account(ref()), role(ref()), role_binding(ref())):
        owner = made["metadata"]["ownerReferences"][0]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (UID, False, False)


def test_an_agent_may_read_its_own_order_and_write_its_own_lease() -> None:
    assert role(ref())["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [ref().base], "verbs": ["get", "watch"]},
        {
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": [ref().base],
            "verbs": ["get", "patch"],
        },
    ]


@pytest.mark.parametrize("which", Role)
def test_names_of_63_characters_fit_everywhere(which: Role) -> None:
    long = ref(which, pair="p" * 63, volume="v" * 63)
    assert len(long.pod_name(99_999_999_99)) <= 63
    assert all(len(value) <= 63 for value in long.labels.values())
    assert not long.base.startswith("-")


def test_names_that_would_read_the_same_are_kept_apart() -> None:
    assert ref(pair="a-b", volume="c").base != ref(pair="a", volume="b-c").base
    again = AgentRef("orders", "another-uid", "shop", "data", Role.SOURCE)
    assert again.base != ref().base
    assert ref(pair="p" * 63 + "1").base != ref(pair="p" * 63 + "2", volume="other").base


def test_a_pairs_name_with_dots_makes_a_good_host_name() -> None:
    assert "." not in ref(pair="orders.v1").base


def test_the_settings_digest_changes_with_what_a_person_can_change_and_with_nothing_else() -> None:
    first = settings_digest("c", IMAGE, Agents())
    assert first == settings_digest("c", Image(IMAGE.name), Agents())
    assert first != settings_digest("c", Image("other"), Agents())
    assert first != settings_digest("c", IMAGE, Agents(privilege=Privilege.RESTRICTED))


def test_the_writers_user_matters_only_where_the_agent_takes_it_over() -> None:
    other = WriterTraits(run_as_user=1)
    assert writer_digest(Agents(), WRITER) == writer_digest(Agents(), other)
    restricted = Agents(privilege=Privilege.RESTRICTED)
    assert writer_digest(restricted, WRITER) != writer_digest(restricted, other)


def test_an_order_carries_its_version_and_number() -> None:
    order = Order(
        pair_uid=UID,
        pair_name="orders",
        namespace="shop",
        volume="data",
        role=Role.SOURCE,
        revision=1,
        instance=4,
        epoch=1,
    )
    made = order_config_map(ref(), order, resource_version="7", kept=Kept("2026-01-02T03:04:05Z", WRITER))
    assert made["metadata"]["resourceVersion"] == "7"
    assert made["metadata"]["annotations"][labels.INSTANCE] == "4"
    assert kept_of(made["metadata"]["annotations"]) == Kept("2026-01-02T03:04:05Z", WRITER)
    assert kept_of({labels.TRAITS: "spoiled"}) == Kept()
    assert json.loads(made["data"]["order.json"])["pairUid"] == UID
