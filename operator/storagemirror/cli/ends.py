"""The two ends of a mirror by hand: this process reads the source; the target is written by a child of it, or by
`storagemirror serve` on another host, over mutual TLS. One protocol for both.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import re
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storagemirror.agent.tls import Tls
from storagemirror.contract import AGENT_PORT, FIRST_EPOCH, KeepOrder, Role, TargetPolicy, peer_name
from storagemirror.errors import COMMAND_LINE, BadInput, Disconnected, Passing, Refused, StorageMirrorError, VolumeError
from storagemirror.fs.source import SourceVolume
from storagemirror.sync.observer import Observer, SilentObserver
from storagemirror.sync.requests import Expectation, TargetOptions
from storagemirror.sync.source import SourceSession, hello
from storagemirror.sync.stream import SocketStream
from storagemirror.terms import EXACT
from storagemirror.terms import Terms as MirrorTerms

VOLUME = "data"
_PAIR = "by-hand"
"""The pair of copies that are made without a cluster: a target of a MirrorPair is never mistaken for one."""
CONNECT_SECONDS = 10.0
BUSY_SECONDS = 12.0
"""A session that lost its source is given up by the other side after 8 s of silence."""
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/]*)):([0-9]{1,5})").fullmatch
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,48}[a-z0-9])?").fullmatch


@dataclass(frozen=True, slots=True)
class Address:
    """Where the other side listens, or we do; an empty host is every address of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Terms:
    """What the side that is written allows."""

    adopt: bool = False
    max_delete_percent: int = 50
    confirm: str | None = None
    sync: bool = True
    """Wait for the target's disk at the end."""
    pair: str = ""
    under: MirrorTerms = EXACT
    """Rules, and what becomes of orphans: of the source's side, which tells the other."""
    keep: KeepOrder = field(default_factory=KeepOrder)
    """Beyond what is always kept; the source says it."""

    def expectation(self) -> Expectation:
        """As the session wants it."""
        policy = TargetPolicy.ADOPT if self.adopt else TargetPolicy.EMPTY
        options = TargetOptions(policy, self.max_delete_percent)
        return Expectation(pair_uid(self.pair), VOLUME, FIRST_EPOCH, options, confirm=self.confirm)


# -- the command line


def pair_name(text: str) -> str:
    """For argparse: the name of a pair."""
    if text and not _NAME(text):
        raise argparse.ArgumentTypeError(f"expected at most 50 of a-z, 0-9 and - within, got {text!r}")
    return text


def pair_uid(name: str) -> str:
    """What the target's volume remembers, and the certificates say."""
    return f"{_PAIR}-{name}" if name else _PAIR


def address(text: str) -> Address:
    """For argparse: HOST:PORT, [IPV6]:PORT, or :PORT."""
    found = _ADDRESS(text)
    if found is None or not 0 <= int(found[3]) <= 65535:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, or [IPV6]:PORT, got {text!r}")
    return Address(found[1] or found[2], int(found[3]))


def destination(text: str) -> str | Address:
    """For argparse: HOST:PORT, or a directory; one whose name looks like an address is written with a slash."""
    if _ADDRESS(text):
        there = address(text)
        return Address(there.host or "localhost", there.port)
    if ":" in text and "/" not in text:
        try:
            ipaddress.IPv6Address(text.rpartition(":")[0])
        except ValueError:
            return text
        raise argparse.ArgumentTypeError(f"an IPv6 address is written in brackets, as [::1]:{AGENT_PORT}; got {text!r}")
    return text


def add_ends(parser: argparse.ArgumentParser, target_help: str) -> None:
    """SRC, DST, and how another host is reached."""
    parser.add_argument("source", metavar="SRC", help="directory that is read, and never written")
    parser.add_argument("target", metavar="DST", type=destination, help=f"{target_help}; or HOST:PORT of a `serve`")
    parser.add_argument(
        "--keys", metavar="DIR", help="for HOST:PORT: tls.crt, tls.key, ca.crt of this side (made by `keys`)"
    )
    add_pair(parser)


def add_pair(parser: argparse.ArgumentParser) -> None:
    """Which mirror it is, of several."""
    parser.add_argument(
        "--pair",
        type=pair_name,
        default="",
        metavar="NAME",
        help="of mirrors that must not be confused: both sides say the same, and so do their certificates",
    )


def add_terms(parser: argparse.ArgumentParser) -> None:
    """What the side that is written allows."""
    parser.add_argument("--adopt", action="store_true", help="DST may hold anything: it is made equal to SRC")
    parser.add_argument(
        "--max-delete-percent",
        type=_percent,
        metavar="N",
        help="stop before more than N %% of the entries of the last full mirror are deleted (default 50; from 10 "
        "entries up; 100: never stop)",
    )
    parser.add_argument("--confirm", metavar="TOKEN", help="let through the one hold that named this token")
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="do not wait until all is on DST's disk (after a power cut the next run sends again what may be lost)",
    )


def add_keep(parser: argparse.ArgumentParser) -> None:
    """What is kept only where it is asked for."""
    parser.add_argument("--atimes", action="store_true", help="keep the access times of files too")
    parser.add_argument(
        "--selinux", action="store_true", help="keep SELinux labels (security.selinux) too, where DST takes them"
    )


def terms_of(args: argparse.Namespace) -> Terms:
    """What the command line says. `BadInput` when it is for the other side to say."""
    percent = 50 if args.max_delete_percent is None else args.max_delete_percent
    if isinstance(getattr(args, "target", None), Address) and (
        args.adopt or args.confirm is not None or args.max_delete_percent is not None
    ):
        raise BadInput(
            "--adopt, --max-delete-percent and --confirm are for the side that is written to say",
            reason=COMMAND_LINE,
            hint=f"Give them to the `storagemirror serve` at {args.target}.",
        )
    keep = KeepOrder(access_times=getattr(args, "atimes", False), selinux=getattr(args, "selinux", False))
    return Terms(args.adopt, percent, args.confirm, not args.no_sync, args.pair, keep=keep)


def _percent(text: str) -> int:
    value = int(text)
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"expected 0 to 100, got {text}")
    return value


# -- the two ends


@contextmanager
def opened(
    source: SourceVolume,
    target: str | Address,
    terms: Terms,
    observer: Observer,
    *,
    keys: str | None = None,
    look: bool = False,
) -> Iterator[SourceSession]:
    """A session with the target, let in; it is closed in good order at the end, and what went wrong in the writing
    process is raised. `look`: nothing is written there. Raises as `SourceSession.handshake`, and `BadInput` for what
    the command line cannot mean."""
    said = hello(pair_uid(terms.pair), VOLUME, FIRST_EPOCH, 1, source.identity, look=look, terms=terms.under)
    with interruptible():
        if isinstance(target, Address):
            tls = checked_keys(keys, Role.SOURCE, terms.pair)
            session = _met(
                target, tls, terms, lambda stream: SourceSession(source, stream, said, observer, keep=terms.keep)
            )
            try:
                yield session
            finally:
                session.close()
            return
        refuse_nested(source, target)
        connection, child = _start(target, terms)
        session = SourceSession(source, SocketStream(connection), said, observer, keep=terms.keep)
        try:
            session.handshake()
            yield session
        finally:
            session.close()
            _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) != 0:
            raise VolumeError("the process that writes DST ended with an error", reason="TargetFailing")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does: with a goodbye."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make_target(path: str) -> None:
    """The directory that is written, where it is not there yet; never what leads to it."""
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    except OSError as e:
        raise VolumeError(f"cannot make the directory {path}: {e.strerror}", reason="TargetNotWritable") from e


def refuse_nested(source: SourceVolume, target: str) -> None:
    """One within the other: the copy would copy itself."""
    root = os.fstat(source.tree.root)
    here, there = os.path.realpath(os.fsdecode(source.tree.path)), os.path.realpath(target)
    try:
        found = os.stat(there)
    except OSError as e:
        raise VolumeError(f"cannot open the directory {target}: {e.strerror}") from e
    if (root.st_dev, root.st_ino) == (found.st_dev, found.st_ino):
        raise BadInput(f"expected two directories, got {here} twice")
    for inner, outer in ((here, there), (there, here)):
        if os.path.commonpath((inner, outer)) == outer:
            raise BadInput(f"expected two directories apart from each other, but {inner} is in {outer}")


# -- a child of ours


def _start(target: str, terms: Terms) -> tuple[socket.socket, int]:
    ours, theirs = socket.socketpair()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        ours.close()
        _write(target, terms, theirs)
    theirs.close()
    return ours, child


def _write(target: str, terms: Terms, connection: socket.socket) -> None:
    """The writing process; does not return. What goes wrong here the reading process hears over the wire."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the reader ends the session, we finish in order
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    status = 0
    try:
        # Only the child that writes needs them: a mirror to another host begins without.
        from storagemirror.fs.target import TargetVolume
        from storagemirror.sync.target import TargetSession

        with TargetVolume.open(target) as volume:
            stream = SocketStream(connection)
            TargetSession(volume, stream, terms.expectation(), SilentObserver(), sync_at_end=terms.sync).serve()
    except StorageMirrorError:
        status = 1
    except Exception as e:
        print(f"storagemirror: the writing process failed: {e!r}", file=sys.stderr)
        status = 1
    finally:
        os._exit(status)


# -- another host


def checked_keys(directory: str | None, role: Role, pair: str) -> Tls:
    """The certificate of this side, judged as the other side will. Raises `BadInput` and `Refused`."""
    if directory is None:
        raise BadInput(
            "expected --keys DIR: both sides prove who they are",
            reason=COMMAND_LINE,
            hint="`storagemirror keys OUT_DIR` makes them, once for both sides.",
        )
    tls = Tls(directory)
    try:
        tls.check(peer_name(role, VOLUME, pair_uid(pair)))
    except Refused as e:
        if e.reason == "WrongPeer":
            raise BadInput(
                f"the certificate in {directory} is not that of this side: {e.message}",
                reason="CertificateUnusable",
                hint="`keys` makes one directory for each side (source, target); --pair is the same for all.",
            ) from e
        e.hint = "`storagemirror keys OUT_DIR`, in the directory where it made the CA, makes new ones."
        raise
    except BadInput as e:
        e.hint = "`storagemirror keys OUT_DIR` makes them, once for both sides."
        raise
    return tls


def _met(there: Address, tls: Tls, terms: Terms, session_on: Callable[[SocketStream], SourceSession]) -> SourceSession:
    """A session with a `serve`. One that is still busy with a source that has died is asked again for a while."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        session = session_on(dial(there, tls, terms.pair))
        try:
            session.handshake()
        except Passing as e:
            session.close()
            if e.reason == "TargetBusy" and time.monotonic() < deadline:
                time.sleep(0.5)
                continue
            raise _explained(there, e) from e
        except BaseException:
            session.close()
            raise
        return session


def dial(there: Address, tls: Tls, pair: str) -> SocketStream:
    """A connection to the `serve` at that address. Raises `Disconnected`, `Refused` and `BadInput`."""
    try:
        raw = socket.create_connection((there.host, there.port), timeout=CONNECT_SECONDS)
    except socket.gaierror as e:
        raise BadInput(f"no address is known of the host {there.host!r}: {e.strerror}", reason="NoSuchHost") from e
    except OSError as e:
        raise Disconnected(
            f"nobody can be reached at {there}: {e.strerror or e}",
            reason="NoServer",
            hint=f"Is `storagemirror serve DIR --listen HOST:{there.port}` running there, and may we connect to it?",
        ) from e
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        return SocketStream(tls.connect(raw, peer_name(Role.TARGET, VOLUME, pair_uid(pair))))
    except (Refused, Disconnected) as e:
        raw.close()
        raise _explained(there, e) from e


def _explained(there: Address, error: StorageMirrorError) -> StorageMirrorError:
    """What a handshake that failed means to somebody at a command line."""
    if error.reason == "PeerNotTrusted":
        error.hint = "Both sides' certificates are made by one `storagemirror keys`; compare the clocks of the hosts."
    elif error.reason == "WrongPeer":
        error.hint = "Do both sides use the same --pair, and the keys that were made with it?"
    elif isinstance(error, Disconnected):
        cause = error.__cause__
        if isinstance(cause, ssl.SSLError) and "ALERT" in (cause.reason or "").upper():
            return Refused(
                f"{there} does not take our certificate: {(cause.reason or '').replace('_', ' ').lower()}",
                reason="CertificateNotTrusted",
                hint="Both sides' certificates are made by one `storagemirror keys`; compare the clocks of the hosts.",
            )
        error.hint = f"The `serve` at {there} tells why it lets nobody in; or it is no `serve`."
    return error
