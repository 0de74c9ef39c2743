"""Has a pod ended? By the object just read, and by nothing else.

The one question on which it hangs whether two sides write at once. What an object says is its kubelet's word of some
time ago, and others write into it too: PodGC and cloud controllers set `phase`, the node controller sets `Ready`.
"""

from __future__ import annotations

from storagemirror.plan.objects import ContainerStatus, Pod

_LAST_WORDS = frozenset({"PodCompleted", "PodFailed"})
"""Reasons that a kubelet alone gives, to Ready and ContainersReady, once it will start nothing of a pod any more."""


def has_ended(pod: Pod) -> bool:
    """Whether no container of the pod runs, and none will ever again.

    A pod **without a node** has ended when it is leaving: the API binds no pod that is being deleted. (Not leaving, it
    may be bound in the next moment, whatever its phase.)

    A pod **with a node** has ended when its kubelet's last word was read:

    - its phase is Succeeded or Failed. Else what is terminated now may start again, also when the pod is leaving: a
      kubelet that is cut off has not heard of the deletion, and restarts what crashed just before the cut. (A kubelet
      gives every pod that it has ended a terminal phase, the deleted ones too.)
    - it was the kubelet that said so. PodGC writes `Failed` over whatever was last known, a container that is about
      to start or to restart among it; it leaves the reasons of Ready and ContainersReady as they were.
    - no container is running, and every one that ever had an ID has `state.terminated`. Init containers, sidecars and
      ephemeral containers count. One that waits after it ran (CrashLoopBackOff) has not ended yet: a kubelet that
      ends it for good says terminated. One that waits and never ran will not any more: the kubelet has finished.
    - at least one is terminated. A kubelet that is finished with a pod says so of one container at least. With no
      statuses at all nothing is known: a kubelet that refuses a pod writes `Failed` alone, and may do so at its own
      restart, before it has ended what still runs of that pod.
    """
    if not pod.spec.node_name:
        return pod.leaving
    statuses = pod.status.all_statuses
    if not pod.over or not _by_its_kubelet(pod):
        return False
    if any(s.state.running is not None or (_ever_ran(s) and s.state.terminated is None) for s in statuses):
        return False
    return any(s.state.terminated is not None for s in statuses)


def _by_its_kubelet(pod: Pod) -> bool:
    """Whether the terminal phase is its kubelet's own word."""
    said = (c for c in pod.status.conditions if c.type in ("Ready", "ContainersReady"))
    return any(c.status == "False" and c.reason in _LAST_WORDS for c in said)


def _ever_ran(status: ContainerStatus) -> bool:
    """Whether the container ever had an ID."""
    before = status.last_state.terminated is not None or status.last_state.running is not None
    return bool(status.container_id) or before or status.restart_count > 0


def last_words(pod: Pod) -> str:
    """What was read of a pod that has ended, for people."""
    if not pod.spec.node_name:
        return "it is being deleted and never had a node"
    ended = [(s.name, s.state.terminated) for s in pod.status.all_statuses]
    codes = ", ".join(f"{name} with exit code {end.exit_code}" for name, end in ended if end is not None)
    return f"its kubelet reported every container ended: {codes}"
