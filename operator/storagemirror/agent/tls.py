"""Mutual TLS 1.3 between the two agents of a volume.

Both certificates come from the operator's own CA. That proves "an agent of this operator"; that it is *the* other end
of *this* volume is proven by the one DNS name in its certificate, which must be exactly `contract.peer_name(...)`.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Sequence

from storagemirror.errors import BadInput, Disconnected, Refused

HANDSHAKE_SECONDS = 10.0

_FILES = ("tls.crt", "tls.key", "ca.crt")


class Tls:
    """Contexts from the files in a mounted Secret, made again when the kubelet has replaced the files."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._contexts: tuple[ssl.SSLContext, ssl.SSLContext] | None = None

    def connect(self, connection: socket.socket, peer: str) -> ssl.SSLSocket:
        """Handshake as the dialling end; `peer` is the one name that the other may have."""
        return self._handshake(self._load()[0], connection, peer, server=False)

    def accept(self, connection: socket.socket, peer: str | Sequence[str]) -> ssl.SSLSocket:
        """Handshake as the listening end; `peer` is the name that the other must have, or several of which one."""
        return self._handshake(self._load()[1], connection, peer, server=True)

    def check(self, name: str) -> None:
        """Judge our own files as the other end will, before anybody is met: `BadInput` when there are none that can
        be used, `Refused` when our certificate has expired, is not of our CA, or is not that of `name`."""
        ours = self._load()
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = ours[0].wrap_bio(to_client, to_server, server_side=False)
        server = ours[1].wrap_bio(to_server, to_client, server_side=True)
        for end in (client, server, client, server):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as e:
                raise Refused(
                    f"the certificate in {self._directory} is not to be trusted: {e.verify_message}",
                    reason="CertificateNotTrusted",
                ) from e
        check_name(client.getpeercert(), name)

    def _handshake(
        self, context: ssl.SSLContext, raw: socket.socket, peer: str | Sequence[str], *, server: bool
    ) -> ssl.SSLSocket:
        raw.settimeout(HANDSHAKE_SECONDS)
        try:
            # With TLS 1.3 the dialling end is done before the other has judged its certificate: a refusal of that
            # comes with the first read, as a broken connection.
            secured = context.wrap_socket(raw, server_side=server)
        except ssl.SSLCertVerificationError as e:
            raise Refused(
                f"the peer's certificate is not to be trusted: {e.verify_message}",
                reason="PeerNotTrusted",
                hint="compare the clocks of the nodes; both agents need a certificate of the same operator",
            ) from e
        except (OSError, ValueError) as e:
            raise Disconnected(f"no TLS with the peer: {e}") from e
        try:
            check_name(secured.getpeercert(), peer)
        except Refused:
            secured.close()
            raise
        return secured

    def _load(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        try:
            stats = [os.stat(os.path.join(self._directory, name)) for name in _FILES]
            seen = tuple((s.st_mtime_ns, s.st_ino, s.st_size) for s in stats)
            if self._contexts is None or seen != self._seen:
                self._contexts = (self._context(ssl.PROTOCOL_TLS_CLIENT), self._context(ssl.PROTOCOL_TLS_SERVER))
                self._seen = seen
        except (OSError, ssl.SSLError) as e:
            raise BadInput(
                f"expected {', '.join(_FILES)} in {self._directory}: {e}",
                reason="CertificateUnusable",
                hint="the operator writes them to the Secret of this agent",
            ) from e
        return self._contexts

    def _context(self, protocol: int) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # The name is checked by us, exactly: it is no host's name, and both ends have one.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            # Tickets are work for both ends, and bring nothing to connections that live for days.
            context.num_tickets = 0
        crt, key, ca = (os.path.join(self._directory, name) for name in _FILES)
        context.load_verify_locations(cafile=ca)
        context.load_cert_chain(crt, key)
        return context


def check_name(certificate: object, expected: str | Sequence[str]) -> None:
    """`Refused` unless the verified peer certificate (as `getpeercert` gives it) has `expected`, or one of these, as
    its only name."""
    names, wanted = names_in(certificate), (expected,) if isinstance(expected, str) else expected
    if len(names) != 1 or names[0] not in wanted:
        raise Refused(
            f"expected the peer to be {' or '.join(wanted)}, its certificate says {', '.join(names) or 'nothing'}",
            reason="WrongPeer",
            hint="another pair's or volume's agent answers at this address; its order is renewed by the operator",
        )


def names_in(certificate: object) -> list[str]:
    """DNS names in a verified certificate, as `getpeercert` gives it."""
    if not isinstance(certificate, dict):
        return []
    return [str(value) for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
