"""The agent's certificate: a Secret of the pair's namespace."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from storagemirror.resources import labels
from storagemirror.resources.names import AgentRef


@dataclass(frozen=True)
class Certificate:
    """PEM of a leaf certificate, its key, and the CA that both agents trust."""

    certificate: bytes
    key: bytes
    ca: bytes
    not_after: str
    """RFC 3339."""
    issuer: str
    """Digest of `ca`."""


def certificate_secret(ref: AgentRef, issued: Certificate) -> dict[str, Any]:
    """The Secret that is mounted at /tls. When it ends and who signed it can be read without reading the key."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": ref.metadata(annotations={labels.NOT_AFTER: issued.not_after, labels.ISSUER: issued.issuer}),
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": b64encode(issued.certificate).decode(),
            "tls.key": b64encode(issued.key).decode(),
            "ca.crt": b64encode(issued.ca).decode(),
        },
    }
