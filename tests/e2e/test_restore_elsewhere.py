"""The live side is copied to a claim of its own, wherever it lives, and nothing live is touched."""

from __future__ import annotations

import os
import time
from functools import partial

import pytest

from tests.support import ledger_lines as ledger
from tests.support.case import Case, Claim, Json
from tests.support.failover_case import Stage
from tests.support.failover_fixtures import Stages
from tests.support.failover_objects import Shape
from tests.support.homeward import go_away
from tests.support.operations import ENDED

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

LONGEST_SILENCE = 2.0
"""Seconds between two answers that a busy machine may take without anybody being stopped."""


def prepare(case: Case, stage: Stage, name: str) -> Claim:
    """A volume that is there, on the third node, for a claim that is not."""
    return case.volume(name, stage.nodes.witness, size=stage.shape.size)


def destination(claim: Claim, size: str) -> Json:
    """spec.to: a claim made from a template, which binds to the volume that waits for it."""
    template = {"storageClassName": "local", "resources": {"requests": {"storage": size}}}
    return {"volumes": [{"name": "data", "claimName": claim.name, "claimTemplate": template}]}


def live(stage: Stage) -> Json:
    """All that must stay as it is."""
    status = stage.status()
    pods = [pod["metadata"]["uid"] for side in ("source", "target") for pod in stage.pods(side)]
    agents = [stage.case.agent(role, stage.name).get("metadata", {}).get("uid") for role in ("source", "target")]
    kept = {key: status.get(key) for key in ("activeSide", "epoch", "closedSides")}
    return {**kept, "pods": pods, "replicating": agents if kept["activeSide"] == "Source" else None}


def no_agents(case: Case, claim: Claim) -> bool:
    """Whether no pod mounts the claim any more."""
    volumes = [volume for pod in case.get("pods")["items"] for volume in pod["spec"]["volumes"]]
    return all((volume.get("persistentVolumeClaim") or {}).get("claimName") != claim.name for volume in volumes)


def test_a_copy_elsewhere_is_proven_and_nothing_live_is_touched(case: Case, stages: Stages) -> None:
    here, away = stages(here=Shape(), away=Shape())
    go_away(away)
    sides = {here.name: here.source, away.name: away.target}
    copies = {stage.name: prepare(case, stage, f"{stage.name}-copy") for stage in (here, away)}
    for stage in (here, away):
        (sides[stage.name].path() / "bulk").write_bytes(os.urandom(4 << 20))
        (sides[stage.name].path() / "directory").mkdir()
        (sides[stage.name].path() / "directory" / "file").write_text(stage.name)
    here.restore("taken", to=destination(here.target, here.shape.size))
    assert here.until_phase("taken", "Failed")["reason"] == "ClaimTaken"

    before, since = {stage.name: live(stage) for stage in (here, away)}, time.time()
    for stage in (here, away):
        stage.restore(f"{stage.name}-elsewhere", to=destination(copies[stage.name], stage.shape.size))
    for stage in (here, away):
        done = stage.until_phase(f"{stage.name}-elsewhere", "Completed", seconds=120)
        ended = time.time()
        assert stage.timeline(f"{stage.name}-elsewhere") == [
            "Validating",
            "Mirroring",
            "Proving",
            "Draining",
            "Completed",
        ]
        assert {proof["stage"] for proof in done["equality"]} == {"Live"}
        assert all(proof["digest"] for proof in done["equality"])
        copy = copies[stage.name]
        stage.until("its agents to go", partial(no_agents, case, copy))
        lines = ledger.lines(copy)
        ledger.without_gaps("copy", lines)
        source = ledger.lines(sides[stage.name])
        assert source[: len(lines)] == lines
        begun = [line for line in source if line.written < since]
        assert len(lines) > len(begun), "it does not hold what was written before it began"
        assert (copy.path() / "bulk").read_bytes() == (sides[stage.name].path() / "bulk").read_bytes()
        assert not case.differences(sides[stage.name], copy, "ledger")
        assert live(stage) == before[stage.name], "something that is live was touched"
        silence = stage.client().longest_silence(since)
        assert silence < LONGEST_SILENCE, f"nobody answered for {silence:.1f} s of {ended - since:.0f} s"
    here.ready()


def test_a_copy_elsewhere_gives_way_to_a_failover_and_is_made_afterwards(case: Case, stages: Stages) -> None:
    """Its claim waits for a volume while somebody needs the failover; the copy is then one of the new live side."""
    (stage,) = stages(Shape())
    copy = Claim("copy", "", case.cluster)
    stage.restore("elsewhere", to=destination(copy, stage.shape.size))
    stage.until("it to be begun", lambda: stage.operation().get("name") == "elsewhere")
    go_away(stage)
    assert stage.phase("elsewhere") not in ENDED
    copy = prepare(case, stage, copy.name)
    stage.until_phase("elsewhere", "Completed", seconds=120)
    lines = ledger.lines(copy)
    assert ledger.of("target", lines), "it is no copy of the side that is live now"
    assert stage.target_lines()[: len(lines)] == lines
    stage.until_answers("target")
