"""What an agent is told by its pod: environment variables, set by the operator."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass

from storagemirror.contract import AGENT_PORT, Role
from storagemirror.errors import BadInput

TOKEN_DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 (where it lies, not what it is)


@dataclass(frozen=True)
class ApiSettings:
    """How to reach the API server: address, and the files of the service account that the kubelet keeps fresh."""

    host: str
    port: int
    ca_file: str
    token_file: str


@dataclass(frozen=True)
class Settings:
    """One agent's identity and places. Directories are paths in the container."""

    namespace: str
    order: str
    """Name of the ConfigMap with the order."""
    lease: str
    """Name of the Lease for heartbeat and report."""
    instance: int
    role: Role
    pod_name: str
    pod_uid: str
    node_name: str
    volume: str
    tls: str
    port: int
    """Target: TCP port to listen on; 0 takes any (tests)."""
    compare_seconds: float
    """Source: at least so long between two full comparisons while changes are watched."""
    api: ApiSettings
    queue: str = ""
    """Source: directory for the disk queue of points."""
    guard: str | None = None
    """Source: directory that is shared with the guards; None where there are none."""
    tracer: str | None = None
    """Source: directory that is shared with the tracer; None where there is none: then the agent opens the kernel's
    trace itself, if it may."""


def from_environment(env: Mapping[str, str]) -> Settings:
    """`BadInput` names the variable that is missing or cannot be meant."""
    return Settings(
        namespace=_need(env, "STORAGEMIRROR_NAMESPACE"),
        order=_need(env, "STORAGEMIRROR_ORDER"),
        lease=_need(env, "STORAGEMIRROR_LEASE"),
        instance=_number(env, "STORAGEMIRROR_INSTANCE"),
        role=_role(_need(env, "STORAGEMIRROR_ROLE")),
        pod_name=env.get("POD_NAME", ""),
        pod_uid=env.get("POD_UID", ""),
        node_name=env.get("NODE_NAME", ""),
        volume=env.get("STORAGEMIRROR_VOLUME_PATH", "/volume"),
        tls=env.get("STORAGEMIRROR_TLS_PATH", "/tls"),
        port=_number(env, "STORAGEMIRROR_PORT", AGENT_PORT),
        compare_seconds=float(_number(env, "STORAGEMIRROR_COMPARE_SECONDS", 600)),
        api=ApiSettings(
            host=_need(env, "KUBERNETES_SERVICE_HOST"),
            port=_number(env, "KUBERNETES_SERVICE_PORT", 443),
            ca_file=env.get("STORAGEMIRROR_API_CA", f"{TOKEN_DIRECTORY}/ca.crt"),
            token_file=env.get("STORAGEMIRROR_API_TOKEN", f"{TOKEN_DIRECTORY}/token"),
        ),
        queue=env.get("STORAGEMIRROR_QUEUE_PATH") or tempfile.gettempdir(),
        guard=env.get("STORAGEMIRROR_GUARD_PATH") or None,
        tracer=env.get("STORAGEMIRROR_TRACER_PATH") or None,
    )


def _need(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "")
    if not value:
        raise BadInput(f"expected {name} in the environment", hint="agents are started by the operator, in a sync pod")
    return value


def _number(env: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = _need(env, name) if default is None else env.get(name, "") or str(default)
    if not text.isdecimal():
        raise BadInput(f"expected a whole number in {name}, got {text!r}")
    return int(text)


def _role(text: str) -> Role:
    try:
        return Role(text.capitalize())
    except ValueError:
        raise BadInput(f"expected Source or Target in STORAGEMIRROR_ROLE, got {text!r}") from None
