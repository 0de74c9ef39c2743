"""The pod that nobody makes: asked about, to see whether the admission gate refuses it."""

from __future__ import annotations

from typing import Any

from storagemirror.api.agents import AgentResources

PROBE_NAME = "storagemirror-gate-probe"


def probe_pod(namespace: str, claim: str, resources: AgentResources) -> dict[str, Any]:
    """Mounts `claim`; fits the PodSecurity level restricted, and asks for what an agent asks for, which the namespace's
    LimitRange lets in (it is asked before the gate)."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": PROBE_NAME, "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "probe",
                    "image": "storagemirror.invalid/probe",
                    "resources": resources.dump(),
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                    "volumeMounts": [{"name": "volume", "mountPath": "/volume"}],
                }
            ],
            "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
        },
    }
