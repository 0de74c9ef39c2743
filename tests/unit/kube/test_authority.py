"""The CA and what it signs, judged by OpenSSL in a real handshake."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from storagemirror.contract import Role, peer_name
from storagemirror.errors import BadInput
from storagemirror.kube.authority import CertificateAuthority
from storagemirror.kube.signing import CA_DAYS
from storagemirror.resources.certificate import Certificate
from storagemirror.resources.names import AgentRef
from tests.support.fake_api import FakeApi
from tests.support.world import HOME, HeldClock

UID = "0b6b7c9e-8d0f-4a53-9c39-1f1d1c3e7a55"


def ref(role: Role, uid: str = UID) -> AgentRef:
    return AgentRef("orders", uid, "shop", "data", role)


def world() -> tuple[FakeApi, HeldClock]:
    clock = HeldClock()
    # OpenSSL looks at the machine's clock.
    clock.moment = datetime.now(UTC)
    return FakeApi(lambda: clock.moment), clock


def context(side: int, given: Certificate, directory: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    directory.mkdir()
    (directory / "crt").write_bytes(given.certificate)
    (directory / "key").write_bytes(given.key)
    made.load_cert_chain(directory / "crt", directory / "key")
    made.load_verify_locations(cadata=given.ca.decode())
    made.check_hostname = side == ssl.PROTOCOL_TLS_CLIENT
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, expect: str) -> str:
    """The client's name as the server sees it."""
    near, far = socket.socketpair()
    seen: list[str] = []

    def serve() -> None:
        # Where the client refuses, it says so, and the test looks at the client.
        with contextlib.suppress(ssl.SSLError), server.wrap_socket(far, server_side=True) as wrapped:
            der = wrapped.getpeercert(binary_form=True) or b""
            names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName)
            seen.extend(names.value.get_values_for_type(x509.DNSName))
            wrapped.sendall(b"x")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with client.wrap_socket(near, server_hostname=expect) as wrapped:
        assert wrapped.recv(1) == b"x"
    thread.join(5)
    return seen[0]


def test_two_agents_know_each_other(tmp_path: Path) -> None:
    api, clock = world()
    authority = CertificateAuthority(api, HOME, clock)
    source, target = authority.issue(ref(Role.SOURCE)), authority.issue(ref(Role.TARGET))
    client = context(ssl.PROTOCOL_TLS_CLIENT, source, tmp_path / "s")
    server = context(ssl.PROTOCOL_TLS_SERVER, target, tmp_path / "t")
    assert handshake(client, server, peer_name(Role.TARGET, "data", UID)) == peer_name(Role.SOURCE, "data", UID)


def test_an_agent_of_another_pair_is_not_taken_for_ours(tmp_path: Path) -> None:
    api, clock = world()
    authority = CertificateAuthority(api, HOME, clock)
    other = authority.issue(ref(Role.TARGET, uid="9" * 36))
    client = context(ssl.PROTOCOL_TLS_CLIENT, authority.issue(ref(Role.SOURCE)), tmp_path / "s")
    server = context(ssl.PROTOCOL_TLS_SERVER, other, tmp_path / "t")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(client, server, peer_name(Role.TARGET, "data", UID))


def test_the_ca_is_made_once_and_read_ever_after() -> None:
    api, clock = world()
    first = CertificateAuthority(api, HOME, clock).authority()
    assert CertificateAuthority(api, HOME, clock).authority() == first
    secrets = api.all("secrets")
    assert [s["metadata"]["namespace"] for s in secrets] == [HOME]


def test_the_ca_is_renewed_with_its_key_so_that_old_certificates_stay_valid() -> None:
    api, clock = world()
    authority = CertificateAuthority(api, HOME, clock)
    old = authority.issue(ref(Role.SOURCE))
    before = authority.authority()
    clock.moment += timedelta(days=CA_DAYS - 300)
    assert authority.authority() != before
    renewed = x509.load_pem_x509_certificate(b64decode(api.all("secrets")[0]["data"]["tls.crt"]))
    x509.load_pem_x509_certificate(old.certificate).verify_directly_issued_by(renewed)


def test_a_secret_that_holds_no_ca_is_named_and_not_overwritten() -> None:
    api, clock = world()
    api.put("secrets", {"metadata": {"name": "storagemirror-ca", "namespace": HOME}, "data": {}})
    with pytest.raises(BadInput, match="storagemirror-ca"):
        CertificateAuthority(api, HOME, clock).authority()
    assert api.all("secrets")[0]["data"] == {}


def test_no_certificate_outlives_its_ca() -> None:
    api, clock = world()
    authority = CertificateAuthority(api, HOME, clock)
    leaf = x509.load_pem_x509_certificate(authority.issue(ref(Role.SOURCE)).certificate)
    ca = x509.load_pem_x509_certificate(authority.issue(ref(Role.SOURCE)).ca)
    assert leaf.not_valid_after_utc <= ca.not_valid_after_utc
