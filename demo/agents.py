"""The agents of the demo's pair, and the operators: which pods they are."""

from __future__ import annotations

from dataclasses import replace

from demo.kube import Kube
from demo.manifests import HERE, PAIR
from demo.screen import Failed

VOLUME = "/volume"
"""Where an agent has its claim."""
SYSTEM = "storagemirror-system"
"""The operator's namespace."""
LEASE = "storagemirror-operator"


def on_copy(kube: Kube, script: str, *words: str, limit: float = 120) -> str:
    """Run a program of `pods/` in the target agent's pod: nobody else may mount the copy. What it printed."""
    labels = f"storagemirror.io/role=target,storagemirror.io/pair-name={PAIR}"
    pods = [p["metadata"]["name"] for p in kube.get("pods", "-l", labels)["items"]]
    if not pods:
        raise Failed("there is no agent beside the copy", (kube.command("get", "pods", "-o", "wide"),))
    return kube.python(pods[0], "agent", (HERE / "pods" / script).read_text(), *words, limit=limit)


def leader_node(kube: Kube) -> str | None:
    """The node of the operator that leads; None when that is not known."""
    there = replace(kube, namespace=SYSTEM)
    lease = there.find("lease", LEASE)
    holder = str(lease["spec"].get("holderIdentity") or "") if lease else ""
    for pod in there.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]:
        if holder.startswith(f"{pod['metadata']['name']}_"):
            return str(pod["spec"].get("nodeName") or "") or None
    return None
