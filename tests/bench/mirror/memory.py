"""The most memory that the two agents of a volume have while they mirror it: real agents, with all that they keep.

The tests' own API server stands in the operator's place. An agent keeps more than a mirror by hand: its watch of every
directory. So it is the agents that the bars are about.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from storagemirror.contract import Phase, Role
from tests.bench.mirror.datasets import make_d1, make_d2
from tests.bench.mirror.processes import Failed, high_water
from tests.bench.mirror.results import Residence
from tests.support.agents import AgentPair
from tests.support.smallapi import SmallApi

LIMIT = 150_000_000
"""Bytes: with D1, and with a file of any size."""
_SECONDS = 1800.0


def measure(base: Path, scale: float) -> list[Residence]:
    """Of D1, and of one file of 1 and of 4 GiB (at full scale). `Failed` when a mirror does not come to its end."""
    found = [of_agents(base, "D1", lambda root: make_d1(root, scale), LIMIT)]
    for gibibytes in (1, 4):
        share = scale * gibibytes / 4
        found.append(of_agents(base, f"one file of {4 * share:g} GiB", lambda root, s=share: make_d2(root, s), LIMIT))  # type: ignore[misc]
    return found


def of_agents(base: Path, what: str, make: Callable[[Path], None], limit: int) -> Residence:
    """Mirror a volume that `make` fills, until it is replicating and both are proved equal."""
    here = base / "memory"
    here.mkdir()
    api = SmallApi(here)
    pair = AgentPair(here, "shop", lambda role: api)
    try:
        make(pair.source.volume)
        pair.start()
        try:
            pair.until(Phase.REPLICATING, _SECONDS)
        except AssertionError as e:
            raise Failed(f"{what}: {e}") from e
        peaks = {agent.role: high_water(agent.running().pid) for agent in (pair.source, pair.target)}
        if not pair.equal():
            raise Failed(f"{what}: the agents left differences")
        found = Residence(what, peaks[Role.SOURCE], peaks[Role.TARGET], limit)
        told = f"source agent {found.source / 1e6:.0f} MB, target agent {found.target / 1e6:.0f} MB"
        print(f"memory with {what}: {told}", file=sys.stderr, flush=True)
        return found
    finally:
        pair.close()
        api.stop()
        shutil.rmtree(here, ignore_errors=True)
