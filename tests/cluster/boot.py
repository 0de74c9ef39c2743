"""What a node is told when it boots: written by the machine, read by the node's first process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class BootVolume:
    """A volume of the node: where it belongs, and the block device, or None for a bare directory."""

    path: str
    fs: str
    device: str | None


@dataclass(frozen=True)
class Boot:
    """A node's name, address, programs and volumes; `images`: file names of archives its disk does not hold yet.

    `needed_paths` are directories of the machine that the node's processes read (interpreter, programs, state).
    """

    name: str
    ip: str
    hyperkube: str
    volumes: tuple[BootVolume, ...]
    images: tuple[str, ...]
    needed_paths: tuple[str, ...]


def format_boot(boot: Boot) -> str:
    """As JSON."""
    return json.dumps(asdict(boot), indent=2)


def parse_boot(text: str) -> Boot:
    """The inverse of `format_boot`."""
    raw = json.loads(text)
    return Boot(
        name=raw["name"],
        ip=raw["ip"],
        hyperkube=raw["hyperkube"],
        volumes=tuple(BootVolume(**volume) for volume in raw["volumes"]),
        images=tuple(raw["images"]),
        needed_paths=tuple(raw["needed_paths"]),
    )
