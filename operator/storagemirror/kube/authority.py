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
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from storagemirror.clock import Clock
from storagemirror.contract import peer_name
from storagemirror.errors import BadInput
from storagemirror.kube import paths
from storagemirror.kube.client import Api
from storagemirror.kube.faults import Conflict, Missing
from storagemirror.plan.observed import Authority
from storagemirror.plan.times import written
from storagemirror.resources import labels
from storagemirror.resources.certificate import Certificate
from storagemirror.resources.names import AgentRef

HELD_IN = "storagemirror-ca"
"""Name of the Secret, in the operator's namespace."""
CA_DAYS = 3650
CA_RENEW_DAYS = 365
LEAF_DAYS = 365
EARLY = timedelta(hours=1)
"""Certificates are valid from an hour ago: nodes' clocks differ."""
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
        key = ec.generate_private_key(ec.SECP256R1())
        now = self._now()
        not_after = min(now + timedelta(days=LEAF_DAYS), issuer.not_valid_after_utc)
        name = peer_name(ref.role, ref.volume, ref.pair_uid)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        leaf = (
            x509.CertificateBuilder()
            .subject_name(_name("storagemirror agent"))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(not_after)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(_key_usage(signs=False), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
            .sign(issuer_key, hashes.SHA256())
        )
        return Certificate(
            certificate=leaf.public_bytes(serialization.Encoding.PEM),
            key=_pem(key),
            ca=issuer.public_bytes(serialization.Encoding.PEM),
            not_after=written(not_after),
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
        renewed = self._sign(key)
        # By compare-and-swap: a replica that was faster has renewed it as well.
        version = secret["metadata"]["resourceVersion"]
        self._api.replace(paths.SECRETS, _secret(self._namespace, renewed, key, version))
        return renewed, key

    def _make(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key)
        try:
            self._api.create(paths.SECRETS, _secret(self._namespace, certificate, key, None))
        except Conflict:
            return _read(self._api.get(dict[str, Any], paths.SECRETS, self._namespace, HELD_IN))
        return certificate, key

    def _sign(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        now, name = self._now(), _name("storagemirror agents CA")
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLY)
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )

    def _ends_soon(self, certificate: x509.Certificate) -> bool:
        return certificate.not_valid_after_utc - self._now() < timedelta(days=CA_RENEW_DAYS)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)


def _read(secret: dict[str, Any]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    data = secret.get("data") or {}
    try:
        certificate = x509.load_pem_x509_certificate(b64decode(data[CERTIFICATE]))
        key = serialization.load_pem_private_key(b64decode(data[KEY]), None)
    except (KeyError, ValueError, TypeError) as e:
        raise BadInput(f"Secret {HELD_IN} holds no CA: {e}", hint=_ANEW) from e
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise BadInput(f"Secret {HELD_IN}: key and certificate do not belong together", hint=_ANEW)
    return certificate, key


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
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    data = {CERTIFICATE: b64encode(pem).decode(), KEY: b64encode(_pem(key)).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/tls", "data": data}


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _key_usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()[:32]
