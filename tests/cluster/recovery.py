"""What `up` has to do, from what it finds: a pure decision, so that every half-made state can be tried."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum

from tests.cluster.layout import MAX_NODES, node_name

FORMAT = 1
DEFAULT_NODES = 3


class Phase(StrEnum):
    """How far `up` came."""

    MAKING = "Making"
    UP = "Up"


@dataclass(frozen=True)
class Record:
    """What is written down of a cluster: the format and the programs it was made with, its nodes, its port."""

    key: str
    nodes: int
    api_port: int
    phase: Phase
    format: int = FORMAT


def format_record(record: Record) -> str:
    """As JSON."""
    return json.dumps(asdict(record), indent=2) + "\n"


def parse_record(text: str) -> Record | None:
    """The record, or None for what is none of ours (half-written, or of another format)."""
    try:
        raw = json.loads(text)
        record = Record(**{**raw, "phase": Phase(raw["phase"])})
    except (ValueError, TypeError, KeyError):
        return None
    return record if record.format == FORMAT else None


@dataclass(frozen=True)
class Found:
    """What is there. `leftovers`: whether anything of this prefix exists (state, cgroups, processes, devices)."""

    record: Record | None
    leftovers: bool
    network: bool
    control_plane: bool
    running: frozenset[str]
    plugged: frozenset[str]
    slowed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Plan:
    """What to do, in this order. `why` tells a person; empty when nothing is to be done."""

    why: str
    tear_down: bool
    start_control_plane: bool
    nodes: int
    boot: tuple[str, ...]
    plug: tuple[str, ...]
    quicken: tuple[str, ...] = ()


def decide(found: Found, key: str, wanted: int | None) -> Plan:
    """Go on with a cluster that was once up with the same programs; make anything else from nothing.

    `wanted` nodes: a running cluster is enlarged, never made smaller. None means as many as there are, or 3.
    """
    record = found.record
    if record is None or record.phase is not Phase.UP or record.key != key or not found.network:
        nodes = wanted or (record.nodes if record else DEFAULT_NODES)
        why = "making a cluster" if not found.leftovers else _why_anew(record, key)
        return Plan(why, found.leftovers, True, nodes, tuple(names(nodes)), ())
    nodes = max(record.nodes, wanted or 0)
    boot = tuple(name for name in names(nodes) if name not in found.running)
    plug = tuple(who for who in ("cp", *names(record.nodes)) if who not in found.plugged and who not in boot)
    reasons = []
    if not found.control_plane:
        reasons.append("the control plane is not whole: starting it")
    if boot:
        reasons.append(f"booting {', '.join(boot)}")
    if plug:
        reasons.append(f"plugging in {', '.join(plug)}")
    if found.slowed:
        reasons.append(f"making the links of {', '.join(sorted(found.slowed))} good again")
    quicken = tuple(sorted(found.slowed))
    return Plan("; ".join(reasons), False, not found.control_plane, nodes, boot, plug, quicken)


def _why_anew(record: Record | None, key: str) -> str:
    if record is None or record.phase is not Phase.UP:
        return "removing what an unfinished run left, and making a cluster"
    if record.key != key:
        return "the cluster runs other programs than this checkout builds: making it anew"
    return "the machine was restarted since: making the cluster anew"


def names(count: int) -> list[str]:
    """n1 to nCOUNT, at most as many as there can be."""
    return [node_name(number) for number in range(1, min(count, MAX_NODES) + 1)]
