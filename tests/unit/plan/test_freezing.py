"""Who gets guards: a pair that asks for them, in a namespace that allows them. Everyone else is told why not."""

from __future__ import annotations

from typing import Any

import pytest

from storagemirror.contract import Freezing, Role
from storagemirror.resources import labels
from tests.support.world import NAMESPACE, World

ASKED = {"agents": {"privilege": "Freeze"}}


def world(**spec: Any) -> World:
    made = World()
    made.usual(**spec)
    return made


def allow(world: World, value: str | None = "true") -> None:
    notes = {} if value is None else {labels.PRIVILEGED_AGENTS: value}
    world.api.put("namespaces", {"metadata": {"name": NAMESPACE, "annotations": notes}})


def containers(world: World, role: Role = Role.SOURCE) -> list[str]:
    (pod,) = world.agents(role)
    return [c["name"] for c in pod["spec"]["containers"]]


def test_without_being_asked_for_there_are_none_and_the_namespace_is_not_read() -> None:
    made = world()
    allow(made)
    asked: list[str] = []

    def note(where: str) -> bool:
        asked.append(where)
        return False

    made.api.blind = note
    made.settle()
    assert containers(made) == ["agent"]
    assert made.condition("CrashConsistent") == ("False", "PrivilegeNotAsked")
    assert f"/api/v1/namespaces/{NAMESPACE}" not in asked
    assert asked


@pytest.mark.parametrize("value", [None, "false", "yes", "True"])
def test_a_namespace_that_does_not_allow_them_gets_none_and_replicates(value: str | None) -> None:
    made = world(**ASKED)
    allow(made, value)
    made.settle()
    assert containers(made) == ["agent"]
    assert made.replicates("node-a")
    assert made.condition("CrashConsistent") == ("False", "NamespaceDoesNotAllow")
    assert "storagemirror.io/privileged-agents=true" in message(made)


def test_only_the_agent_that_reads_is_guarded() -> None:
    made = world(**ASKED)
    allow(made)
    made.settle()
    assert containers(made) == ["agent", "guard-1", "guard-2", "tracer"]
    assert containers(made, Role.TARGET) == ["agent"]
    assert made.condition("CrashConsistent") == ("Unknown", "GuardNotReady")


def test_the_namespace_s_word_is_followed_both_ways() -> None:
    made = world(**ASKED)
    made.settle()
    allow(made)
    made.settle()
    assert containers(made) == ["agent", "guard-1", "guard-2", "tracer"]
    allow(made, "false")
    made.settle()
    assert containers(made) == ["agent"]


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("way", ["blind", "forbidden"])
def test_while_the_namespace_cannot_be_read_the_pod_stays_as_it_is(allowed: bool, way: str) -> None:
    made = world(**ASKED)
    if allowed:
        allow(made)
    made.settle()
    (before,) = made.agents(Role.SOURCE)
    setattr(made.api, way, lambda where: where.endswith(f"/namespaces/{NAMESPACE}"))
    allow(made, "false" if allowed else "true")
    made.settle(20, quiet=15)
    (after,) = made.agents(Role.SOURCE)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert made.condition("CrashConsistent") == ("Unknown", "Unknown")
    assert made.replicates("node-a")


def test_a_pod_that_is_made_while_the_namespace_cannot_be_read_has_none() -> None:
    made = world(**ASKED)
    allow(made)
    made.api.blind = lambda where: where.endswith(f"/namespaces/{NAMESPACE}")
    made.settle()
    assert containers(made) == ["agent"]
    made.api.blind = lambda where: False
    made.settle()
    assert containers(made) == ["agent", "guard-1", "guard-2", "tracer"]


def test_what_the_guard_says_is_told() -> None:
    made = world(**ASKED)
    allow(made)
    made.settle()
    said = Freezing(able=False, reason="FilesystemShared", message="/volume shows only the directory /pvc")
    made.freezing = said
    made.settle()
    assert made.condition("CrashConsistent") == ("False", "FilesystemShared")
    assert "/pvc" in message(made)
    made.freezing = Freezing(able=True)
    made.settle()
    assert made.condition("CrashConsistent") == ("False", "NoPoints")


def message(world: World) -> str:
    found = next(c for c in world.status()["conditions"] if c["type"] == "CrashConsistent")
    text: str = found["message"]
    return text
