"""Bad luck on order: power cuts, pulled cables, slow and lossy links."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.cluster.command import run
from tests.cluster.errors import BadName, ClusterError, Unsupported
from tests.cluster.layout import CONTROL_PLANE, Layout, node_number
from tests.cluster.network import Lan, enter, port
from tests.cluster.node import Node
from tests.cluster.volumes import Volumes

_RATE = re.compile(r"[1-9][0-9]*(kbit|mbit|gbit|kbps|mbps)")


@dataclass(frozen=True)
class Slowness:
    """How bad a link is made, in both directions. `rate` as tc writes it ("10mbit"); `loss` in parts of 1;
    `delay` in seconds each way."""

    rate: str = ""
    loss: float = 0.0
    delay: float = 0.0

    def check(self) -> None:
        """Raises BadName for what cannot be meant."""
        if self.rate and _RATE.fullmatch(self.rate) is None:
            raise BadName(f"expected a rate such as 10mbit or 500kbit, not {self.rate!r}")
        if not 0.0 <= self.loss < 1.0:
            raise BadName(f"expected a loss from 0 % to below 100 %, not {self.loss:.0%}")
        if self.delay < 0:
            raise BadName(f"expected a delay of 0 or more, not {self.delay} s")


def loss_rules(who: str, loss: float) -> str:
    """nftables rules in the bridge that drop this part of the packets from and to a port; replaces earlier ones."""
    table = f"table bridge loss-{who}"
    limit = round(loss * 10_000)
    rules = f"{table}\ndelete {table}\n"
    if limit == 0:
        return rules
    drop = f"numgen random mod 10000 < {limit} drop"
    return rules + (
        f"{table} {{\n"
        f"  chain through {{\n"
        f"    type filter hook forward priority 0;\n"
        f'    iifname "{port(who)}" {drop}\n'
        f'    oifname "{port(who)}" {drop}\n'
        f"  }}\n}}\n"
    )


class Faults:
    """Breaks one cluster, and mends it."""

    def __init__(self, layout: Layout, lan: Lan, volumes: Volumes) -> None:
        self._layout = layout
        self._lan = lan
        self._volumes = volumes

    def power_off(self, node: Node, others: list[Node]) -> None:
        """Take a node's power: nobody is told (the cable goes first), everything stops where it stands, and what its
        volumes had not synced is lost. The node's own disk (images, emptyDirs, kubelet) loses nothing."""
        node.require_pid1()
        self._lan.set_cable(node.name, plugged=False)
        node.freeze()
        self._volumes.lose_unsynced(node, others)
        node.kill()
        self._volumes.after_power_off(others)

    def cut(self, who: str) -> None:
        """Pull the cable of a node or of "cp"; the machine runs on."""
        self._lan.set_cable(_checked(who), plugged=False)

    def heal(self, who: str) -> None:
        """Plug the cable in again."""
        self._lan.set_cable(_checked(who), plugged=True)

    def slow(self, who: str, how: Slowness) -> None:
        """Make a link slow or lossy; an all-zero `how` makes it good again. Delay is refused with Unsupported: there
        is no netem on the machines this runs on."""
        how.check()
        _checked(who)
        if how.delay:
            raise Unsupported(
                "links cannot be delayed: the kernel has no netem, and no relay in user space is built",
                hint="use --rate and --loss",
            )
        for netns, device in (("lan", port(who)), (who, "eth0")):
            handle = self._layout.netns(netns)
            run(*enter(handle, "tc", "qdisc", "del", "dev", device, "root"), check=False)
            if how.rate:
                bucket = ["root", "tbf", "rate", how.rate, "burst", "32kb", "latency", "200ms"]
                run(*enter(handle, "tc", "qdisc", "add", "dev", device, *bucket))
        done = run(*enter(self._layout.netns("lan"), "nft", "-f", "-"), stdin=loss_rules(who, how.loss), check=False)
        if done.returncode != 0:
            raise ClusterError(f"the loss on {who} could not be set: {done.stderr.strip()}")


def _checked(who: str) -> str:
    if who != CONTROL_PLANE:
        node_number(who)
    return who
