"""Bad luck on order: power cuts, pulled cables, slow and lossy links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.command import run, wait_for
from tests.cluster.delay import QUEUE
from tests.cluster.errors import BadName, ClusterError, Unsupported
from tests.cluster.layout import CONTROL_PLANE, Layout, node_number
from tests.cluster.network import Lan, enter, port
from tests.cluster.node import Node
from tests.cluster.service import Services, own_module
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


_BACK = ("-j", "NFQUEUE", "--queue-num", str(QUEUE), "--queue-bypass")
_DELAYED = (("PREROUTING", "-i", "eth0", *_BACK), ("POSTROUTING", "-o", "eth0", *_BACK))
"""What comes and goes through a machine's cable waits for the process of tests.cluster.delay."""


class Faults:
    """Breaks one cluster, and mends it."""

    def __init__(self, layout: Layout, lan: Lan, volumes: Volumes, services: Services) -> None:
        self._layout = layout
        self._lan = lan
        self._volumes = volumes
        self._services = services

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
        """Make a link slow or lossy; an all-zero `how` makes it good again. It is written down first, so that `up`
        finds and mends it."""
        how.check()
        mark = self._layout.slow(_checked(who))
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        self._set_rate(who, how.rate)
        self._set_loss(who, how.loss)
        self._set_delay(who, how.delay)
        if how == Slowness():
            mark.unlink()

    def slowed(self) -> frozenset[str]:
        """The links that are not good."""
        return frozenset(mark.name for mark in self._layout.slow("cp").parent.glob("*"))

    def _set_rate(self, who: str, rate: str) -> None:
        for netns, device in (("lan", port(who)), (who, "eth0")):
            handle = self._layout.netns(netns)
            run(*enter(handle, "tc", "qdisc", "del", "dev", device, "root"), check=False)
            if rate:
                bucket = ["root", "tbf", "rate", rate, "burst", "32kb", "latency", "200ms"]
                run(*enter(handle, "tc", "qdisc", "add", "dev", device, *bucket))

    def _set_loss(self, who: str, loss: float) -> None:
        done = run(*enter(self._layout.netns("lan"), "nft", "-f", "-"), stdin=loss_rules(who, loss), check=False)
        if done.returncode != 0:
            raise ClusterError(f"the loss on {who} could not be set: {done.stderr.strip()}")

    def _set_delay(self, who: str, seconds: float) -> None:
        """Where the process that holds the packets is not there, they go on at once (--queue-bypass)."""
        service, handle = f"delay-{who}", self._layout.netns(who)
        for rule in _DELAYED:
            run(*enter(handle, "iptables", "-w", "-t", "mangle", "-D", *rule), check=False)
        self._services.stop(service)
        if not seconds:
            return
        self._services.start(service, own_module("tests.cluster.delay", str(seconds)), network=who)
        try:
            wait_for("the process that delays packets", lambda: self._queue_taken(handle), 5, every=0.05)
            for rule in _DELAYED:
                run(*enter(handle, "iptables", "-w", "-t", "mangle", "-A", *rule))
        except ClusterError as e:
            self._set_delay(who, 0)
            said = self._services.log_tail(service, 300)
            raise Unsupported(f"links cannot be delayed here: {e.message} {said}", hint="use --rate and --loss") from e

    def _queue_taken(self, handle: Path) -> bool:
        listed = run(*enter(handle, "cat", "/proc/self/net/netfilter/nfnetlink_queue")).stdout
        return any(line.split()[0] == str(QUEUE) for line in listed.splitlines())


def _checked(who: str) -> str:
    if who != CONTROL_PLANE:
        node_number(who)
    return who
