"""The LAN: a bridge in a namespace of its own, that has no way out, and one cable to every machine.

The bridge's namespace answers "unreachable" to whatever is meant for the world outside, so that nothing leaves this
machine and nobody waits for an answer that cannot come.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path

from tests.cluster.command import run
from tests.cluster.layout import (
    CONTROL_PLANE,
    LAN_BITS,
    LAN_GATEWAY,
    MAX_NODES,
    Layout,
    node_ip,
    node_number,
    pod_subnet,
)


def enter(netns: Path, *words: str) -> list[str]:
    """The command that runs `words` in a network namespace."""
    return ["nsenter", f"--net={netns}", "--", *words]


def port(who: str) -> str:
    """The bridge's end of the cable to "cp" or a node."""
    return f"to-{who}"


class Lan:
    """The network of one cluster. Making what is there already is no error."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def make(self) -> None:
        """The bridge, and the control plane on it."""
        self._make_namespace("lan")
        if not self._has_link("lan", "br0"):
            self._in("lan", "ip", "link", "add", "br0", "type", "bridge")
        self._in("lan", "ip", "link", "set", "br0", "up")
        self._in("lan", "ip", "addr", "replace", f"{LAN_GATEWAY}/{LAN_BITS}", "dev", "br0")
        self._in("lan", "ip", "route", "replace", "unreachable", "default")
        self._in("lan", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0")
        for number in range(1, MAX_NODES + 1):  # the way back for the answer "unreachable"
            self._in("lan", "ip", "route", "replace", pod_subnet(number), "via", node_ip(number))
        self.connect(CONTROL_PLANE)

    def connect(self, who: str) -> None:
        """Give "cp" or a node its namespace, its cable and its routes to the pods of the others."""
        number = 0 if who == CONTROL_PLANE else node_number(who)
        self._make_namespace(who)
        if not self._has_link(who, "eth0"):
            with contextlib.suppress(subprocess.SubprocessError):
                self._in("lan", "ip", "link", "del", port(who), check=False)
            self._in("lan", "ip", "link", "add", port(who), "type", "veth", "peer", "name", "eth0", "netns",
                     str(self._layout.netns(who)))  # fmt: skip
        self._in("lan", "ip", "link", "set", port(who), "master", "br0", "up")
        self._in(who, "ip", "addr", "replace", f"{node_ip(number)}/{LAN_BITS}", "dev", "eth0")
        self._in(who, "ip", "link", "set", "eth0", "up")
        self._in(who, "ip", "route", "replace", "default", "via", LAN_GATEWAY)
        self._in(who, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        for other in range(1, MAX_NODES + 1):
            if other != number:
                self._in(who, "ip", "route", "replace", pod_subnet(other), "via", node_ip(other))

    def set_cable(self, who: str, *, plugged: bool) -> None:
        """Pull or plug the cable of "cp" or a node."""
        self._in("lan", "ip", "link", "set", port(who), "up" if plugged else "down")

    def cable_plugged(self, who: str) -> bool:
        """Whether the cable is in (False too where there is none)."""
        shown = self._in("lan", "ip", "-json", "link", "show", port(who), check=False)
        return shown.returncode == 0 and "UP" in json.loads(shown.stdout)[0]["flags"]

    def reset_node(self, name: str) -> None:
        """Remove what a node's software left in its namespace (pod cables, bridges, rules), as a power cut does."""
        for link in self._links(name):
            if link not in ("lo", "eth0"):
                self._in(name, "ip", "link", "del", link, check=False)
        self._in(name, "nft", "flush", "ruleset", check=False)
        self._in(name, "conntrack", "-F", check=False)

    def _make_namespace(self, who: str) -> None:
        """A handle in the state directory, not in /run/netns: nothing is left outside of it, and prefixes cannot
        meet. A handle whose mount is gone (a machine that was restarted) is made again."""
        handle = self._layout.netns(who)
        handle.parent.mkdir(parents=True, exist_ok=True)
        if not handle.exists():
            handle.touch()
        if not os.path.ismount(handle):
            run("unshare", f"--net={handle}", "ip", "link", "set", "lo", "up")

    def _has_link(self, who: str, link: str) -> bool:
        return link in self._links(who)

    def _links(self, who: str) -> list[str]:
        shown = json.loads(self._in(who, "ip", "-json", "link", "show").stdout)
        return [str(link["ifname"]) for link in shown]

    def _in(self, who: str, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run(*enter(self._layout.netns(who), *words), check=check)
