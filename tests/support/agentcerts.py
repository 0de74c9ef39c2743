"""Certificates for tests of the agents: a CA, and leaves with one DNS name, as the operator makes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from storagemirror.contract import Role, peer_name


class Authority:
    """A CA of its own."""

    def __init__(self, name: str = "test") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(self._name, self._key, x509.BasicConstraints(ca=True, path_length=0))

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write(self, directory: Path, role: Role, volume: str, pair_uid: str) -> Path:
        """A directory as the Secret of an agent is mounted: tls.crt, tls.key, ca.crt."""
        return self.write_name(directory, x509.DNSName(peer_name(role, volume, pair_uid)))

    def write_server(self, directory: Path) -> Path:
        """For a server on 127.0.0.1."""
        return self.write_name(directory, x509.IPAddress(ip_address("127.0.0.1")))

    def write_name(self, directory: Path, name: x509.GeneralName) -> Path:
        """A leaf with this one name."""
        directory.mkdir(parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._sign(x509.Name([]), key, x509.SubjectAlternativeName([name]))
        (directory / "tls.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
        (directory / "tls.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        (directory / "ca.crt").write_bytes(self.pem)
        return directory

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=True)
            .sign(self._key, hashes.SHA256())
        )
