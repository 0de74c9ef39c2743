"""The CA of the agents, and the certificates that it signs.

Its key is in a Secret of the operator's namespace and nowhere else; a pair's namespace holds leaf certificates only.
ECDSA P-256. The CA is renewed with the same key and name, so that what it signed before stays valid.
"""

from __future__ import annotations

import hashlib
import threading
from base64 import b64decode, b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storagemirror.clock import Clock
from storagemirror.contract import peer_name
from storagemirror.errors import BadInput
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.faults import Conflict, Missing
from storagemirror.kube.signing import new_key, pem_of, read_ca, sign_ca, sign_leaf
from storagemirror.plan.observed import Authority
from storagemirror.plan.times import written
from storagemirror.resources import labels
from storagemirror.resources.certificate import Certificate
from storagemirror.resources.names import AgentRef

HELD_IN = "storagemirror-ca"
"""Name of the Secret, in the operator's namespace."""
CA_RENEW_DAYS = 365
CERTIFICATE, KEY = "tls.crt", "tls.key"
_ANEW = f"Delete the Secret {HELD_IN}: a new CA is made, and every agent gets a new certificate."


class CertificateAuthority:
    """Signs leaf certificates. Reads its Secret once, makes it where there is none; safe for threads."""

    def __init__(self, api: Api, namespace: str, clock: Clock) -> None:
        self._api = api
        self._namespace = namespace
        self._clock = clock
        self._lock = threading.Lock()
        self._pair: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None

    def authority(self) -> Authority:
        """Who signs."""
        return Authority(issuer=_digest(self._load()[0]))

    def issue(self, ref: AgentRef) -> Certificate:
        """A new key and its certificate for one agent. Its one name says pair, volume and role."""
        issuer, issuer_key = self._load()
        key, now = new_key(), self._now()
        leaf = sign_leaf(issuer, issuer_key, key, peer_name(ref.role, ref.volume, ref.pair_uid), now=now)
        return Certificate(
            certificate=pem_of(leaf),
            key=pem_of(key),
            ca=pem_of(issuer),
            not_after=written(leaf.not_valid_after_utc),
            issuer=_digest(issuer),
        )

    def _load(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        with self._lock:
            if self._pair is None or self._ends_soon(self._pair[0]):
                self._pair = self._read_or_make()
            return self._pair

    def _read_or_make(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            secret = self._api.get(dict[str, Any], paths.SECRETS, self._namespace, HELD_IN)
        except Missing:
            return self._make()
        certificate, key = _read(secret)
        if not self._ends_soon(certificate):
            return certificate, key
        renewed = sign_ca(key, self._now())
        # By compare-and-swap: a replica that was faster has renewed it as well.
        version = secret["metadata"]["resourceVersion"]
        self._api.replace(paths.SECRETS, _secret(self._namespace, renewed, key, version))
        return renewed, key

    def _make(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = new_key()
        certificate = sign_ca(key, self._now())
        try:
            self._api.create(paths.SECRETS, _secret(self._namespace, certificate, key, None))
        except Conflict:
            return _read(self._api.get(dict[str, Any], paths.SECRETS, self._namespace, HELD_IN))
        return certificate, key

    def _ends_soon(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_after_utc - self._now() < timedelta(days=CA_RENEW_DAYS)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)


def _read(secret: dict[str, Any]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    data = secret.get("data") or {}
    try:
        return read_ca(b64decode(data[CERTIFICATE]), b64decode(data[KEY]))
    except (KeyError, ValueError, TypeError) as e:
        raise BadInput(f"Secret {HELD_IN} holds no CA: {e}", hint=_ANEW) from e


def _secret(
    namespace: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, version: str | None
) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": HELD_IN,
        "namespace": namespace,
        "labels": {labels.APP_NAME: labels.STORAGEMIRROR, labels.APP_COMPONENT: "ca"},
    }
    if version is not None:
        metadata["resourceVersion"] = version
    data = {CERTIFICATE: b64encode(pem_of(certificate)).decode(), KEY: b64encode(pem_of(key)).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}


def _digest(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()[:32]
