"""A network of its own, and what crosses it: the kernel counts the packets to and from one port of loopback.

All that runs in it sees no other network. Counted are the bytes of IP packets, headers included, of the one hop that
lies between two hosts in real life; the hops of rsync to its own stunnel do not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_INSIDE = "STORAGEMIRROR_BENCH_NETWORK"
_TABLE = "storagemirror_bench"
_LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""


class NoNetwork(Exception):
    """This machine does not give us a network of our own."""


def enter(words: Sequence[str]) -> None:
    """Start this program (`words`: its command line) again within a network of its own; returns when it runs there."""
    if os.environ.get(_INSIDE):
        return
    if os.geteuid() != 0:
        raise NoNetwork("expected to be root: the bench makes a network of its own")
    os.environ[_INSIDE] = "1"
    os.execvp("unshare", ["unshare", "--net", "--", *words])


def set_up(port: int) -> None:
    """Loopback up, and counters for `port`."""
    _run("ip", "link", "set", "lo", "up")
    rules = f"""
        table inet {_TABLE} {{
            counter there {{ }}
            counter back {{ }}
            chain out {{
                type filter hook output priority 0; policy accept;
                tcp dport {port} counter name there
                tcp sport {port} counter name back
            }}
        }}
    """
    _run("nft", "-f", "-", said=rules)


@dataclass(frozen=True)
class Crossed:
    """Bytes towards the target, and back."""

    there: int = 0
    back: int = 0

    def since(self, before: Crossed) -> Crossed:
        """What came since `before`."""
        return Crossed(self.there - before.there, self.back - before.back)


def crossed() -> Crossed:
    """Since `set_up`."""
    listed = json.loads(_run("nft", "-j", "list", "counters", "table", "inet", _TABLE))["nftables"]
    found = {row["counter"]["name"]: row["counter"]["bytes"] for row in listed if "counter" in row}
    return Crossed(found["there"], found["back"])


def listens(port: int) -> bool:
    """Does somebody listen there? Asked of the kernel: a connection would be a session for some of the servers."""
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _run(*command: str, said: str = "") -> str:
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, input=said)
    except FileNotFoundError as e:
        raise NoNetwork(f"expected the program {command[0]}: `make setup` installs it") from e
    except subprocess.CalledProcessError as e:
        raise NoNetwork(f"{' '.join(command)} failed: {e.stderr.strip()}") from e
    return done.stdout


def program() -> list[str]:
    """How this program was started, for `enter`."""
    return [sys.executable, *sys.orig_argv[1:]]
