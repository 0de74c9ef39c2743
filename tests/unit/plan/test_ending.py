"""A pod has ended by its kubelet's last word, and by nothing less; beside it the naive rules, and where each fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storagemirror.plan.ending import last_words
from storagemirror.plan.objects import Pod
from storagemirror.plan.writers import has_ended
from tests.support.seen import ENDED, KILLED, RUNNING, container, pod, status

CRASHED = container(waiting={"reason": "CrashLoopBackOff"}, last={"terminated": {"exitCode": 1}})
CREATING = container(ran=False, waiting={"reason": "ContainerCreating"})
INITIALIZED = container("init", terminated={"exitCode": 0, "reason": "Completed"})
EXITED = container(terminated={"exitCode": 0, "reason": "Completed"})


def failed_by_pod_gc(*containers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """PodGC sets the phase, and leaves all else as it was last known."""
    return status("Failed", *containers, by_kubelet=False, **more)


ENDS: dict[str, Pod] = {
    "killed, and its object kept by a finalizer": pod(status=ENDED, leaving=True),
    "killed, and not deleted": pod(status=ENDED),
    "completed": pod(status=status("Succeeded", EXITED)),
    "deleted before it had a node": pod(node="", leaving=True),
    "its init container failed for good: the others never start": pod(
        status=status(
            "Failed",
            container(ran=False, waiting={"reason": "PodInitializing"}),
            initContainerStatuses=[container("init", terminated={"exitCode": 1})],
        )
    ),
    "a sidecar and an ephemeral container ended too": pod(
        status=status(
            "Failed",
            KILLED,
            initContainerStatuses=[container("sidecar", terminated={"exitCode": 137})],
            ephemeralContainerStatuses=[container("debug", terminated={"exitCode": 137})],
        )
    ),
    "its kubelet does not find the container any more": pod(
        status=status("Failed", container(ran=False, terminated={"exitCode": 137, "reason": "ContainerStatusUnknown"}))
    ),
}

GOES_ON: dict[str, Pod] = {
    "it runs": pod(),
    "it runs and is leaving": pod(leaving=True),
    "PodGC wrote Failed over a running container": pod(status=failed_by_pod_gc(RUNNING), leaving=True),
    "PodGC wrote Failed over a container that was about to start": pod(status=failed_by_pod_gc(CREATING), leaving=True),
    "PodGC wrote Failed over a container that was about to restart": pod(status=failed_by_pod_gc(KILLED), leaving=True),
    "PodGC wrote Failed after the init container, before the application": pod(
        status=failed_by_pod_gc(CREATING, initContainerStatuses=[INITIALIZED]), leaving=True
    ),
    "it has a node and no statuses: its kubelet may be starting it": pod(status={"phase": "Pending"}),
    "it has a node and no statuses and is leaving": pod(status={"phase": "Pending"}, leaving=True),
    "its kubelet refused it, and may not have ended what still runs of it": pod(
        status={"phase": "Failed", "reason": "NodeAffinity"}
    ),
    "no statuses, whatever the conditions": pod(status=status("Failed")),
    "terminated just now: it restarts": pod(status=status("Running", KILLED)),
    "leaving and terminated, by a kubelet that may not know that it is leaving": pod(
        status=status("Running", KILLED), leaving=True
    ),
    "it waits to restart": pod(status=status("Running", CRASHED)),
    "it waits to restart and is leaving": pod(status=status("Running", CRASHED), leaving=True),
    "it waits to restart, and its phase is Failed": pod(status=status("Failed", CRASHED, KILLED)),
    "it waits after a start that left no more than a count": pod(
        status=status("Failed", KILLED, {"name": "b", "restartCount": 2, "state": {"waiting": {}}})
    ),
    "it is being created": pod(status=status("Pending", CREATING)),
    "it is being created and is leaving": pod(status=status("Pending", CREATING), leaving=True),
    "nothing of it ever ran, and its phase is Failed": pod(status=status("Failed", CREATING)),
    "the application ended, the sidecar runs": pod(
        status=status("Failed", KILLED, initContainerStatuses=[container("sidecar", running={})]), leaving=True
    ),
    "the application ended, somebody's debug container runs": pod(
        status=status("Failed", KILLED, ephemeralContainerStatuses=[container("debug", running={})]), leaving=True
    ),
    "one of two containers runs": pod(status=status("Failed", KILLED, container("second", running={}))),
    "killed while it initialized: its kubelet says Failed, and not that it is finished": pod(
        status=failed_by_pod_gc(CREATING, initContainerStatuses=[container("init", terminated={"exitCode": 137})]),
        leaving=True,
    ),
    "one runs whose ID is not told": pod(status=status("Failed", KILLED, container("second", ran=False, running={}))),
    "its phase is not a terminal one, whatever the conditions": pod(status=ENDED | {"phase": "Running"}),
    "a status that says nothing of a container with an ID": pod(status=status("Failed", KILLED, container("second"))),
    "no node yet": pod(node=""),
    "no node, and Failed: it could still be bound": pod(node="", status=status("Failed")),
}


@pytest.mark.parametrize("case", ENDS.values(), ids=ENDS)
def test_it_has_ended(case: Pod) -> None:
    assert has_ended(case)


@pytest.mark.parametrize("case", GOES_ON.values(), ids=GOES_ON)
def test_it_may_still_write(case: Pod) -> None:
    assert not has_ended(case)


def not_ready(seen: Pod) -> bool:
    """Ready=False, as the node controller writes it for a node out of touch."""
    return any(c.type == "Ready" and c.status == "False" for c in seen.status.conditions)


NAIVE: dict[str, Callable[[Pod], bool]] = {
    "by its phase": lambda seen: seen.over,
    "by Ready=False": not_ready,
    "by its deletion": lambda seen: seen.leaving,
    "by its containers alone": lambda seen: all(s.state.terminated for s in seen.status.container_statuses),
    "by no container running": lambda seen: not any(s.state.running for s in seen.status.all_statuses),
    "by its phase and no container running": lambda seen: (
        seen.over and not any(s.state.running for s in seen.status.all_statuses)
    ),
    "leaving, and every container terminated": lambda seen: (
        seen.leaving and all(s.state.terminated for s in seen.status.all_statuses)
    ),
}


@pytest.mark.parametrize("rule", NAIVE.values(), ids=NAIVE)
def test_the_naive_rule_calls_a_pod_ended_that_may_still_write(rule: Callable[[Pod], bool]) -> None:
    assert [name for name, case in GOES_ON.items() if rule(case)]


def test_the_last_words_name_every_container_and_its_exit_code() -> None:
    ended = status("Failed", KILLED, initContainerStatuses=[INITIALIZED])
    assert last_words(pod(status=ended)) == (
        "its kubelet reported every container ended: init with exit code 0, app with exit code 137"
    )
    assert last_words(pod(node="", leaving=True)) == "it is being deleted and never had a node"
