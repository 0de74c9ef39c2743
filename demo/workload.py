"""Whether a Deployment of the demo runs, and if not, why not."""

from __future__ import annotations

from demo.kube import Json, Kube
from demo.screen import Failed

HOPELESS = {"ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CrashLoopBackOff"}
"""Reasons of a waiting container that more waiting does not mend."""
LOG_LINES = 8
REVISION = "deployment.kubernetes.io/revision"


def available(kube: Kube, name: str, labels: str) -> bool | None:
    """True once every replica of the latest template is available, None before.

    `labels` selects its pods. `Failed` at once when a container cannot start, with the last words it said.
    """
    deployment = kube.get("deployment", name)
    latest = {
        one["metadata"]["labels"]["pod-template-hash"]
        for one in kube.get("replicasets", "-l", labels)["items"]
        if one["metadata"]["annotations"].get(REVISION) == deployment["metadata"]["annotations"].get(REVISION)
    }
    for pod in kube.get("pods", "-l", labels)["items"]:
        if pod["metadata"]["labels"].get("pod-template-hash") in latest:  # those of an earlier template are leaving
            _require_hope(kube, pod)
    status, wanted = deployment["status"], deployment["spec"]["replicas"]
    seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
    counts = {status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return True if seen and counts == {wanted} else None


def _require_hope(kube: Kube, pod: Json) -> None:
    name = pod["metadata"]["name"]
    status = pod["status"]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container["state"].get("waiting") or {}
        if waiting.get("reason") not in HOPELESS:
            continue
        told = waiting.get("message", "")
        if waiting["reason"] == "CrashLoopBackOff":
            words = ("logs", name, "-c", container["name"], "--previous", f"--tail={LOG_LINES}")
            told += "\n" + kube.run(*words).rstrip()
        raise Failed(
            f"container {container['name']} of pod {name}: {waiting['reason']}: {told}",
            (kube.command("describe", "pod", name), kube.command("logs", name, "--all-containers")),
        )
