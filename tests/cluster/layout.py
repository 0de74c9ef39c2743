"""Where everything of one cluster is: names, addresses and paths, all derived from its prefix.

Two clusters have different prefixes. Their networks use the same addresses, each inside its own network namespaces;
what is global to the machine (cgroups, the state directory, the port on 127.0.0.1) carries the prefix or is chosen
free.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.errors import BadName

MAX_NODES = 16
LAN_GATEWAY = "10.89.0.1"
LAN_BITS = 24
CONTROL_PLANE_IP = "10.89.0.10"
API_PORT = 6443
API_SERVICE_IP = "10.96.0.1"
SERVICE_CIDR = "10.96.0.0/16"
POD_CIDR = "10.244.0.0/16"
DNS_DOMAIN = "cluster.local"
VOLUME_ROOT = "/var/lib/volumes"
CONTROL_PLANE = "cp"

_PREFIX = re.compile(r"[a-z][a-z0-9]{0,9}")
_NODE = re.compile(r"n([1-9][0-9]?)")
_VOLUME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,40}[a-z0-9])?")
_SIZE = re.compile(r"([1-9][0-9]*)(K|M|G|Ki|Mi|Gi)?")
_UNITS = {None: 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def node_number(name: str) -> int:
    """1 for "n1"; raises BadName for what is no node's name."""
    found = _NODE.fullmatch(name)
    if found is None or int(found.group(1)) > MAX_NODES:
        raise BadName(f"expected a node's name, n1 to n{MAX_NODES}, not {name!r}")
    return int(found.group(1))


def node_name(number: int) -> str:
    """ "n1" for 1."""
    return f"n{number}"


def node_ip(number: int) -> str:
    """The node's address on the LAN; 0 is the control plane."""
    return f"10.89.0.{10 + number}"


def pod_subnet(number: int) -> str:
    """The addresses of the pods on a node."""
    return f"10.244.{number}.0/24"


def check_volume_name(name: str) -> str:
    """The name itself, or BadName."""
    if _VOLUME.fullmatch(name) is None:
        raise BadName(f"expected a volume's name of up to 42 small letters, digits, '-' and '.', not {name!r}")
    return name


def parse_size(text: str) -> int:
    """Bytes in "512Mi", "2G" (binary units, as mkfs and truncate mean them) or plain bytes; raises BadName."""
    found = _SIZE.fullmatch(text)
    if found is None:
        raise BadName(f"expected a size such as 300Mi or 2Gi, not {text!r}")
    return int(found.group(1)) * _UNITS[found.group(2)]


def checkout() -> Path:
    """The root of the source tree this package lies in."""
    return Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Layout:
    """The names and paths of the cluster with this prefix. `base` holds the state of all prefixes."""

    prefix: str
    base: Path

    def __post_init__(self) -> None:
        if _PREFIX.fullmatch(self.prefix) is None:
            raise BadName(f"expected a prefix of 1 to 10 small letters and digits, not {self.prefix!r}")

    @staticmethod
    def of(prefix: str, environment: dict[str, str] | None = None) -> Layout:
        """The layout under STORAGEMIRROR_CLUSTER_STATE, by default /var/lib/storagemirror-cluster."""
        env = dict(os.environ) if environment is None else environment
        return Layout(prefix, Path(env.get("STORAGEMIRROR_CLUSTER_STATE") or "/var/lib/storagemirror-cluster"))

    @property
    def state(self) -> Path:
        """Everything the cluster keeps on disk."""
        return self.base / self.prefix

    @property
    def lock(self) -> Path:
        """Held by whoever changes the cluster; outside of the state, so that the state can be removed under it."""
        return self.base / f"{self.prefix}.lock"

    @property
    def record(self) -> Path:
        """What is written down of the cluster as a whole."""
        return self.state / "cluster.json"

    @property
    def kubeconfig(self) -> Path:
        """For people and tests on this machine."""
        return self.state / "kubeconfig"

    @property
    def pki(self) -> Path:
        """Certificates, keys and tokens."""
        return self.state / "pki"

    @property
    def images(self) -> Path:
        """Archives that every node imports once."""
        return self.state / "images"

    @property
    def logs(self) -> Path:
        """Logs of the control plane; a node's are in its own directory."""
        return self.state / "logs"

    def netns(self, who: str) -> Path:
        """The handle of a network namespace: "lan", "cp" or a node's name."""
        return self.state / "netns" / who

    def node(self, name: str) -> Path:
        """A node's directory: its disk and its logs."""
        return self.state / "nodes" / name

    def volume_record(self, name: str) -> Path:
        """What is known of a volume."""
        return self.state / "volumes" / f"{name}.json"

    def volume_image(self, name: str) -> Path:
        """The file behind a volume's loop device."""
        return self.state / "volumes" / f"{name}.img"

    def slow(self, who: str) -> Path:
        """There while the link of "cp" or a node is slow or lossy."""
        return self.state / "slow" / who

    def cgroup(self, who: str) -> str:
        """The name of the top cgroup of "cp" or of a node."""
        return f"{self.prefix}-{who}"

    def owns_cgroup(self, name: str) -> bool:
        """Whether a top cgroup of this name is this cluster's."""
        return re.fullmatch(rf"{re.escape(self.prefix)}-(cp|n[1-9][0-9]?)", name) is not None
