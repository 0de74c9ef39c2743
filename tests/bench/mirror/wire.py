"""What crosses the network: the kernel counts the packets to and from one port of loopback.

The network is one of our own (`room.enter`): all that runs in it sees no other. Counted are the bytes of IP packets,
headers included, of the one hop that lies between two hosts in real life; the hops of rsync to its own stunnel do not
count.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.bench.mirror.room import run

_TABLE = "storagemirror_bench"
_LISTEN = "0A"
"""State of a listening socket in /proc/net/tcp."""


def set_up(port: int) -> None:
    """Loopback up, and counters for `port`."""
    run(["ip", "link", "set", "lo", "up"])
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
    run(["nft", "-f", "-"], said=rules)


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
    listed = json.loads(run(["nft", "-j", "list", "counters", "table", "inet", _TABLE]))["nftables"]
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
