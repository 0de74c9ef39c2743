"""Certificates, keys and tokens of a cluster."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import os
import secrets
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.cluster.layout import API_SERVICE_IP, CONTROL_PLANE_IP, MAX_NODES, node_name

API_NAMES = (
    "127.0.0.1",
    API_SERVICE_IP,
    CONTROL_PLANE_IP,
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True)
class User:
    """One who may talk to the API server: the name and the group the server knows it by."""

    name: str
    group: str


def users() -> dict[str, User]:
    """Everyone who gets a token, by the short name used in file names."""
    found = {
        "admin": User("admin", "system:masters"),
        "controller-manager": User("system:kube-controller-manager", ""),
        "scheduler": User("system:kube-scheduler", ""),
        "proxy": User("system:kube-proxy", ""),
        "coredns": User("system:coredns", ""),
    }
    for number in range(1, MAX_NODES + 1):
        found[node_name(number)] = User(f"system:node:{node_name(number)}", "system:nodes")
    return found


def token_file(tokens: dict[str, str]) -> str:
    """The API server's --token-auth-file: token, user name, user id and groups a line."""
    lines = [f'{tokens[short]},{user.name},{short},"{user.group}"' for short, user in users().items()]
    return "\n".join(lines) + "\n"


def kubeconfig(server: str, ca: bytes, token: str) -> str:
    """A kubeconfig that needs no other file (JSON, which is YAML)."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "cluster",
        "clusters": [
            {
                "name": "cluster",
                "cluster": {"server": server, "certificate-authority-data": b64encode(ca).decode()},
            }
        ],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
    }
    return json.dumps(content, indent=2) + "\n"


def write_pki(directory: Path) -> None:
    """Make a CA, the API server's certificate, the API server's client certificate for kubelets, the service account
    key pair and one token per user in `directory`. Nothing is made anew where all is there already."""
    if (directory / "tokens.json").exists():
        return
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("storagemirror-test-cluster", None, ca_key, None, ca_key)
    _save(directory / "ca", ca_key, ca)
    for file, name, group, names in (
        ("apiserver", "kube-apiserver", None, API_NAMES),
        ("kubelet-client", "kube-apiserver", "system:masters", ()),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        _save(directory / file, key, _certificate(name, group, key, ca, ca_key, names))
    account_key = rsa.generate_private_key(65537, 2048)
    _save(directory / "sa", account_key, None)
    public = account_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (directory / "sa.pub").write_bytes(public)
    tokens = {short: secrets.token_hex(16) for short in users()}
    write_private(directory / "tokens.csv", token_file(tokens))
    write_private(directory / "tokens.json", json.dumps(tokens))


def read_tokens(directory: Path) -> dict[str, str]:
    """The tokens that `write_pki` made, by short name."""
    tokens: dict[str, str] = json.loads((directory / "tokens.json").read_text())
    return tokens


def write_private(path: Path, text: str) -> None:
    """Write for the owner's eyes only, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    fresh.rename(path)


def _save(stem: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, cert: x509.Certificate | None) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(stem.with_suffix(".key"), pem.decode())
    if cert is not None:
        stem.with_suffix(".crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))


def _certificate(
    name: str,
    group: str | None,
    key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate | None,
    ca_key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...] = (),
) -> x509.Certificate:
    """A certificate for a year, for serving and for calling; without `ca`, a CA itself."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
    if group is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
    subject = x509.Name(parts)
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if ca is None else ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=ca is None, path_length=None), critical=True)
    )
    if ca is not None:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
