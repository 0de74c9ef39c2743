"""`storagemirror keys OUT_DIR`: what two hosts need to know each other."""

from __future__ import annotations

import argparse
import os
from datetime import UTC, datetime

from storagemirror.cli.ends import VOLUME, pair_name, pair_uid
from storagemirror.contract import Role, peer_name
from storagemirror.errors import BadInput

DESCRIPTION = """\
Make a CA and one certificate for each side of a mirror from host to host:

  OUT_DIR/target/   give to the host that serves:   storagemirror serve DIR --keys target
  OUT_DIR/source/   give to the host that mirrors:  storagemirror mirror SRC HOST:PORT --keys source
  OUT_DIR/ca.key    keep; neither side needs it. With it in place the same command makes new certificates of the same
                    CA, which both sides take together with the old ones.

A certificate names the pair and the side, no host: it is good at any address, and for this pair alone.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.description = DESCRIPTION
    parser.add_argument("directory", metavar="OUT_DIR", help="made when it does not exist")
    parser.add_argument(
        "--pair", type=pair_name, default="", metavar="NAME", help="of mirrors that must not be confused with others"
    )
    parser.add_argument(
        "--days", type=_days, default=365, metavar="N", help="how long the certificates are good (default 365)"
    )


def _days(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 3650:
        raise argparse.ArgumentTypeError(f"expected 1 to 3650, got {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """0: written."""
    from storagemirror.kube.signing import new_key, pem_of, read_ca, sign_ca, sign_leaf

    now = datetime.now(UTC)
    try:
        _directory(args.directory)
        known = _read(args.directory, "ca.key")
        if known is None:
            ca_key = new_key()
            ca = sign_ca(ca_key, now)
            _write(args.directory, "ca.key", pem_of(ca_key))
            _write(args.directory, "ca.crt", pem_of(ca))
        else:
            ca, ca_key = read_ca(_read(args.directory, "ca.crt") or b"", known)
        for role in (Role.SOURCE, Role.TARGET):
            key = new_key()
            name = peer_name(role, VOLUME, pair_uid(args.pair))
            leaf = sign_leaf(ca, ca_key, key, name, now=now, days=args.days)
            place = os.path.join(args.directory, role.value.lower())
            _directory(place)
            _write(place, "ca.crt", pem_of(ca))
            _write(place, "tls.key", pem_of(key))
            _write(place, "tls.crt", pem_of(leaf))
            print(f"{place}: good until {leaf.not_valid_after_utc:%Y-%m-%d}")
    except ValueError as e:
        raise BadInput(
            f"expected ca.crt and ca.key in {args.directory} to be a CA that this command made: {e}",
            hint="Name another directory: it gets a CA of its own.",
        ) from e
    except OSError as e:
        raise BadInput(f"cannot write {e.filename}: {e.strerror}") from e
    return 0


def _directory(path: str) -> None:
    os.makedirs(path, 0o700, exist_ok=True)


def _read(directory: str, name: str) -> bytes | None:
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _write(directory: str, name: str, content: bytes) -> None:
    """Whole or not at all, and never readable by others."""
    path = os.path.join(directory, name)
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(content)
    os.replace(f"{path}.new", path)
