"""The tools that are timed, each at its best fair setting; their command lines are printed with the table.

All of them do the same work: owner, mode, times, hard links, ACLs and extended attributes, deletions, no compression
(VolSync's passes as VolSync has them). stunnel is set up as VolSync's movers do it (a pre-shared key, TLS 1.3, rsync
started by the server's stunnel: one hop less than a daemon behind it), but logs nothing and does not wait to fill
packets (TCP_NODELAY).
"""

from __future__ import annotations

import secrets
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.bench.mirror.processes import Command, Plan

CROSSING_PORT = 8000
"""Between the hosts: what crosses it is counted."""
_LOCAL_PORT = 9000
_ALL = ("-aHAX", "--delete")

_RSYNCD = """\
address = 127.0.0.1
use chroot = false
numeric ids = true
reverse lookup = false
read only = false
uid = 0
gid = *
max verbosity = 0
[data]
path = {target}
"""
_STUNNEL = """\
foreground = yes
debug = 4
syslog = no
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[rsync]
"""
_STUNNEL_SERVER = """\
client = no
ciphers = kPSK
PSKsecrets = {secret}
sslVersionMin = TLSv1.3
accept = 127.0.0.1:{port}
exec = /usr/bin/rsync
execargs = rsync --server --daemon --config={config} .
"""
_STUNNEL_CLIENT = """\
client = yes
ciphers = PSK
PSKsecrets = {secret}
accept = 127.0.0.1:{local}
connect = 127.0.0.1:{port}
"""


class Tool(Protocol):
    """A way to make one directory equal to another."""

    @property
    def name(self) -> str:
        """In the table."""
        ...

    def plan(self, source: Path, target: Path, scratch: Path) -> Plan:
        """What to run; configuration goes into `scratch`."""
        ...


@dataclass(frozen=True)
class Ours:
    """`storagemirror mirror` to `storagemirror serve`, over TLS."""

    name: str = "storagemirror"

    def plan(self, source: Path, target: Path, scratch: Path) -> Plan:
        """See `Tool`. `--no-sync`, since the peers do not sync either: that is the second column of the table."""
        program, keys = str(Path(sys.executable).parent / "storagemirror"), scratch / "keys"
        if not keys.exists():
            subprocess.run([program, "keys", str(keys)], check=True, stdout=subprocess.DEVNULL)
        there = f"127.0.0.1:{CROSSING_PORT}"
        serve = (
            program,
            "serve",
            str(target),
            "--listen",
            there,
            "--keys",
            str(keys / "target"),
            "--once",
            "--no-sync",
        )
        mirror = (program, "mirror", str(source), there, "--keys", str(keys / "source"), "--no-sync", "--quiet")
        return Plan((Command("serve", serve, CROSSING_PORT, ends=True),), (Command("mirror", mirror),))


@dataclass(frozen=True)
class RsyncDaemon:
    """rsync to an rsync daemon, nothing encrypted."""

    name: str = "rsync daemon"
    options: tuple[str, ...] = _ALL

    def plan(self, source: Path, target: Path, scratch: Path) -> Plan:
        """See `Tool`."""
        config = _rsyncd(target, scratch)
        daemon = ("rsync", "--daemon", "--no-detach", f"--config={config}", f"--port={CROSSING_PORT}")
        client = ("rsync", *self.options, f"{source}/", f"rsync://127.0.0.1:{CROSSING_PORT}/data/")
        return Plan((Command("daemon", daemon, CROSSING_PORT),), (Command("rsync", client),))


@dataclass(frozen=True)
class RsyncStunnel:
    """rsync through stunnel on both sides."""

    name: str = "rsync + stunnel"
    options: tuple[str, ...] = _ALL

    def plan(self, source: Path, target: Path, scratch: Path) -> Plan:
        """See `Tool`."""
        client = ("rsync", *self.options, f"{source}/", f"rsync://127.0.0.1:{_LOCAL_PORT}/data/")
        return Plan(_stunnels(target, scratch), (Command("rsync", client),))


@dataclass(frozen=True)
class VolSync:
    """What VolSync's rsync-tls mover runs, without what else it costs (pods, waiting, a third rsync that says the end).

    Source: `mover-rsync-tls/client.sh` of backube/volsync.
    """

    name: str = "VolSync's passes"

    def plan(self, source: Path, target: Path, scratch: Path) -> Plan:
        """See `Tool`."""
        names = scratch / "filelist.txt"
        there = f"rsync://127.0.0.1:{_LOCAL_PORT}/data"
        told = ("--itemize-changes", "--info=stats2,misc2")
        left = "--exclude=lost+found"
        first = ("rsync", "-aAhHSxz", "-r", left, *told, f"--files-from={names}", f"{source}/", there)
        second = ("rsync", "-rx", left, "--ignore-existing", "--ignore-non-existing", "--delete", *told)
        find = f"find {shlex.quote(str(source))} -mindepth 1 -maxdepth 1 -printf '/%P\\n' > {shlex.quote(str(names))}"
        return Plan(
            _stunnels(target, scratch),
            (
                Command("find", ("sh", "-c", find)),
                Command("rsync", first),
                Command("rsync", (*second, f"{source}/", there)),
            ),
        )


def _rsyncd(target: Path, scratch: Path) -> Path:
    config = scratch / "rsyncd.conf"
    config.write_text(_RSYNCD.format(target=target))
    return config


def _stunnels(target: Path, scratch: Path) -> tuple[Command, ...]:
    config, secret = _rsyncd(target, scratch), scratch / "psk.txt"
    if not secret.exists():
        secret.touch(0o600)
        secret.write_text(f"volsync:{secrets.token_hex(64)}\n")
    server, client = scratch / "stunnel-server.conf", scratch / "stunnel-client.conf"
    server.write_text(_STUNNEL + _STUNNEL_SERVER.format(secret=secret, port=CROSSING_PORT, config=config))
    client.write_text(_STUNNEL + _STUNNEL_CLIENT.format(secret=secret, port=CROSSING_PORT, local=_LOCAL_PORT))
    return (
        Command("stunnel server", ("stunnel", str(server)), CROSSING_PORT),
        Command("stunnel client", ("stunnel", str(client)), _LOCAL_PORT),
    )
